"""Several voices in one sidecar with room for few: what the tests of tiers stand on."""

from __future__ import annotations

import hashlib
import urllib.request
from pathlib import Path

from tests.support import tiny_engine
from tests.support.sidecar import Process, World, eventually, until

from segue.control import SidecarClient
from segue.wire import PointerRequest, RevisionPhase, RevisionRequest, RevisionState, StateDocument, Tier

MIB = 1 << 20


def voice(number: int) -> str:
    """The name of one of them."""
    return f"default/voice-{number}"


def revision_of(number: int, tier: Tier, world: World, *, values: int = MIB // 4) -> tuple[str, RevisionRequest]:
    """A revision whose arena is a mebibyte (and a page for its header)."""
    content = tiny_engine.weights(hz=200.0 + number, values=values, number=number)
    source = world.write(f"voice-{number}.npz", content)
    return hashlib.sha256(content).hexdigest(), world.request(source, tier=tier)


async def add(
    world: World,
    client: SidecarClient,
    number: int,
    tier: Tier = Tier.COLD,
    *,
    resident: bool = True,
    engine: str = "tiny",
) -> str:
    """Roll a voice out, as an operator does: resident, then pointed at; or only known, and pointed at. Its revision."""
    revision, request = revision_of(number, tier, world)
    request = request.model_copy(update={"resident": resident, "engine": engine})
    await client.ensure_revision(voice(number), revision, request, fence=world.fence(), voice_uid=f"uid-{number}")
    if resident:
        await until_phase(client, number, RevisionPhase.READY)
    await client.set_pointer(
        voice(number), PointerRequest(active=revision), fence=world.fence(), voice_uid=f"uid-{number}"
    )
    return revision


def state_in(document: StateDocument, number: int) -> RevisionState | None:
    """The active revision of a voice."""
    found = document.voices.get(voice(number))
    if found is None:
        return None
    active = found.pointer.active or next(iter(found.revisions), "")
    return found.revisions.get(active)


async def until_phase(client: SidecarClient, number: int, *phases: RevisionPhase) -> RevisionState:
    """Wait for the phase of a voice's active revision."""

    def there(document: StateDocument) -> bool:
        state = state_in(document, number)
        return state is not None and state.phase in phases

    state = state_in(await until(client, there, what=f"voice {number} to be {phases}"), number)
    assert state is not None
    return state


async def until_stored(client: SidecarClient, *numbers: int) -> None:
    """Wait until the copies on disk are written."""

    def there(document: StateDocument) -> bool:
        states = [state_in(document, number) for number in numbers]
        return all(state is not None and state.stored for state in states)

    await until(client, there, what=f"voices {numbers} on disk")


async def ask(worker: Process, number: int) -> None:
    """One request, and its answer."""
    before = len(spoken(worker, number))
    worker.say(f"ask {voice(number)}")
    await eventually(lambda: len(spoken(worker, number)) > before, what=f"voice {number} to speak")


async def ask_in_vain(worker: Process, number: int) -> tuple[str, str]:
    """One request that is turned away: reason and message."""
    before = len(worker.events("unavailable"))
    worker.say(f"ask {voice(number)}")
    await eventually(lambda: len(worker.events("unavailable")) > before, what=f"voice {number} to be refused")
    told = worker.events("unavailable")[-1]
    assert told["voice"] == voice(number)
    return told["reason"], told["message"]


def spoken(worker: Process, number: int) -> list[str]:
    """Revisions that answered requests for a voice, in order."""
    return [event["revision"] for event in worker.events("spoke") if event["voice"] == voice(number)]


def metric(world: World, name: str) -> float:
    """A figure of the sidecar, by name and labels."""
    with urllib.request.urlopen(f"{world.ready['status']}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")))


def prepared_files(world: World) -> list[Path]:
    """What lies on disk."""
    return sorted((world.directory / "cache" / "prepared").glob("*/*"))


def forget_sources(world: World) -> None:
    """From now on nothing can come from its source: not from the voices' folder, not from the cache."""
    for path in (*world.voices.iterdir(), *(world.directory / "cache" / "files").iterdir()):
        path.unlink()
