"""Rows on their way through the measuring room: who is measured, how often, and what becomes of those who wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from tests.support.tone_engine import ToneSynthesizer, tone_part

from segue.engine import MeasuredReference, PartView, ReferenceRecording, SynthesisRequest, VoiceView
from segue.errors import OptionRejected
from segue_server.synthesis.failures import QueueFull
from segue_server.synthesis.measuring import ENTRY_OVERHEAD_BYTES, MOST_WAITING, MeasuringRoom
from segue_server.synthesis.rows import EngineRow, Priority, RowEnd, Samples


@dataclass
class Measured:
    """What `Ears` make."""

    name: str
    size_bytes: int = 1000


@dataclass
class Ears:
    """A synthesizer that measures when it is allowed to."""

    measured: list[str] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    fails: bool = False
    sample_rate: int = 24_000

    def reference_key(self, recordings: Sequence[ReferenceRecording]) -> str:
        return recordings[0].digest

    def measure(self, recordings: Sequence[ReferenceRecording]) -> MeasuredReference:
        assert self.go.wait(10)
        self.measured.append(recordings[0].name)
        if self.fails:
            raise OptionRejected("it is no audio", option="reference")
        return Measured(recordings[0].name)

    def admit(self, request: SynthesisRequest) -> None: ...
    def step(self, rows: Sequence[object]) -> None: ...
    def close(self) -> None: ...


class Nobody:
    """A sink that hears nothing."""

    def on_audio(self, samples: Samples) -> None: ...
    def on_end(self, end: RowEnd) -> None: ...
    def on_released(self) -> None: ...


def row(ears: object) -> EngineRow:
    return EngineRow(ears, SynthesisRequest(text="x"), group=1, priority=Priority.LIVE, sink=Nobody())  # type: ignore[arg-type]


def heard(name: str) -> tuple[ReferenceRecording, ...]:
    return (ReferenceRecording(name=name, audio=b"", digest=name),)


@dataclass
class Room:
    """A room, what came out of it, and how to wait for more."""

    room: MeasuringRoom
    out: list[EngineRow]
    came_out: asyncio.Event

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.out) < count:
                self.came_out.clear()
                await self.came_out.wait()


def in_room(scenario: Callable[[Room], Awaitable[None]], *, cache_bytes: int = 1 << 20) -> None:
    async def run() -> None:
        out: list[EngineRow] = []
        came_out = asyncio.Event()

        def submit(row: EngineRow) -> None:
            out.append(row)
            came_out.set()

        with ThreadPoolExecutor(1) as executor:
            await scenario(
                Room(MeasuringRoom(submit=submit, executor=executor, cache_bytes=cache_bytes), out, came_out)
            )

    asyncio.run(run())


def test_a_row_without_recordings_goes_straight_on() -> None:
    async def scenario(place: Room) -> None:
        plain = row(Ears())
        place.room.submit(plain, ())
        assert place.out == [plain]
        assert plain.request.reference is None

    in_room(scenario)


def test_rows_with_the_same_recordings_wait_for_one_measurement_and_later_ones_for_none() -> None:
    async def scenario(place: Room) -> None:
        ears = Ears()
        first, second, third = row(ears), row(ears), row(ears)
        place.room.submit(first, heard("calm"))
        place.room.submit(second, heard("calm"))
        assert place.out == []
        ears.go.set()
        await place.until(2)
        place.room.submit(third, heard("calm"))
        assert place.out == [first, second, third]
        assert ears.measured == ["calm"]
        assert first.request.reference is second.request.reference is third.request.reference is not None

    in_room(scenario)


def test_what_cannot_be_measured_is_told_to_each_row_and_tried_again() -> None:
    async def scenario(place: Room) -> None:
        ears = Ears(fails=True)
        ears.go.set()
        rows = [row(ears), row(ears)]
        for each in rows:
            place.room.submit(each, heard("noise"))
        await place.until(2)
        assert [str(each.refusal) for each in rows] == ["it is no audio"] * 2
        assert rows[0].refusal is not None
        assert rows[0].refusal.__traceback__ is None, "its frames would keep weights mapped"
        ears.fails = False
        again = row(ears)
        place.room.submit(again, heard("noise"))
        await place.until(3)
        assert again.refusal is None

    in_room(scenario)


def test_what_nobody_waits_for_any_more_is_not_measured_and_its_rows_leave() -> None:
    async def scenario(place: Room) -> None:
        ears = Ears()
        busy, left, staying = row(ears), row(ears), row(ears)
        place.room.submit(busy, heard("a"))
        place.room.submit(left, heard("b"))
        place.room.submit(staying, heard("c"))
        left.cancelled = True
        ears.go.set()
        await place.until(3)
        assert ears.measured == ["a", "c"]
        assert place.out == [busy, left, staying]
        assert left.request.reference is None

    in_room(scenario)


def test_a_row_that_was_cancelled_leaves_only_when_the_measurement_that_uses_its_revision_is_over() -> None:
    """Its pin keeps the weights mapped that are being listened with."""

    async def scenario(place: Room) -> None:
        ears = Ears()
        only = row(ears)
        place.room.submit(only, heard("a"))
        only.cancelled = True
        await asyncio.sleep(0)
        assert place.out == []
        ears.go.set()
        await place.until(1)

    in_room(scenario)


def test_voices_that_take_no_reference_refuse_it() -> None:
    class Deaf:
        sample_rate = 24_000

    async def scenario(place: Room) -> None:
        plain = row(Deaf())
        place.room.submit(plain, heard("a"))
        assert place.out == [plain]
        assert isinstance(plain.refusal, OptionRejected)
        assert plain.refusal.option == "reference"

    in_room(scenario)


def test_only_so_many_wait() -> None:
    async def scenario(place: Room) -> None:
        ears = Ears()
        for each in range(MOST_WAITING):
            place.room.expect_room()
            place.room.submit(row(ears), heard(str(each)))
        with pytest.raises(QueueFull):
            place.room.expect_room()
        ears.go.set()
        await place.until(MOST_WAITING)
        place.room.expect_room()

    in_room(scenario)


def test_the_least_recently_used_makes_room() -> None:
    async def scenario(place: Room) -> None:
        ears = Ears()
        ears.go.set()
        for name in ("a", "b", "a", "c", "a", "b"):
            before = len(place.out)
            place.room.submit(row(ears), heard(name))
            await place.until(before + 1)
        assert ears.measured == ["a", "b", "c", "b"]
        assert place.room.kept_bytes == 2 * (1000 + ENTRY_OVERHEAD_BYTES)

    in_room(scenario, cache_bytes=2 * (1000 + ENTRY_OVERHEAD_BYTES))


def test_the_tone_engine_measures() -> None:
    part = tone_part(440.0)
    voice = ToneSynthesizer(VoiceView(parts={"tone": PartView(tensors=part.tensors, meta=part.meta)}))
    one = ReferenceRecording(name="a", audio=b"600", digest="a")
    two = ReferenceRecording(name="b", audio=b"700", digest="b")
    assert voice.measure([one, two]).hz == 650
