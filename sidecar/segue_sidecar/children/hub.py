"""Fetching an engine's shared models from a model hub, at one commit.

It speaks the one thing of a hub's API that is needed, `ENDPOINT/REPOSITORY/resolve/COMMIT/FILE` as huggingface.co and
its mirrors answer it, through the same guarded reader as every other download: the hub's own client would follow a
redirect to anywhere, and knows no limits.

A commit never changes, so a file that was fetched is not asked for again, and neither is one that is not in it: a pod
that restarts needs no hub. Engines name all files that may stand for each other; most are not there, which is no error.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote

from segue.errors import DigestMismatch, FetchError, SegueError
from segue_sidecar.children.channel import Channel, JobError
from segue_sidecar.children.http_source import Absent, Body, Interrupted, open_http
from segue_sidecar.sources import Allowed

_DEFAULT_ENDPOINT = "https://huggingface.co"
_STEP_BYTES = 1 << 20
_ATTEMPTS = 4
_NOT_HERE = "absent.json"
_SHA256 = re.compile(r'^"?([0-9a-f]{64})"?$')
_GIT = re.compile(r'^"?([0-9a-f]{40})"?$')


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hub:
    """Where to ask, and what may come."""

    base: str
    allowed: Allowed
    token: str | None
    file_bytes: int
    silence_s: float


def run(job: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Have every file of the job that the commit has in `folder`; then other commits of the repository are removed.

    Returns
    -------
    dict
        `{"absent": [files that the commit does not have]}`

    Raises
    ------
    FetchError
        No such repository or commit, none of the files in it, a hub that cannot be reached.
    DigestMismatch
        What came is not what the hub says of it.
    JobError
        FileTooLarge, ModelsTooLarge, DiskFull.
    """
    hub, folder = _hub(job), Path(job["folder"])
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        absent = _known_absent(folder)
        for name in job["files"]:
            target = folder / _safe(name)
            if not target.exists() and name not in absent and not _have(name, target, hub, channel):
                absent.add(name)
                (folder / _NOT_HERE).write_text(json.dumps(sorted(absent)))
            _require_room(folder, job)
        if absent >= set(job["files"]):
            (folder / _NOT_HERE).unlink()
            raise FetchError(f"{hub.base} has none of the files that the engine knows: {', '.join(job['files'])}")
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise JobError("DiskFull", f"{folder} has no room ({error.strerror}): make room, or more cache") from error
        raise JobError("CacheUnusable", f"{folder} cannot be used: {error}") from error
    return {"absent": sorted(absent)}


def _hub(job: Mapping[str, Any]) -> _Hub:
    named = job["hub"]
    endpoint = (named["endpoint"] or os.environ.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/")
    return _Hub(
        base=f"{endpoint}/{named['repository']}/resolve/{named['revision']}",
        allowed=Allowed(prefixes=(f"{endpoint}/", *job["redirects"]), private_addresses=job["privateAddresses"]),
        token=os.environ.get("HF_TOKEN"),
        file_bytes=job["fileBytes"],
        silence_s=job["silenceS"],
    )


def _have(name: str, target: Path, hub: _Hub, channel: Channel) -> bool:
    """Fetch one file; False: the commit does not have it. A broken connection is taken up where it broke."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    for attempt in range(_ATTEMPTS):
        try:
            with partial.open("a+b") as file:
                _stream(name, file, hub, channel)
        except Interrupted as error:
            broken = error
            time.sleep(0.25 * 2**attempt)
            continue
        except Absent as error:
            partial.unlink()
            if error.code in ("", "entrynotfound"):
                return False
            raise FetchError(f"{error}: are repository, commit and token (HF_TOKEN) right?") from error
        except SegueError:
            partial.unlink()  # a part that the hub takes no continuation of is of no use either
            raise
        partial.replace(target)
        return True
    raise Interrupted(f"{name}: {broken}: gave up after {_ATTEMPTS} tries") from broken


def _stream(name: str, target: BinaryIO, hub: _Hub, channel: Channel) -> None:
    """One try."""
    have_bytes = target.seek(0, os.SEEK_END)
    uri = f"{hub.base}/{quote(name)}"
    with open_http(uri, allowed=hub.allowed, offset=have_bytes, timeout_s=hub.silence_s, token=hub.token) as source:
        target.truncate(source.offset)
        promised = _promised_bytes(source)
        done = source.offset
        _require_small(name, promised or 0, hub)
        while chunk := source.read(_STEP_BYTES):
            done += len(chunk)
            _require_small(name, done, hub)
            target.write(chunk)
            channel.progress("fetch", done=done, total=max(promised or 0, done))
        target.flush()
        if promised is not None and done != promised:
            raise Interrupted(f"ended after {done} of {promised} bytes")
        _require_digest(name, target.fileno(), source)


def _promised_bytes(source: Body) -> int | None:
    linked = source.headers.get("x-linked-size", "")
    return int(linked) if linked.isdigit() else source.total_bytes


def _require_small(name: str, size: int, hub: _Hub) -> None:
    if size > hub.file_bytes:
        raise JobError("FileTooLarge", f"{name}: has {size} bytes or more; allowed {hub.file_bytes} (limits.fileBytes)")


def _require_digest(name: str, target: int, source: Body) -> None:
    """Large files are known by their sha256, the others by git's name for their content."""
    linked, etag = source.headers.get("x-linked-etag", ""), source.headers.get("etag", "")
    size = os.fstat(target).st_size
    hasher: Any
    if match := _SHA256.match(linked) or _SHA256.match(etag):
        hasher = hashlib.sha256()
    elif match := _GIT.match(linked) or _GIT.match(etag):
        hasher = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    else:
        return
    for start in range(0, size, _STEP_BYTES):
        hasher.update(os.pread(target, _STEP_BYTES, start))
    if hasher.hexdigest() != match[1]:
        raise DigestMismatch(f"{name}: came with digest {hasher.hexdigest()}, but the hub says {match[1]}")


def _require_room(folder: Path, job: Mapping[str, Any]) -> None:
    total = sum((folder / name).stat().st_size for name in job["files"] if (folder / name).exists())
    if total > job["totalBytes"]:
        raise JobError("ModelsTooLarge", f"the files have {total} bytes or more together; allowed {job['totalBytes']}")


def _known_absent(folder: Path) -> set[str]:
    try:
        return set(json.loads((folder / _NOT_HERE).read_text()))
    except (OSError, ValueError, TypeError):
        return set()


def _safe(name: str) -> str:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise FetchError(f"{name}: the engine names a file outside the repository")
    return name
