"""A directory as the kubelet mounts a ConfigMap: files behind a `..data` link that is replaced in one step."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path


class Mount:
    """One mounted volume."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count(1)

    def show(self, files: Mapping[str, str | bytes]) -> None:
        """Replace all files by these at once, as an update of the ConfigMap does."""
        link = self.directory / "..data"
        before = link.readlink() if link.is_symlink() else None
        content = self.directory / f"..2026_11_22_00_00_00.{next(self._numbers)}"
        content.mkdir()
        for name, text in files.items():
            (content / name).write_bytes(text.encode() if isinstance(text, str) else text)
        temporary = self.directory / "..data_tmp"
        temporary.symlink_to(content.name)
        temporary.rename(link)
        for name in files:
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(Path("..data") / name)
        for path in self.directory.iterdir():
            if not path.name.startswith("..") and path.name not in files:
                path.unlink()
        if before is not None:
            shutil.rmtree(self.directory / before)
