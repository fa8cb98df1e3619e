"""Reads OCI archives: what is in an image, without an engine and without unpacking more than is asked for.

Format: OCI image-spec 1.1, image-layout and layer (whiteouts).
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tools.images.errors import ImageError

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What the archive says of its one image.

    Attributes
    ----------
    name
        The reference under which it will be imported.
    digest
        Of its manifest.
    config
        As the image-spec's config: `config.User`, `config.Env`, `rootfs`, ...
    layers
        Digests, lowest first.
    compressed_bytes
        Of all layers, as they are in the archive.
    """

    name: str
    digest: str
    config: dict[str, Any]
    layers: tuple[str, ...]
    compressed_bytes: int


def read_contents(archive: Path) -> Contents:
    """Read index, manifest and config.

    Raises
    ------
    ImageError
        It is no OCI archive of one image.
    """
    with _opened(archive) as tar:
        index = _json(tar, "index.json")
        if len(index["manifests"]) != 1:
            raise ImageError(f"{archive} holds {len(index['manifests'])} images; one is expected")
        entry = index["manifests"][0]
        manifest = _json(tar, _blob(entry["digest"]))
        config = _json(tar, _blob(manifest["config"]["digest"]))
    annotations = entry.get("annotations", {})
    return Contents(
        name=next((annotations[key] for key in _NAME_ANNOTATIONS if key in annotations), ""),
        digest=entry["digest"],
        config=config,
        layers=tuple(layer["digest"] for layer in manifest["layers"]),
        compressed_bytes=sum(layer["size"] for layer in manifest["layers"]),
    )


def uncompressed_bytes(archive: Path) -> int:
    """Of all files in all layers together: what the image takes on a node's disk, about."""
    return sum(member.size for layer in _layers(archive) for member in layer)


def read_file(archive: Path, path: str) -> bytes:
    """One file of the image, as its uppermost layer has it.

    Raises
    ------
    ImageError
        No layer has it.
    """
    wanted, found = PurePosixPath(path.lstrip("/")), None
    for layer in _layers(archive):
        for member in layer:
            if PurePosixPath(member.name) == wanted and member.isfile():
                source = layer.extractfile(member)
                found = source.read() if source is not None else found
    if found is None:
        raise ImageError(f"{archive} has no file {path}")
    return found


def unpack(archive: Path, target: Path) -> None:
    """The root file system, below a folder that must be empty; owners and modes are kept where root runs this."""
    for layer in _layers(archive):
        for member in layer:
            place = target / member.name
            if place.name == _OPAQUE:
                _emptied(place.parent)
            elif place.name.startswith(_WHITEOUT):
                _removed(place.with_name(place.name.removeprefix(_WHITEOUT)))
            else:
                if not member.isdir() and (place.is_symlink() or place.exists()):
                    _removed(place)
                layer.extract(member, target, numeric_owner=True, filter="fully_trusted")


def _layers(archive: Path) -> Iterator[tarfile.TarFile]:
    """Each layer, lowest first, to be read from front to back."""
    digests = read_contents(archive).layers
    with _opened(archive) as tar:
        for digest in digests:
            with tarfile.open(fileobj=_member(tar, _blob(digest)), mode="r|*") as layer:
                yield layer


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive) as tar:
            yield tar
    except (tarfile.TarError, KeyError, FileNotFoundError) as error:
        raise ImageError(f"{archive} is no OCI archive: {error}") from error


def _json(tar: tarfile.TarFile, name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.load(_member(tar, name))
    return read


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    found = tar.extractfile(name)
    if found is None:
        raise KeyError(f"{name} is no file")
    return found


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _removed(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _emptied(folder: Path) -> None:
    for entry in folder.iterdir() if folder.is_dir() else ():
        _removed(entry)
