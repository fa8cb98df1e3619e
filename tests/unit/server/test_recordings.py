"""What a request may have opened, and what it may not, however it writes it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from segue.engine import ReferenceRecording
from segue_server.config import ReferenceRoot, References
from segue_server.synthesis import recordings
from segue_server.synthesis.failures import QueueFull, ReferenceRefused, ReferencesDisabled
from segue_server.synthesis.recordings import ReferenceAsk, Shelf

Taken = tuple[ReferenceRecording, ...]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A root with recordings, and something beside it that nobody may hear."""
    (tmp_path / "root" / "inner").mkdir(parents=True)
    (tmp_path / "root" / "calm.wav").write_bytes(b"calm")
    (tmp_path / "root" / "inner" / "angry one.wav").write_bytes(b"angry")
    (tmp_path / "secret.wav").write_bytes(b"secret")
    (tmp_path / "root-of-others").mkdir()
    (tmp_path / "root-of-others" / "x.wav").write_bytes(b"other")
    return tmp_path


def references(place: Path, **settings: Any) -> References:
    return References(**{"roots": (ReferenceRoot(path=place / "root"),), **settings})


def take(settings: References, *places: str, namespace: str = "default") -> Taken:
    """What a shelf hands out."""

    async def scenario(shelf: Shelf) -> Taken:
        return await shelf.take([ReferenceAsk(place=each) for each in places], namespace=namespace)

    return with_shelf(settings, scenario)


def with_shelf(settings: References, scenario: Callable[[Shelf], Awaitable[Taken]]) -> Taken:
    async def run() -> Taken:
        with ThreadPoolExecutor(1) as executor:
            return await scenario(Shelf(settings, executor=executor))

    return asyncio.run(run())


def test_a_file_beneath_a_root_is_read_however_it_is_named(place: Path) -> None:
    for name in (
        "calm.wav",
        "./calm.wav",
        str(place / "root" / "calm.wav"),
        f"file://{place}/root/calm.wav",
        f"file://localhost{place}/root/calm.wav",
    ):
        (found,) = take(references(place), name)
        assert (found.name, found.audio) == ("calm.wav", b"calm")
    (inner,) = take(references(place), f"file://{place}/root/inner/angry%20one.wav")
    assert inner.audio == b"angry"
    assert len(inner.digest) == 64


def test_links_within_a_root_are_followed_and_a_root_may_be_one(place: Path) -> None:
    (place / "root" / "link.wav").symlink_to("inner/angry one.wav")
    (place / "mounted").symlink_to("root")
    assert take(references(place), "link.wav")[0].audio == b"angry"
    through = References(roots=(ReferenceRoot(path=place / "mounted"),))
    for name in ("calm.wav", str(place / "mounted" / "calm.wav"), str(place / "root" / "calm.wav")):
        assert take(through, name)[0].audio == b"calm"


@pytest.mark.parametrize(
    "name",
    [
        "../secret.wav",
        "inner/../../secret.wav",
        "{place}/secret.wav",
        "{place}/root/../secret.wav",
        "{place}/root-of-others/x.wav",
        "file://{place}/root/%2e%2e/secret.wav",
        "out.wav",
        "outside/secret.wav",
        "circle.wav",
        "nothing.wav",
        "inner",
        "pipe",
        ".",
        "/",
        "",
        "calm.wav/more",
        "x\0y",
        "http://127.0.0.1/calm.wav",
        "file://elsewhere/calm.wav",
        "s3://bucket/calm.wav",
    ],
)
def test_nothing_else_is_opened(place: Path, name: str) -> None:
    (place / "root" / "out.wav").symlink_to(place / "secret.wav")
    (place / "root" / "outside").symlink_to(place)
    (place / "root" / "circle.wav").symlink_to("circle.wav")
    os.mkfifo(place / "root" / "pipe")
    with pytest.raises(ReferenceRefused) as refused:
        take(references(place), name.format(place=place))
    assert refused.value.field == "options.reference"


def test_a_place_outside_is_answered_like_one_that_does_not_exist(place: Path) -> None:
    told = []
    for name in (f"{place}/secret.wav", f"{place}/nothing.wav"):
        with pytest.raises(ReferenceRefused) as refused:
            take(references(place), name)
        told.append(str(refused.value).replace(name, "NAME"))
    assert told[0] == told[1]


@pytest.mark.parametrize("swapped", ["calm.wav", "inner"])
def test_a_name_that_becomes_a_link_after_it_was_resolved_is_not_followed(
    place: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment between looking and opening, made as long as it takes."""
    walk = recordings._walk
    target = place / "secret.wav" if swapped == "calm.wav" else place / "root-of-others"
    (place / "root" / "inner" / "x.wav").write_bytes(b"mine")

    def swap_then_walk(root: Path, parts: tuple[str, ...]) -> int:
        (place / "root" / swapped).rename(place / "moved")
        (place / "root" / swapped).symlink_to(target)
        return walk(root, parts)

    monkeypatch.setattr(recordings, "_walk", swap_then_walk)
    with pytest.raises(ReferenceRefused):
        take(references(place), "calm.wav" if swapped == "calm.wav" else "inner/x.wav")


def test_a_file_may_have_the_bytes_that_are_configured_and_no_more(place: Path) -> None:
    (place / "root" / "full.wav").write_bytes(b"x" * 1024)
    (place / "root" / "over.wav").write_bytes(b"x" * 1025)
    assert len(take(references(place, max_bytes=1024), "full.wav")[0].audio) == 1024
    with pytest.raises(ReferenceRefused, match="has 1025 bytes; a reference may have 1024"):
        take(references(place, max_bytes=1024), "over.wav")


def test_without_roots_the_answer_says_what_to_configure() -> None:
    with pytest.raises(ReferencesDisabled, match=r"references\.roots"):
        take(References(), "calm.wav")


def test_a_root_of_one_namespace_is_nobody_elses(place: Path) -> None:
    ours = References(roots=(ReferenceRoot(path=place / "root", namespace="ours"),))
    assert take(ours, "calm.wav", namespace="ours")[0].audio == b"calm"
    with pytest.raises(ReferencesDisabled):
        take(ours, "calm.wav", namespace="theirs")


def test_what_requests_hold_is_bounded_and_counts_until_they_let_go(place: Path) -> None:
    (place / "root" / "big.wav").write_bytes(b"x" * (700 << 10))
    settings = references(place, held_bytes=1 << 20)

    async def scenario(shelf: Shelf) -> Taken:
        ask = [ReferenceAsk(place="big.wav")]
        held = await shelf.take(ask, namespace="default")
        with pytest.raises(QueueFull):
            await shelf.take(ask, namespace="default")
        del held
        return await shelf.take(ask, namespace="default")

    assert len(with_shelf(settings, scenario)) == 1
