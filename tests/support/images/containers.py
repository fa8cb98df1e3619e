"""Containers of built images, by runc and nothing above it: a read-only root, the image's own user, no capabilities.

What Kubernetes' `restricted` profile takes away is taken away here too, so that an image that needs any of it fails.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.images.archives import read_contents, unpack

_LIMIT_S = 100
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount")
_TMP = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackedImage:
    """An image as a folder.

    Attributes
    ----------
    root
        Its root file system.
    config
        Of the image: `User`, `Env`, `Entrypoint`, `Cmd`, `Labels`.
    scratch
        For the bundles of its containers.
    """

    root: Path
    config: Mapping[str, Any]
    scratch: Path

    @classmethod
    def of(cls, archive: Path, folder: Path) -> UnpackedImage:
        """Unpack an archive below an empty folder."""
        root, scratch = folder / "root", folder / "bundles"
        for made in (root, scratch):
            made.mkdir(parents=True)
        unpack(archive, root)
        return cls(root=root, config=read_contents(archive).config["config"], scratch=scratch)

    @property
    def user(self) -> int:
        """Its user id, which is its group id as well."""
        user, _, group = str(self.config["User"]).partition(":")
        assert user == group
        return int(user)

    def run(self, *words: str) -> str:
        """What a command prints, which must succeed; the command is process 1."""
        with self.container(words) as container:
            printed, _ = container.process.communicate(timeout=_LIMIT_S)
            assert container.process.returncode == 0, printed
            return printed

    def python(self, program: str) -> str:
        """What a Python program prints."""
        return self.run("python", "-c", program)

    @contextmanager
    def container(self, words: Sequence[str], *, files: Path | None = None) -> Iterator[Container]:
        """A container of its own, with /tmp to write to, and a folder of this machine at /config."""
        name = f"segue-test-{uuid.uuid4().hex[:12]}"
        bundle = self.scratch / name
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(self._specification(words, files)), encoding="utf-8")
        state = ["runc", "--root", str(self.scratch / "state")]
        process = subprocess.Popen(
            [*state, "run", "--bundle", str(bundle), name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield Container(process=process, words=state, name=name)
        finally:
            subprocess.run([*state, "delete", "--force", name], capture_output=True, check=False)
            process.communicate(timeout=_LIMIT_S)

    def _specification(self, words: Sequence[str], files: Path | None) -> dict[str, Any]:
        """OCI runtime-spec 1.0."""
        config = {"destination": "/config", "type": "none", "source": str(files), "options": ["rbind", "ro"]}
        return {
            "ociVersion": "1.0.2",
            "root": {"path": str(self.root), "readonly": True},
            "process": {
                "args": [*words],
                "cwd": self.config.get("WorkingDir") or "/",
                "env": self.config["Env"],
                "user": {"uid": self.user, "gid": self.user},
                "noNewPrivileges": True,
                "capabilities": {},
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "mode=1777"]},
                _TMP,
                *([config] if files is not None else []),
            ],
            "linux": {"namespaces": [{"type": kind} for kind in _NAMESPACES]},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One that runs."""

    process: subprocess.Popen[str]
    words: Sequence[str]
    name: str

    def await_line(self, part: str) -> None:
        """Until it has printed a line with this in it."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            if part in line:
                return
        raise AssertionError(f"it ended without a line with {part!r}: {''.join(seen)}")

    def signal(self, name: str) -> None:
        """To process 1."""
        subprocess.run([*self.words, "kill", self.name, name], check=True, capture_output=True)
