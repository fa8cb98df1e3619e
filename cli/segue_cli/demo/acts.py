"""The chapters of the demo: each edits a YAML, sometimes kills somebody, and waits for what Segue makes of it.

Separate from the play, which sets the stage: a chapter here reads like what a person would do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from segue.model import Phase, Status
from segue.wire import RevisionPhase
from segue_cli.demo.material import NAMESPACE, STAR, Material, Version, weights_field
from segue_cli.demo.observer import Observer
from segue_cli.demo.reader import Reader
from segue_cli.demo.script import PARAGRAPH
from segue_cli.demo.story import Chapter, Clip, MarkKind, Outcome, Story
from segue_cli.demo.teller import Teller
from segue_cli.measure.audio import encode_wav
from segue_cli.measure.renderings import Renderings, RevisionFiles
from segue_cli.measure.running_up import RunningUp

OUTCOME_S = 100.0
POLL_S = 0.05
LONGEST_LINE = 200
CLIP_TEXT = "The harbour was quiet, and the last boat had gone."


@dataclass(slots=True, kw_only=True)
class Stage:
    """All that a chapter needs."""

    up: RunningUp
    story: Story
    teller: Teller
    observer: Observer
    material: Material
    renderings: Renderings


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A chapter before it is played."""

    name: str
    title: str
    voice: str
    expected: Outcome
    play: Callable[[Stage], Awaitable[None]]


async def play_act(stage: Stage, act: Act) -> Chapter:
    """Play one chapter and note its outcome."""
    chapter = Chapter(
        name=act.name, title=act.title, voice=act.voice, expected=act.expected, began_ns=time.monotonic_ns()
    )
    stage.story.chapters.append(chapter)
    stage.teller.chapter = chapter
    stage.teller.heading(f"{len(stage.story.chapters)}. {act.title}")
    try:
        async with asyncio.timeout(OUTCOME_S):
            await act.play(stage)
    except TimeoutError:
        chapter.outcome = Outcome.TIMED_OUT
        status = stage.up.status(f"{NAMESPACE}/{act.voice}")
        chapter.reason = f"after {OUTCOME_S:.0f} s it stood in {status.phase}: {status.reason} {status.message}"
        stage.teller.say(chapter.reason, MarkKind.BACK)
    chapter.ended_ns = time.monotonic_ns()
    stage.teller.chapter = None
    return chapter


# --- the chapters ---------------------------------------------------------------------------------------------------


async def good_update(stage: Stage) -> None:
    """The star gets its second version while a paragraph is being read."""
    host, port = stage.up.address
    reader = Reader(host=host, port=port, voice=STAR)
    flipped = asyncio.Event()
    reading = asyncio.create_task(reader.read(PARAGRAPH, flipped=flipped))
    try:
        stage.teller.say("a listener asks for a paragraph, sentence by sentence")
        target = await edit(stage, STAR, stage.material.good)
        await until(lambda: stage.observer.active(STAR) == target)
        flipped.set()
        await conclude(stage, STAR, target)
        stage.story.reading = await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    stage.story.reader_records.extend(reader.records)


async def wrong_speaker(stage: Stage) -> None:
    """Somebody mixes up two files: the narrator would speak with aria's voice."""
    target = await edit(stage, STAR, stage.material.wrong_speaker)
    await conclude(stage, STAR, target)
    _keep_clip(stage, STAR, target, title="The wrong speaker")


async def wrong_words(stage: Stage) -> None:
    """The right sound, the wrong phones."""
    target = await edit(stage, STAR, stage.material.wrong_words)
    await conclude(stage, STAR, target)
    _keep_clip(stage, STAR, target, title="The right voice, the wrong words")


async def corrupt_file(stage: Stage) -> None:
    """A file that was cut by an interrupted upload."""
    target = await edit(stage, STAR, stage.material.corrupt)
    await conclude(stage, STAR, target)


async def malicious_pickle(stage: Stage) -> None:
    """Weights whose pickle calls a function."""
    target = await edit(stage, STAR, stage.material.malicious)
    await conclude(stage, STAR, target)
    chapter = stage.story.chapters[-1]
    if stage.material.proof_of_execution.exists():
        chapter.outcome, chapter.reason = Outcome.TIMED_OUT, "the pickle's function was called"
    else:
        stage.teller.say("the function that the pickle asked for was never called")


async def fails_live(stage: Stage) -> None:
    """Passes every test sentence, and breaks on questions, which only listeners ask."""
    before = (stage.up.voices / f"{STAR}.yaml").read_text(encoding="utf-8")
    stage.teller.say("this one is perfect on statements and breaks on every question; no test sentence asks one")
    target = await edit(stage, STAR, stage.material.fails_live)
    await conclude(stage, STAR, target)
    await until(lambda: "fails-live" not in (stage.up.voices / f"{STAR}.yaml").read_text(encoding="utf-8"))
    after = (stage.up.voices / f"{STAR}.yaml").read_text(encoding="utf-8")
    same = "byte for byte as before" if after == before else "with the version before in it"
    stage.teller.say(f"the YAML is written back, {same}", MarkKind.BACK)


async def kill_sidecar(stage: Stage) -> None:
    """SIGKILL to the sidecar while it loads a version."""
    target = await edit(stage, "aria", stage.material.retuned["aria"])
    await until(lambda: stage.observer.phase("aria", target) in (RevisionPhase.PREPARING, RevisionPhase.PROVING))
    pid = stage.up.kill("sidecar")
    stage.teller.say(f"kill -9 {pid}: the sidecar dies in the middle of the preload", MarkKind.KILL)
    stage.teller.say("the workers go on with what they have mapped; a new sidecar adopts it and begins the load again")
    await conclude(stage, "aria", target)


