"""What makes shared models other ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from segue_sidecar.model_files import fingerprint

NAMES = ("ear/config.json", "ear/model.bin", "ear/model.safetensors")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "ear"
    folder.mkdir()
    for name in NAMES[:2]:
        (tmp_path / name).write_bytes(b"as it was")
        os.utime(tmp_path / name, ns=(1, 1))
    return tmp_path


def seen(root: Path, *, names: tuple[str, ...] = NAMES, build: str = "1", **told: object) -> str:
    return fingerprint(root, names, told=told, build=build)


def _longer(root: Path) -> None:
    (root / NAMES[0]).write_bytes(b"as it was not")
    os.utime(root / NAMES[0], ns=(1, 1))


@pytest.mark.parametrize(
    "change",
    [
        _longer,
        lambda root: os.utime(root / NAMES[1], ns=(2, 2)),
        lambda root: (root / NAMES[1]).unlink(),
        lambda root: (root / NAMES[2]).write_bytes(b"came"),
    ],
    ids=["size", "time", "gone", "came"],
)
def test_a_file_that_changed_shows(root: Path, change: Callable[[Path], object]) -> None:
    before = seen(root)
    assert seen(root) == before
    change(root)
    assert seen(root) != before


def test_what_nobody_reads_does_not_show(root: Path) -> None:
    before = seen(root)
    (root / "ear" / "README.md").write_text("new")
    assert seen(root, names=tuple(reversed(NAMES))) == before


def test_options_build_and_place_show(root: Path) -> None:
    assert len({seen(root), seen(root, dtype="bf16"), seen(root, build="2"), seen(root / "ear")}) == 4
