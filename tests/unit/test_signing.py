"""Bundle manifests and their signatures."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from segue import signing
from segue.errors import DigestMismatch, SignatureRejected

MANIFEST = signing.Manifest(
    name="narrator-7",
    created=datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC),
    files={"timbre.npz": signing.BundleFile("ab" * 32, 10), "prosody.npz": signing.BundleFile("cd" * 32, 20)},
)


def test_a_manifest_survives_packing() -> None:
    assert signing.parse_manifest(signing.pack_manifest(MANIFEST)) == MANIFEST


def test_a_trusted_signature_holds_and_names_its_key() -> None:
    key = signing.generate_key()
    content = signing.pack_manifest(MANIFEST)
    trusted = signing.parse_public_key(key.public.to_text())
    assert signing.verify_signature(content, signing.sign(content, key), [trusted]) == key.public.key_id


def test_keys_survive_pem() -> None:
    key = signing.generate_key()
    assert signing.parse_private_key(key.to_pem()).public.key_id == key.public.key_id


def test_one_changed_byte_is_refused() -> None:
    key = signing.generate_key()
    content = signing.pack_manifest(MANIFEST)
    signature = signing.sign(content, key)
    with pytest.raises(SignatureRejected, match="no valid signature"):
        signing.verify_signature(content.replace(b"narrator", b"narratOr"), signature, [key.public])


def test_an_unknown_key_is_refused_by_name() -> None:
    key, other = signing.generate_key(), signing.generate_key()
    content = signing.pack_manifest(MANIFEST)
    with pytest.raises(SignatureRejected, match=f"signed by {key.public.key_id}; trusted are {other.public.key_id}"):
        signing.verify_signature(content, signing.sign(content, key), [other.public])


def test_a_second_signature_suffices() -> None:
    key, other = signing.generate_key(), signing.generate_key()
    content = signing.pack_manifest(MANIFEST)
    both = signing.sign(content, key) + signing.sign(content, other)
    assert signing.verify_signature(content, both, [other.public]) == other.public.key_id


@pytest.mark.parametrize("junk", [b"", b"ed25519", b"ed25519 aa bb", b"\xff\xfe", b"rsa x y\n"])
def test_junk_is_no_signature(junk: bytes) -> None:
    with pytest.raises(SignatureRejected):
        signing.verify_signature(b"x", junk, [signing.generate_key().public])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format":"other"}',
        signing.pack_manifest(MANIFEST).replace(b'"size": 10', b'"size": -1'),
        signing.pack_manifest(MANIFEST).replace(b"ab", b"AB"),
    ],
)
def test_a_broken_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(SignatureRejected, match=r"bundle\.json"):
        signing.parse_manifest(content)


def test_a_file_outside_the_manifest_is_refused() -> None:
    signing.require_listed(MANIFEST, name="weights.timbre", sha256="ab" * 32, size_bytes=10)
    with pytest.raises(DigestMismatch, match=r"weights\.timbre"):
        signing.require_listed(MANIFEST, name="weights.timbre", sha256="ab" * 32, size_bytes=11)


@pytest.mark.parametrize("text", ["", "ed25519:", "rsa:AAAA", "ed25519:!!!", "ed25519:AAAA"])
def test_a_public_key_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(SignatureRejected, match="ed25519:BASE64"):
        signing.parse_public_key(text)
