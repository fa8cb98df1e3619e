"""Who speaks in a bench and what is asked of them: voices with several resident revisions, requests, the capacity.

Separate because all benches put the same load on the same voices, so that their figures compare.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bench.harness import BenchFailed, Commander, Stack, copy_weights, example_versions, revision_files
from segue_cli.measure.load_process import LoadProcess
from segue_cli.measure.renderings import Renderings, RevisionFiles
from segue_cli.measure.shots import ClosedLoop, LoadPlan, Mode, Shot, failures
from segue_cli.measure.texts import TEXTS
from segue_cli.measure.variants import numbered
from segue_cli.up.configs import NAMESPACE

VOICES = 3


@dataclass(slots=True)
class Cast:
    """The voices of a run and all their revisions."""

    revisions: dict[str, list[RevisionFiles]] = field(default_factory=dict)

    @property
    def renderings(self) -> Renderings:
        """What all of them should sound like."""
        return Renderings([_bare(files) for each in self.revisions.values() for files in each])


def make_cast(stack: Stack) -> Cast:
    """Three voices of two revisions each: a retuned one beside each example."""
    cast = Cast()
    for number, folder in enumerate(example_versions()[:VOICES]):
        voice = f"{NAMESPACE}/voice-{number}"
        weights = copy_weights(folder, stack.voices / f"voice-{number}" / "v1")
        other = numbered(weights, stack.voices / f"voice-{number}" / "v2", number=100 + number)
        cast.revisions[voice] = [revision_files(voice, weights), revision_files(voice, other)]
    return cast


def make_shots(voices: Sequence[str]) -> list[Shot]:
    """64 texts by each voice; every fourth streams, half of those as events; wav and pcm take turns."""
    shots = []
    for number, text in enumerate(text for text in TEXTS for _ in voices):
        mode = Mode.WHOLE if number % 4 else (Mode.SSE if number % 8 else Mode.CHUNKED)
        name = voices[number % len(voices)].partition("/")[2]
        shots.append(
            Shot(voice=name, text=text, seed=number, mode=mode, response_format="wav" if number % 2 else "pcm")
        )
    return shots


async def enter(commander: Commander, cast: Cast) -> None:
    """Have every revision resident and the first of each voice active."""
    for voice, revisions in cast.revisions.items():
        for files in revisions:
            await commander.ensure(voice, files)
        await commander.point(voice, revisions[0].revision)


async def find_capacity(stack: Stack, shots: Sequence[Shot], *, seconds: float, concurrency: int) -> float:
    """Requests per second under a closed loop, the first second left out."""
    plan = LoadPlan(
        host="127.0.0.1",
        port=stack.port,
        shots=tuple(shots),
        pace=ClosedLoop(concurrency=concurrency),
        max_s=seconds + 1,
    )
    with LoadProcess(plan, directory=stack.directory / "load", name="capacity") as load:
        records = await asyncio.to_thread(load.wait, seconds + 60)
    wrong = failures(records)
    if wrong or not records:
        raise BenchFailed(f"requests failed before anything was measured: {wrong or 'none was answered'}")
    begin_ns = records[0].start_ns + 1_000_000_000
    counted = [record for record in records if record.end_ns > begin_ns]
    return len(counted) / ((max(record.end_ns for record in counted) - begin_ns) / 1e9)


def _bare(files: RevisionFiles) -> RevisionFiles:
    """As requests name the voice: without its namespace."""
    return replace(files, voice=files.voice.partition("/")[2])
