"""Who vouches for a voice's files: a manifest of digests, signed with ed25519.

Separate and pure because the command line signs and the sidecar verifies. A bundle is a folder or prefix that holds
the files, `bundle.json` (which file has which sha256 and size) and `bundle.json.sig` (signatures over the exact bytes
of the manifest). Only digests are compared: a moved or renamed bundle stays valid.

`bundle.json.sig` is text, one signature a line: `ed25519 KEY-ID BASE64`. A key id is the first 16 hex digits of the
sha256 of the raw public key; public keys are written `ed25519:BASE64` in configuration.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from segue.errors import DigestMismatch, SignatureRejected

MANIFEST_NAME = "bundle.json"
SIGNATURE_NAME = "bundle.json.sig"
MAX_MANIFEST_BYTES = 1 << 20

_FORMAT = "segue.dev/bundle/v1"
_PREFIX = "ed25519"
_HEX64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BundleFile:
    """What a manifest says of one file."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Which files belong together. File names are relative, with `/`."""

    name: str
    created: datetime
    files: Mapping[str, BundleFile]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and what the public one is called."""

    private: Ed25519PrivateKey

    @property
    def public(self) -> VerifyingKey:
        """The other half."""
        return VerifyingKey(self.private.public_key())

    def to_pem(self) -> bytes:
        """PKCS#8, not encrypted: keep it in a file of mode 0600."""
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key."""

    public: Ed25519PublicKey

    @property
    def key_id(self) -> str:
        """First 16 hex digits of the sha256 of the raw key."""
        return hashlib.sha256(self.public.public_bytes_raw()).hexdigest()[:16]

    def to_text(self) -> str:
        """As written in configuration: `ed25519:BASE64`."""
        return f"{_PREFIX}:{base64.b64encode(self.public.public_bytes_raw()).decode()}"


def generate_key() -> SigningKey:
    """Make a new key."""
    return SigningKey(Ed25519PrivateKey.generate())


def parse_private_key(pem: bytes) -> SigningKey:
    """Read a PEM private key.

    Raises
    ------
    SignatureRejected
        Not an unencrypted ed25519 key.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise SignatureRejected(f"not a private key in PEM without password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureRejected(f"an ed25519 key is needed, not {type(key).__name__}")
    return SigningKey(key)


def parse_public_key(text: str) -> VerifyingKey:
    """Read `ed25519:BASE64`.

    Raises
    ------
    SignatureRejected
        Another form.
    """
    kind, _, encoded = text.strip().partition(":")
    try:
        raw = base64.b64decode(encoded, validate=True)
        if kind != _PREFIX:
            raise ValueError(f"unknown kind {kind[:20]!r}")
        return VerifyingKey(Ed25519PublicKey.from_public_bytes(raw))
    except (ValueError, binascii.Error) as error:
        raise SignatureRejected(f"a public key is written {_PREFIX}:BASE64, not {text[:80]!r} ({error})") from error


def pack_manifest(manifest: Manifest) -> bytes:
    """The bytes of `bundle.json`: canonical, so that the same files give the same bytes."""
    document = {
        "format": _FORMAT,
        "name": manifest.name,
        "created": manifest.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "files": {
            name: {"sha256": file.sha256, "size": file.size_bytes} for name, file in sorted(manifest.files.items())
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def parse_manifest(content: bytes) -> Manifest:
    """Read `bundle.json`.

    Raises
    ------
    SignatureRejected
        Too large, not JSON, or a field that does not hold.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise SignatureRejected(f"{MANIFEST_NAME} has {len(content)} bytes; at most {MAX_MANIFEST_BYTES} are read")
    try:
        document = json.loads(content)
        if document["format"] != _FORMAT:
            raise ValueError(f"format {str(document['format'])[:40]!r}; this build reads {_FORMAT}")
        created = datetime.strptime(document["created"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        files = {str(name): _bundle_file(str(name), entry) for name, entry in document["files"].items()}
        return Manifest(name=str(document["name"]), created=created, files=files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureRejected(f"{MANIFEST_NAME} cannot be read: {type(error).__name__}: {error}") from error


def sign(content: bytes, key: SigningKey) -> bytes:
    """One line of `bundle.json.sig` for exactly these bytes of `bundle.json`."""
    signature = base64.b64encode(key.private.sign(content)).decode()
    return f"{_PREFIX} {key.public.key_id} {signature}\n".encode()


def verify_signature(content: bytes, signatures: bytes, trusted: Iterable[VerifyingKey]) -> str:
    """Check that a trusted key signed exactly these bytes; returns its key id.

    Raises
    ------
    SignatureRejected
        No line of a trusted key holds; the message names the keys that signed and those that are trusted.
    """
    keys = {key.key_id: key for key in trusted}
    seen = []
    for line in signatures[:65_536].decode("ascii", errors="replace").splitlines():
        kind, _, rest = line.strip().partition(" ")
        key_id, _, encoded = rest.partition(" ")
        if kind != _PREFIX:
            continue
        seen.append(key_id[:16])
        if key_id in keys and _holds(keys[key_id], content, encoded):
            return key_id
    raise SignatureRejected(
        f"{MANIFEST_NAME} carries no valid signature of a trusted key: signed by {', '.join(seen) or 'nobody'}; "
        f"trusted are {', '.join(sorted(keys)) or 'none (configure trustedKeys of the sidecar)'}"
    )


def require_listed(manifest: Manifest, *, name: str, sha256: str, size_bytes: int) -> None:
    """Check that the manifest vouches for a file of this digest and size, under whatever name.

    Raises
    ------
    DigestMismatch
        No file of the manifest has this digest, or it has another size.
    """
    for file in manifest.files.values():
        if file.sha256 == sha256 and file.size_bytes == size_bytes:
            return
    raise DigestMismatch(
        f"{name} (sha256 {sha256}, {size_bytes} bytes) is not in the signed manifest of bundle {manifest.name!r}"
    )


def _bundle_file(name: str, entry: Any) -> BundleFile:
    sha256, size = entry["sha256"], entry["size"]
    if not isinstance(sha256, str) or not _HEX64.fullmatch(sha256):
        raise ValueError(f"file {name!r}: sha256 must be 64 lower-case hex digits")
    if type(size) is not int or size < 0:
        raise ValueError(f"file {name!r}: size must be a whole number")
    return BundleFile(sha256, size)


def _holds(key: VerifyingKey, content: bytes, encoded: str) -> bool:
    try:
        key.public.verify(base64.b64decode(encoded, validate=True), content)
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True
