"""The fetching child: brings files into the cache, and vouches for their digests, sizes and signature.

A file is kept under its sha256, so it is fetched once for all voices and revisions, and a moved source changes
nothing. What is in the cache is hashed again before it is used. A download that was cut goes on where it stopped.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from segue.errors import DigestMismatch, FetchError, SegueError, SignatureRejected
from segue_sidecar.children import hub
from segue_sidecar.children.channel import Channel, JobError
from segue_sidecar.children.http_source import Interrupted, open_http
from segue_sidecar.sources import Allowed, local_path, require_allowed, sibling

_STEP_BYTES = 1 << 20
_ATTEMPTS = 4
_SMALL_BYTES = 1 << 20
_EXTRAS = {"s3": "s3", "gs": "gcs", "hf": "hf"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One file to have."""

    name: str
    uri: str
    sha256: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the files may cost; `silence_s` is how long a source may send nothing."""

    file_bytes: int
    cache_bytes: int
    keep: frozenset[str]
    silence_s: float = 30.0


class Source(Protocol):
    """An open file somewhere: see `http_source.Body`."""

    @property
    def offset(self) -> int: ...
    @property
    def total_bytes(self) -> int | None: ...
    def read(self, size: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Stream:
    """A local file or an object of a store."""

    offset: int
    total_bytes: int | None
    file: Any

    def read(self, size: int) -> bytes:
        data: bytes = self.file.read(size)
        return data


def run(job: Mapping[str, Any], fds: list[int], channel: Channel) -> dict[str, Any]:
    """Have every file of the job in the cache.

    Returns
    -------
    dict
        `{"files": {name: {"path", "size"}}, "signedBy": key id or None}`; for a job with a `hub`, see `hub.run`.
    """
    for fd in fds:
        os.close(fd)
    if "hub" in job:
        return hub.run(job, channel)
    allowed = Allowed(prefixes=tuple(job["prefixes"]), private_addresses=job["privateAddresses"])
    wanted = [Wanted(**entry) for entry in job["files"]]
    bounds = Bounds(
        file_bytes=job["fileBytes"],
        cache_bytes=job["cacheBytes"],
        keep=frozenset(job["keep"]),
        silence_s=job["silenceS"],
    )
    cache = Path(job["cache"])
    found: dict[str, dict[str, Any]] = {}
    for file in wanted:
        try:
            path = have(file, cache=cache, allowed=allowed, bounds=bounds, channel=channel)
        except OSError as error:
            raise _disk_error(file, cache, error) from error
        found[file.name] = {"path": str(path), "size": path.stat().st_size}
    signed_by = _check_signature(job["signature"], wanted, found, allowed, bounds) if job["signature"] else None
    return {"files": found, "signedBy": signed_by}


def have(file: Wanted, *, cache: Path, allowed: Allowed, bounds: Bounds, channel: Channel) -> Path:
    """The cached file with the right digest, fetched where it is not there.

    Raises
    ------
    ForbiddenSource, FetchError, DigestMismatch
        See `segue.errors`.
    JobError
        FileTooLarge.
    """
    kept, partial = cache / "files" / file.sha256, cache / "partial" / file.sha256
    require_allowed(file.uri, allowed)
    for folder in (kept.parent, partial.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if kept.exists():
        if _digest(kept, file, channel) == file.sha256:
            os.utime(kept)
            return kept
        kept.unlink()
    _make_room(kept.parent, needed_bytes=file.size_bytes or 0, bounds=bounds, own=file.sha256)
    with partial.open("a+b") as target:
        fcntl.flock(target, fcntl.LOCK_EX)
        _download(file, target.fileno(), allowed=allowed, bounds=bounds, channel=channel)
        partial.replace(kept)
    return kept


def _download(file: Wanted, target: int, *, allowed: Allowed, bounds: Bounds, channel: Channel) -> None:
    """Fill `target`; broken connections are taken up again, a wrong digest after a resumed one once from zero."""
    resumed = os.fstat(target).st_size > 0
    for attempt in range(_ATTEMPTS):
        try:
            digest = _stream(file, target, allowed=allowed, bounds=bounds, channel=channel)
        except JobError:
            os.ftruncate(target, 0)
            raise
        except Interrupted:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.25 * 2**attempt)
            continue
        if digest == file.sha256:
            return
        size = os.fstat(target).st_size
        os.ftruncate(target, 0)
        if not resumed:
            raise DigestMismatch(
                f"{file.name}: {file.uri} has sha256 {digest} ({size} bytes), but {file.sha256} was promised: "
                "the file changed, or the digest in the VoiceModel is wrong"
            )
        resumed = False
    raise FetchError(f"{file.uri}: gave up after {_ATTEMPTS} tries")


def _stream(file: Wanted, target: int, *, allowed: Allowed, bounds: Bounds, channel: Channel) -> str:
    """One try: the sha256 of all that lies in `target` then."""
    have_bytes = os.fstat(target).st_size
    with open_source(file.uri, allowed=allowed, offset=have_bytes, silence_s=bounds.silence_s) as source:
        if source.offset != have_bytes:
            os.ftruncate(target, source.offset)
        hasher = _hash_head(target, source.offset)
        done = source.offset
        promised = file.size_bytes if file.size_bytes is not None else source.total_bytes
        _require_size(file, source.total_bytes or 0, bounds)
        if file.size_bytes is not None and source.total_bytes not in (None, file.size_bytes):
            raise JobError(
                "SizeMismatch", f"{file.name}: {file.uri} has {source.total_bytes} bytes, promised {file.size_bytes}"
            )
        while chunk := source.read(_STEP_BYTES):
            done += len(chunk)
            _require_size(file, done, bounds)
            _write(target, chunk)
            hasher.update(chunk)
            channel.progress("fetch", done=done, total=max(promised or 0, done))
    if promised is not None and done < promised:
        raise Interrupted(f"{file.name}: {file.uri} ended after {done} of {promised} bytes: the file is truncated")
    return str(hasher.hexdigest())


@contextmanager
def open_source(uri: str, *, allowed: Allowed, offset: int, silence_s: float) -> Iterator[Source]:
    """Open what a URI names, from byte `offset` on (or from 0, see `Source.offset`).

    Raises
    ------
    ForbiddenSource, FetchError
        See `segue.errors`.
    """
    parts = require_allowed(uri, allowed)
    match parts.scheme:
        case "http" | "https":
            with open_http(uri, allowed=allowed, offset=offset, timeout_s=silence_s) as body:
                yield body
        case "file":
            path = local_path(parts, allowed)
            try:
                file = path.open("rb")
            except OSError as error:
                raise FetchError(f"{uri}: cannot be read: {error.strerror}") from error
            with file:
                total = os.fstat(file.fileno()).st_size
                yield _Stream(_seek(file, offset, total), total, file)
        case _:
            with _open_object(uri, scheme=parts.scheme) as (file, total):
                yield _Stream(_seek(file, offset, total), total, file)


@contextmanager
def _open_object(uri: str, *, scheme: str) -> Iterator[tuple[Any, int]]:
    import fsspec  # here, because only object stores need it and it takes 0.1 s

    try:
        system, path = fsspec.core.url_to_fs(uri)
        total = int(system.info(path)["size"])
        file = system.open(path, "rb")
    except ImportError as error:
        raise FetchError(f"{uri}: reading {scheme}: needs `pip install segue[{_EXTRAS[scheme]}]`") from error
    except Exception as error:  # each store has an exception tree of its own
        raise FetchError(f"{uri}: cannot be read: {type(error).__name__}: {error}") from error
    with file:
        yield file, total


def _seek(file: Any, offset: int, total: int) -> int:
    start = offset if offset <= total else 0
    file.seek(start)
    return start


def _hash_head(target: int, length: int) -> Any:
    hasher = hashlib.sha256()
    for start in range(0, length, _STEP_BYTES):
        hasher.update(os.pread(target, min(_STEP_BYTES, length - start), start))
    return hasher


def _digest(path: Path, file: Wanted, channel: Channel) -> str:
    hasher, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as source:
        while chunk := source.read(_STEP_BYTES):
            hasher.update(chunk)
            done += len(chunk)
            channel.progress("verify", done=done, total=total)
    if file.size_bytes is not None and total != file.size_bytes:
        raise JobError("SizeMismatch", f"{file.name}: {file.uri} has {total} bytes, promised {file.size_bytes}")
    return hasher.hexdigest()


def _require_size(file: Wanted, size: int, bounds: Bounds) -> None:
    if size > bounds.file_bytes:
        raise JobError("FileTooLarge", f"{file.name}: {file.uri} has {size} bytes or more; allowed {bounds.file_bytes}")


def _write(target: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(target, view) :]


def _make_room(folder: Path, *, needed_bytes: int, bounds: Bounds, own: str) -> None:
    """Remove the files that were not used for longest, as far as the cache's budget asks for it."""
    files = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry) for entry in folder.iterdir())
    used = sum(size for _, size, _ in files)
    for _, size, entry in files:
        if used + needed_bytes <= bounds.cache_bytes:
            return
        if entry.name != own and entry.name not in bounds.keep:
            entry.unlink(missing_ok=True)
            used -= size


