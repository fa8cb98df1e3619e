"""API keys: hashes in a file, bound to namespaces, read again when they change."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from segue_server.api.keys import KeyRing
from segue_server.config import InvalidConfig


def entry(key: str, namespace: str) -> str:
    return f"- {{sha256: {hashlib.sha256(key.encode()).hexdigest()}, namespace: {namespace}, name: {key}-name}}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    path.write_text(entry("a", "team-a") + entry("b", "team-b"))
    return path


def ring(path: Path | None) -> KeyRing:
    return KeyRing(path, default_namespace="default")


def test_without_a_file_everybody_is_in_the_default_namespace() -> None:
    caller = ring(None).caller(None)
    assert caller is not None
    assert caller.namespace == "default"


@pytest.mark.parametrize(("header", "namespace"), [("Bearer a", "team-a"), ("bearer b", "team-b")])
def test_a_key_leads_to_its_namespace(path: Path, header: str, namespace: str) -> None:
    caller = ring(path).caller(header)
    assert caller is not None
    assert caller.namespace == namespace


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer c", "Basic a", "a"])
def test_anything_else_leads_nowhere(path: Path, header: str | None) -> None:
    assert ring(path).caller(header) is None


def test_the_hash_itself_is_no_key(path: Path) -> None:
    assert ring(path).caller(f"Bearer {hashlib.sha256(b'a').hexdigest()}") is None


def test_a_changed_file_is_read_again(path: Path) -> None:
    keys = ring(path)
    path.write_text(entry("new", "team-c"))
    keys.reload_if_changed()
    assert keys.caller("Bearer a") is None
    assert keys.caller("Bearer new") is not None


def test_a_file_that_cannot_be_read_locks_nobody_out(path: Path) -> None:
    keys = ring(path)
    path.write_text("- {sha256: short}\n")
    keys.reload_if_changed()
    assert keys.caller("Bearer a") is not None
    path.unlink()
    keys.reload_if_changed()
    assert keys.caller("Bearer a") is not None


def test_a_bad_file_is_refused_at_the_start(path: Path) -> None:
    path.write_text("- {sha256: short, namespace: x}\n")
    with pytest.raises(InvalidConfig, match="sha256"):
        ring(path)
