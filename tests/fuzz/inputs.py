"""How a string of bytes becomes a weight file: the first byte chooses a way, the rest says what is wrong with it.

Separate from what must hold (`rules`) so that a fuzzer and hypothesis make the same files. Damaging a whole file mostly
meets the checksums of the zip; the other ways damage what lies behind them, in archives that are right.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.gpt_sovits.files import WeightFile, small_sovits_file, small_t2s_file
from tests.unit.containers.pickles import PROTO, STOP, archive

MARKERS: Final = (b"PK", b"PK", b"05", b"06", b"00", b"01", b"02", b"03", b"04", b"07", b"\x80\x02")


@dataclass(frozen=True, slots=True)
class Half:
    """A right file, cut behind its storages so that any pickle can be put at its end."""

    path: Path
    name: str
    pickle: bytes
    whole: bytes

    @classmethod
    def of(cls, file: WeightFile, path: Path) -> Half:
        """Write a file and take it apart."""
        file.marker = b"PK"
        file.write(path)
        whole = path.read_bytes() if path.suffix == ".ckpt" else b""
        with zipfile.ZipFile(path) as read:
            contents = {name: read.read(name) for name in read.namelist()}
        pickle = contents.pop("archive/data.pkl")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
            for name, content in contents.items():
                target.writestr(name, content)
        return cls(path, path.name, pickle, whole)

    def with_pickle(self, pickle: bytes, marker: bytes) -> Path:
        """The file with this pickle; the next call takes it away again."""
        with self.path.open("r+b") as file:
            file.write(b"PK")
        with zipfile.ZipFile(self.path, "a", zipfile.ZIP_STORED) as target:
            _forget(target, "archive/data.pkl")
            target.writestr("archive/data.pkl", pickle)
        with self.path.open("r+b") as file:
            file.write(marker)
        return self.path


def _forget(target: zipfile.ZipFile, name: str) -> None:
    """Take the last entry out of the directory; the next one is written over it."""
    if name in target.NameToInfo:
        entry = target.NameToInfo.pop(name)
        target.filelist.remove(entry)
        target.start_dir = entry.header_offset


class Files:
    """Makes a file of each input, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._gpt = Half.of(small_t2s_file(), folder / "n.ckpt")
        self._sovits = Half.of(small_sovits_file(), folder / "n.pth")
        self._loose = folder / "loose.pth"
        self._ways: tuple[Callable[[bytes, bytes], Path], ...] = (
            self._damaged,
            self._bare_pickle,
            self._gpt_pickle,
            self._gpt_pickle,
            self._sovits_pickle,
        )

    @property
    def ways(self) -> int:
        """How many first bytes there are that mean something different."""
        return len(self._ways)

    def of(self, data: bytes) -> Path:
        """The file that these bytes stand for."""
        way, marker = (data[0], data[1]) if len(data) > 1 else (0, 0)
        return self._ways[way % len(self._ways)](data[2:], MARKERS[marker % len(MARKERS)])

    def _damaged(self, edits: bytes, marker: bytes) -> Path:
        content = edited(self._gpt.whole, edits)
        self._loose.write_bytes(content if marker == b"PK" else marker + content[2:])
        return self._loose

    def _bare_pickle(self, body: bytes, marker: bytes) -> Path:
        self._loose.write_bytes(marker + archive(PROTO + body + STOP, {"0": bytes(64), "1": bytes(64)})[2:])
        return self._loose

    def _gpt_pickle(self, edits: bytes, marker: bytes) -> Path:
        return self._gpt.with_pickle(edited(self._gpt.pickle, edits), b"PK" if marker.isdigit() else marker)

    def _sovits_pickle(self, edits: bytes, marker: bytes) -> Path:
        return self._sovits.with_pickle(edited(self._sovits.pickle, edits), marker)


def edited(content: bytes, edits: bytes) -> bytes:
    """Apply edits: three bytes of place, one of kind (overwrite, insert, delete), one of size, then the new bytes."""
    changed = bytearray(content)
    while len(edits) > 4:
        place = int.from_bytes(edits[:3], "little") % (len(changed) + 1)
        kind, size = edits[3] % 3, edits[4] % 33
        piece, edits = edits[5 : 5 + size], edits[5 + size :]
        end = (place + len(piece), place, place + size)[kind]
        changed[place:end] = piece if kind < 2 else b""
    return bytes(changed)
