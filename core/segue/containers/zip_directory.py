"""The table of contents of a torch zip file, believed only as far as the file bears it out.

`torch.save` writes plain stored entries, one after the other. Everything else that zip allows (compression, encryption,
entries over each other, names that climb out) is refused here, so that what follows may read any entry with a bounded
`pread`. GPT-SoVITS overwrites the two bytes 'PK' at the start of a file with a version marker, hence `markers`.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header) and 4.3.12 (central directory).
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final

from segue.errors import WeightsError

_LOCAL_HEADER: Final = struct.Struct("<4s5H3I2H")
_MAX_ENTRIES: Final = 100_000
_CHUNK_BYTES: Final = 4 << 20
_DIRECTORY_ERRORS: Final = (
    zipfile.BadZipFile,
    NotImplementedError,
    struct.error,
    ValueError,
    OverflowError,
    EOFError,
    OSError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One stored entry: where its bytes lie in the file."""

    name: str
    offset: int
    size: int
    crc32: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchZip:
    """An open torch zip file whose entries lie inside the file and apart from each other.

    Attributes
    ----------
    marker
        The first two bytes: `b"PK"`, or one of the version markers that were allowed.
    entries
        Name below the archive's one folder (`data.pkl`, `data/0`, `byteorder`) to place.
    """

    file: BufferedReader
    source: str
    marker: bytes
    entries: dict[str, Entry]
    _verified: set[str] = field(default_factory=set)

    def read(self, name: str) -> bytearray:
        """Read one entry and check its CRC.

        Raises
        ------
        WeightsError
            No such entry, a file that changed under us, or a CRC that does not hold.
        """
        entry = self._entry(name)
        data = self._bytes(entry, entry.offset, entry.size)
        self._hold_to(entry, zlib.crc32(data))
        return data

    def read_part(self, name: str, offset: int, size: int) -> bytearray:
        """Read `size` bytes from byte `offset` of an entry; the first time, the CRC of all of it is checked.

        Raises
        ------
        WeightsError
            See `read`.
        """
        entry = self._entry(name)
        if name not in self._verified:
            self._hold_to(entry, self._crc(entry))
            self._verified.add(name)
        return self._bytes(entry, entry.offset + offset, size)

    def _entry(self, name: str) -> Entry:
        entry = self.entries.get(name)
        if entry is None:
            raise WeightsError(f"{self.source}: no entry {name!r} in the archive; save it again with torch.save")
        return entry

    def _bytes(self, entry: Entry, offset: int, size: int) -> bytearray:
        data = bytearray(size)
        self.file.seek(offset)
        if self.file.readinto(data) != size:
            raise WeightsError(f"{self.source}: entry {entry.name!r} is cut; the file changed while it was read")
        return data

    def _crc(self, entry: Entry) -> int:
        found, done = 0, 0
        while done < entry.size:
            size = min(_CHUNK_BYTES, entry.size - done)
            found = zlib.crc32(self._bytes(entry, entry.offset + done, size), found)
            done += size
        return found

    def _hold_to(self, entry: Entry, crc32: int) -> None:
        if crc32 != entry.crc32:
            raise WeightsError(
                f"{self.source}: entry {entry.name!r} does not match its CRC; the file is corrupt, copy it again"
            )


def open_torch_zip(file: BufferedReader, *, source: str, markers: Collection[bytes]) -> TorchZip:
    """Check the outside of a torch zip file.

    Raises
    ------
    WeightsError
        Not a regular file, not a zip, or a zip that `torch.save` would not have written.
    """
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise WeightsError(f"{source}: not a regular file")
    marker = _marker(file, source, markers)
    infos = _directory(file, source)
    entries = [_entry(file, info, source=source, file_bytes=status.st_size, marker=marker) for info in infos]
    _refuse_overlaps(entries, source)
    return TorchZip(file=file, source=source, marker=marker, entries=_below_root(entries, source))


def _marker(file: BufferedReader, source: str, markers: Collection[bytes]) -> bytes:
    file.seek(0)
    head = file.read(4)
    if head[:2] in markers and head[2:4] == b"\x03\x04":
        return head[:2]
    if head[:1] == b"\x80":
        raise WeightsError(
            f"{source}: a bare pickle (torch's format before 1.6, or pickle.dump), which is not read because it is a "
            f"program; load it in a sandbox and write it again with torch.save"
        )
    known = ", ".join(sorted(repr(m) for m in markers))
    raise WeightsError(f"{source}: begins with {head!r}, but a torch zip file begins with {known} and 0x0304")


def _directory(file: BufferedReader, source: str) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except _DIRECTORY_ERRORS as error:
        raise WeightsError(
            f"{source}: its zip directory cannot be read ({error}); the file is cut or corrupt"
        ) from None
    if len(infos) > _MAX_ENTRIES:
        raise WeightsError(f"{source}: {len(infos)} entries; at most {_MAX_ENTRIES} are read")
    return infos


def _entry(file: BufferedReader, info: zipfile.ZipInfo, *, source: str, file_bytes: int, marker: bytes) -> Entry:
    where = f"{source}: entry {info.filename[:80]!r}"
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise WeightsError(f"{where} is compressed; torch.save stores plain bytes, so save it again with torch.save")
    if info.flag_bits & 0x1:
        raise WeightsError(f"{where} is encrypted")
    if info.header_offset < 0 or info.header_offset + _LOCAL_HEADER.size > file_bytes:
        raise WeightsError(f"{where} begins at byte {info.header_offset} of a file of {file_bytes}")
    file.seek(info.header_offset)
    fields = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    signature, name_bytes, extra_bytes = fields[0], fields[-2], fields[-1]
    if signature not in (b"PK\x03\x04", marker + b"\x03\x04") or (signature[:2] != b"PK" and info.header_offset):
        raise WeightsError(f"{where} has no local header")
    offset = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    if offset + info.file_size > file_bytes:
        raise WeightsError(f"{where} claims bytes {offset} to {offset + info.file_size} of a file of {file_bytes}")
    return Entry(name=info.filename, offset=offset, size=info.file_size, crc32=info.CRC)


def _refuse_overlaps(entries: list[Entry], source: str) -> None:
    ordered = sorted((entry for entry in entries if entry.size), key=lambda entry: entry.offset)
    for before, after in pairwise(ordered):
        if before.offset + before.size > after.offset:
            raise WeightsError(f"{source}: entries {before.name[:80]!r} and {after.name[:80]!r} lie over each other")


def _below_root(entries: list[Entry], source: str) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    roots: set[str] = set()
    for entry in entries:
        path = PurePosixPath(entry.name)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.name or "\0" in entry.name or len(path.parts) < 2:
            raise WeightsError(f"{source}: an entry is named {entry.name[:80]!r}")
        roots.add(path.parts[0])
        name = "/".join(path.parts[1:])
        if name in found:
            raise WeightsError(f"{source}: two entries are named {name[:80]!r}")
        found[name] = entry
    if len(roots) != 1:
        raise WeightsError(f"{source}: {len(roots)} top folders; torch.save writes one")
    if "constants.pkl" in found:
        raise WeightsError(f"{source}: a TorchScript archive, which holds code; save the state dict alone")
    return found
