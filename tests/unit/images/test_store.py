"""The cache of images: one build at a time, and no half-filled folder."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tools.images.store import Store, cache_root


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_root() == Path("/xdg/segue")
    monkeypatch.setenv("SEGUE_CACHE", "/own")
    assert cache_root() == Path("/own")


def test_a_folder_takes_its_place_when_it_is_full(tmp_path: Path) -> None:
    target = tmp_path / "built" / "server-1"
    with Store(tmp_path).filling(target) as folder:
        (folder / "image.tar").write_text("1")
        assert not target.exists()
    assert (target / "image.tar").read_text() == "1"


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "built" / "server-1"

    def fail() -> None:
        with Store(tmp_path).filling(target) as folder:
            (folder / "image.tar").write_text("1")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [*target.parent.iterdir()] == []


def test_a_second_build_waits_and_says_so(tmp_path: Path) -> None:
    store, said, entered = Store(tmp_path), list[str](), threading.Event()
    waiting = threading.Event()

    def second() -> None:
        def say(line: str) -> None:
            said.append(line)
            waiting.set()

        with store.alone(say):
            entered.set()

    with store.alone(said.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()
    assert said == ["waiting for another build, which has the cache"]