def _check_signature(
    demand: Mapping[str, Any],
    wanted: list[Wanted],
    found: Mapping[str, Mapping[str, Any]],
    allowed: Allowed,
    bounds: Bounds,
) -> str:
    """A trusted key vouches for every file; returns its id. Raises `SignatureRejected`, `DigestMismatch`."""
    from segue import signing  # here, because cryptography takes longer to import than most fetches need

    uri = demand["uri"] or sibling(wanted[0].uri, signing.MANIFEST_NAME)
    try:
        content = _read_small(uri, allowed=allowed, bounds=bounds)
        signatures = _read_small(f"{uri}.sig", allowed=allowed, bounds=bounds)
    except FetchError as error:
        raise SignatureRejected(f"a signature is required, but {error}") from error
    trusted = [signing.parse_public_key(text) for text in demand["trustedKeys"]]
    key_id = signing.verify_signature(content, signatures, trusted)
    manifest = signing.parse_manifest(content)
    for file in wanted:
        size = int(found[file.name]["size"])
        signing.require_listed(manifest, name=file.name, sha256=file.sha256, size_bytes=size)
    return key_id


def _read_small(uri: str, *, allowed: Allowed, bounds: Bounds) -> bytes:
    """A manifest or its signatures; one that is too large is cut, and refused by whoever reads it."""
    with open_source(uri, allowed=allowed, offset=0, silence_s=bounds.silence_s) as source:
        content = b""
        while len(content) <= _SMALL_BYTES and (chunk := source.read(_STEP_BYTES)):
            content += chunk
        return content


def _disk_error(file: Wanted, cache: Path, error: OSError) -> SegueError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = os.statvfs(cache)
        return JobError(
            "DiskFull",
            f"{file.name}: the cache {cache} has no room ({error.strerror}; {free.f_bavail * free.f_frsize} bytes "
            "free): make room or set another cacheDirectory",
        )
    return JobError("CacheUnusable", f"{file.name}: the cache {cache} cannot be used: {error}")
