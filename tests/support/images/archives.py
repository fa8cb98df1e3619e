"""OCI archives with a few files in them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Layer = Mapping[str, bytes | None]
"""Path to content; None makes a folder."""


def write_archive(target: Path, layers: Sequence[Layer], *, name: str, config: Mapping[str, Any] | None = None) -> None:
    """One image with these layers, lowest first."""
    blobs = [gzip.compress(_tar(layer), mtime=0) for layer in layers]
    whole = _json({"config": dict(config or {}), "rootfs": {"type": "layers"}})
    manifest = _json({"config": _descriptor(whole), "layers": [_descriptor(blob) for blob in blobs]})
    entry = {**_descriptor(manifest), "annotations": {"org.opencontainers.image.ref.name": name}}
    files = {"index.json": _json({"manifests": [entry]}), **{_path(blob): blob for blob in (*blobs, whole, manifest)}}
    target.write_bytes(_tar(files))


def _tar(files: Layer) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            member.mode = 0o755 if content is None else 0o644
            member.size = len(content or b"")
            tar.addfile(member, io.BytesIO(content or b""))
    return whole.getvalue()


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()


def _descriptor(blob: bytes) -> dict[str, Any]:
    return {"digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}


def _path(blob: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}"
