"""Which base is taken: the official one, a named one, or one by debootstrap; and when the network is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.images.engine import FakeEngine
from tools.images.bases import PYTHON, Bases
from tools.images.debian import root_key
from tools.images.errors import NoBase
from tools.images.store import Store

OFFICIAL = {PYTHON: "sha256:official"}


class Here:
    """One engine and one cache, with or without a root file system in it."""

    def __init__(self, folder: Path, engine: FakeEngine, *, root: bool) -> None:
        self.store, self.engine, self.said = Store(folder), engine, list[str]()
        if root:
            self.store.bases.mkdir(parents=True)
            (self.store.bases / f"{root_key()}.tar").write_bytes(b"a root file system")
            (self.store.bases / f"{root_key()}.sha256").write_text("0123456789abcdef")

    def bases(self, *, refresh: bool = False) -> Bases:
        return Bases(engine=self.engine, store=self.store, say=self.said.append, refresh=refresh)


def test_auto_pulls_the_official_image_once(tmp_path: Path) -> None:
    here = Here(tmp_path, FakeEngine(registry=OFFICIAL), root=False)
    first, second = (here.bases().find("auto") for _ in range(2))
    assert first == second
    assert (first.name, first.identity) == (PYTHON, "sha256:official")
    assert here.engine.pulled == [PYTHON]


def test_auto_takes_the_root_that_was_made_before_without_asking_the_network(tmp_path: Path) -> None:
    here = Here(tmp_path, FakeEngine(), root=True)
    base = here.bases().find("auto")
    assert base.name == f"localhost/segue-base:{root_key()}-0123456789ab"
    assert base.identity == "sha256:0123456789abcdef"
    assert here.engine.pulled == []
    assert base.name in here.engine.images


def test_the_official_image_goes_before_a_root_once_it_was_pulled(tmp_path: Path) -> None:
    here = Here(tmp_path, FakeEngine(images=dict(OFFICIAL)), root=True)
    assert here.bases().find("auto").name == PYTHON


def test_auto_says_why_it_makes_one_and_what_is_missing_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    here = Here(tmp_path, FakeEngine(), root=False)
    with pytest.raises(NoBase, match="apt-get install debootstrap"):
        here.bases().find("auto")
    assert any("no such host" in line and "debootstrap makes one instead" in line for line in here.said)


def test_a_named_base_is_never_replaced(tmp_path: Path) -> None:
    here = Here(tmp_path, FakeEngine(), root=True)
    with pytest.raises(NoBase, match=r"registry\.example\.com/python:1 cannot be pulled \(fake failed: no such host\)"):
        here.bases().find("registry.example.com/python:1")


def test_refresh_pulls_what_is_there_already(tmp_path: Path) -> None:
    engine = FakeEngine(registry={PYTHON: "sha256:newer"}, images=dict(OFFICIAL))
    assert Here(tmp_path, engine, root=False).bases(refresh=True).find("auto").identity == "sha256:newer"