async def kill_operator(stage: Stage) -> None:
    """SIGKILL to the operator while a part of the listeners hears the new version."""
    target = await edit(stage, "bert", stage.material.retuned["bert"])
    await until(lambda: stage.up.status(f"{NAMESPACE}/bert").phase is Phase.CANARY and target in stage.observer.heard)
    pid = stage.up.kill("operator")
    stage.teller.say(f"kill -9 {pid}: the operator dies in the middle of the rollout", MarkKind.KILL)
    await conclude(stage, "bert", target)


ACTS: tuple[Act, ...] = (
    Act(
        name="good-update",
        title="A good update: the narrator gets a livelier version",
        voice=STAR,
        expected=Outcome.PROMOTED,
        play=good_update,
    ),
    Act(
        name="wrong-speaker",
        title="Somebody mixed up two files: another speaker under the narrator's name",
        voice=STAR,
        expected=Outcome.REFUSED,
        play=wrong_speaker,
    ),
    Act(
        name="wrong-words",
        title="A broken training: the right voice says the wrong words",
        voice=STAR,
        expected=Outcome.REFUSED,
        play=wrong_words,
    ),
    Act(
        name="corrupt-file",
        title="An upload that was cut off",
        voice=STAR,
        expected=Outcome.REFUSED,
        play=corrupt_file,
    ),
    Act(
        name="malicious-pickle",
        title="Weights that want to run code",
        voice=STAR,
        expected=Outcome.REFUSED,
        play=malicious_pickle,
    ),
    Act(
        name="fails-live",
        title="An update that passes every test and fails on what listeners ask",
        voice=STAR,
        expected=Outcome.TAKEN_BACK,
        play=fails_live,
    ),
    Act(
        name="sidecar-killed",
        title="kill -9 of the sidecar in the middle of a preload",
        voice="aria",
        expected=Outcome.PROMOTED,
        play=kill_sidecar,
    ),
    Act(
        name="operator-killed",
        title="kill -9 of the operator in the middle of a rollout",
        voice="bert",
        expected=Outcome.PROMOTED,
        play=kill_operator,
    ),
)
QUICK = frozenset({"good-update", "wrong-speaker", "malicious-pickle", "fails-live"})


# --- what chapters are made of --------------------------------------------------------------------------------------


async def edit(stage: Stage, voice: str, version: Version) -> str:
    """Write the version into the voice's YAML; returns the revision that the operator makes of it."""
    key = f"{NAMESPACE}/{voice}"
    before = stage.up.status(key)
    seen = {before.target_revision, before.stable_revision, *(f.revision for f in before.failed_revisions)}
    stage.teller.say(f"the YAML of {voice} now names {version.label}", MarkKind.EDIT)
    await asyncio.to_thread(stage.up.edit, key, {"spec.weights": weights_field(version)})
    revision = ""

    def taken_up() -> bool:
        nonlocal revision
        status = stage.up.status(key)
        fresh = [r for r in (status.target_revision, *(f.revision for f in status.failed_revisions)) if r not in seen]
        revision = next((r for r in fresh if r), "")
        return bool(revision)

    await until(taken_up)
    stage.story.revisions[revision] = version.label
    stage.teller.target = revision
    stage.renderings.add(RevisionFiles(voice=voice, revision=revision, weights=version.weights))
    return revision


async def conclude(stage: Stage, voice: str, target: str) -> None:
    """Wait until the rollout has ended, one way or the other, and say how."""
    key = f"{NAMESPACE}/{voice}"
    await until(lambda: _ended(stage.up.status(key), target))
    status = stage.up.status(key)
    chapter = stage.story.chapters[-1]
    if status.stable_revision == target:
        chapter.outcome = Outcome.PROMOTED
        chapter.reason = f"{stage.observer.name(target)} is confirmed and speaks for everybody"
        stage.teller.say(chapter.reason)
        return
    failed = next((each for each in status.failed_revisions if each.revision == target), None)
    chapter.reason = f"{failed.reason}: {failed.message}" if failed is not None else status.message
    chapter.outcome = Outcome.TAKEN_BACK if target in stage.observer.heard else Outcome.REFUSED
    kind = MarkKind.BACK if chapter.outcome is Outcome.TAKEN_BACK else MarkKind.REFUSAL
    stage.teller.say(f"{chapter.outcome}: {_short(chapter.reason)}", kind)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}…"


def _ended(status: Status, target: str) -> bool:
    if status.phase is not Phase.IDLE:
        return False
    return status.stable_revision == target or any(each.revision == target for each in status.failed_revisions)


def _keep_clip(stage: Stage, voice: str, revision: str, *, title: str) -> None:
    """What listeners were spared, spoken here with the refused weights."""
    local = stage.renderings.local(voice, revision)
    wav = encode_wav(local.speak(CLIP_TEXT, seed=1), local.rate_hz)
    chapter = stage.story.chapters[-1]
    chapter.clips.append(Clip(title=title, note=chapter.reason, wav=wav))


async def until(true: Callable[[], bool]) -> None:
    """Poll a condition; the chapter's own deadline bounds it."""
    while True:
        if true():
            return
        await asyncio.sleep(POLL_S)
