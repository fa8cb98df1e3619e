"""Models that all voices of an engine share: prepared once, held by every revision, never mixed."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support import tiers
from tests.support.model_hub import COMMIT, REPOSITORY, Hub, serving
from tests.support.sharing_engine import write_model
from tests.support.sidecar import (
    UID,
    VOICE,
    World,
    flip,
    running,
    state_of,
    until,
    until_phase,
    voice_of,
)

from segue.control import SidecarClient
from segue.wire import ModelsPhase, ModelsState, RevisionPhase, RevisionState, StateDocument

pytestmark = pytest.mark.process

MODEL_BYTES = 400_000
PATIENCE_S = 60.0


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder with both models."""
    directory = Path(tempfile.mkdtemp(prefix="segue-models-"))
    write_model(directory, "ear/values.npy", 1.0)
    write_model(directory, "eye/right.npy", 7.0)
    yield directory
    shutil.rmtree(directory)


@asynccontextmanager
async def sharing(root: Path, *, workers: int = 1, **settings: Any) -> AsyncIterator[tuple[World, SidecarClient]]:
    """A world whose sidecar has shared models configured."""
    section = {"directory": str(root), **settings.pop("models", {})}
    settings = {"sharedModels": {"sharing": section}, "modelsRetryS": 0.2, **settings}
    async with running(workers=workers, **settings) as (world, client):
        yield world, client


def models_of(document: StateDocument) -> ModelsState:
    return document.models["sharing"]


async def models_are(client: SidecarClient, phase: ModelsPhase) -> ModelsState:
    found = await until(
        client, lambda state: models_of(state).phase is phase, deadline_s=PATIENCE_S, what=f"models {phase}"
    )
    return models_of(found)


async def ask(world: World, client: SidecarClient, number: int, *, voice: str = VOICE, **settings: Any) -> str:
    """Ask for a version of a voice that needs the shared models."""
    revision, request = world.version(number, **settings)
    request = request.model_copy(update={"engine": "sharing"})
    await client.ensure_revision(voice, revision, request, fence=world.fence(), voice_uid=UID)
    return revision


async def load(
    world: World, client: SidecarClient, number: int, *, voice: str = VOICE, **settings: Any
) -> RevisionState:
    revision = await ask(world, client, number, voice=voice, **settings)

    def done(state: StateDocument) -> bool:
        return state.voices[voice].revisions[revision].phase in (RevisionPhase.READY, RevisionPhase.FAILED)

    state = (await until(client, done, deadline_s=PATIENCE_S)).voices[voice].revisions[revision]
    assert state.phase is RevisionPhase.READY, (state.reason, state.message)
    return state


def shared_of(state: RevisionState) -> dict[str, str]:
    """Names to digests of the shared parts of a revision."""
    return {part.name: part.digest for part in state.parts if part.shared}


def preparations(root: Path) -> int:
    log = root / "prepared.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def heard(world: World, revision: str) -> dict[str, float]:
    """What the shared models said to the worker that built a revision."""
    events = [event for each in world.processes for event in each.events("ready") if event["revision"] == revision]
    assert events
    return dict(events[-1]["shared"])


def reasons(document: StateDocument) -> list[str]:
    return [event.reason for event in document.events]


def figures(world: World) -> str:
    """What the sidecar shows Prometheus."""
    with urllib.request.urlopen(f"{world.ready['status']}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def children_ended(world: World, kind: str) -> int:
    """How many children of a kind brought their result."""
    wanted = f'segue_sidecar_children_total{{kind="{kind}",outcome="ok"}}'
    found = [line for line in figures(world).splitlines() if line.startswith(wanted)]
    return sum(int(float(line.rpartition(" ")[2])) for line in found)


def test_voices_share_one_arena_and_the_sum_counts_it_once(root: Path) -> None:
    async def story() -> None:
        async with sharing(root, workers=2, pool={"budgetBytes": "64Mi", "spares": 0}) as (world, client):
            ready = await models_are(client, ModelsPhase.READY)
            assert {part.name: part.size_bytes for part in ready.parts} == {
                "ear": pytest.approx(MODEL_BYTES, rel=0.03),
                "eye": pytest.approx(MODEL_BYTES, rel=0.03),
            }
            first = await load(world, client, 1)
            second = await load(world, client, 2, voice="default/other")
            assert shared_of(first) == shared_of(second)
            assert set(shared_of(first)) == {"shared.ear", "shared.eye"}
            await flip(world, client, first.revision)
            assert heard(world, first.revision) == {"ear": 1.0, "eye": 7.0}
            assert preparations(root) == 1
            used = (await state_of(client)).pool.used_bytes
            assert used <= 2 * MODEL_BYTES + 2 * 20_000 + (1 << 20)
            text = figures(world)
            assert 'segue_sidecar_shared_models_ready{engine="sharing"} 1.0' in text
            assert 'segue_sidecar_shared_model_bytes{engine="sharing",model="ear"} 4' in text

    asyncio.run(story())


def test_what_is_absent_is_named_and_the_engine_decides_who_goes_on(root: Path) -> None:
    async def story() -> None:
        shutil.rmtree(root / "eye")
        async with sharing(root) as (world, client):
            ready = await models_are(client, ModelsPhase.READY)
            assert ready.absent == {"eye": "eye/left.npy or eye/right.npy is not there; without it: no eye"}
            assert "SharedModelAbsent" in reasons(await state_of(client))
            assert set(shared_of(await load(world, client, 1))) == {"shared.ear"}
            (root / "ear" / "values.npy").unlink()
            write_model(root, "eye/left.npy", 3.0)
            revision = await ask(world, client, 2)
            failed = await until_phase(client, revision, RevisionPhase.FAILED)
            assert "shared model 'ear', which is not there" in failed.message
            assert set((await models_are(client, ModelsPhase.READY)).absent) == {"ear"}

    asyncio.run(story())


def test_a_voice_waits_for_a_model_that_cannot_be_read_until_it_is_put_right(root: Path) -> None:
    async def story() -> None:
        (root / "ear" / "values.npy").write_bytes(b"no array")
        async with sharing(root) as (world, client):
            failed = await models_are(client, ModelsPhase.FAILED)
            assert (failed.reason, "ear/values.npy: tensor 'values'" in failed.message) == ("WeightsError", True)
            revision = await ask(world, client, 1)
            waits = await until_phase(client, revision, RevisionPhase.QUEUED, reason="SharedModelsFailed")
            assert "ear/values.npy: tensor 'values'" in waits.message
            write_model(root, "ear/values.npy", 2.0)
            await until_phase(client, revision, RevisionPhase.READY)
            assert heard(world, revision)["ear"] == 2.0

    asyncio.run(story())


def test_other_voices_do_not_wait_for_them(root: Path) -> None:
    async def story() -> None:
        (root / "ear" / "values.npy").write_bytes(b"no array")
        async with sharing(root) as (world, client):
            await models_are(client, ModelsPhase.FAILED)
            await ask(world, client, 1, voice="default/waiting")
            revision, request = world.version(2)
            await client.ensure_revision(VOICE, revision, request, fence=world.fence(), voice_uid=UID)
            state = await until_phase(client, revision, RevisionPhase.READY)
            assert shared_of(state) == {}

    asyncio.run(story())


def test_only_revisions_that_are_prepared_later_get_models_that_were_replaced(root: Path) -> None:
    async def story() -> None:
        async with sharing(root) as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first.revision)
            write_model(root, "ear/values.npy", 2.0)
            second = await load(world, client, 2)
            assert heard(world, first.revision)["ear"] == 1.0
            assert heard(world, second.revision)["ear"] == 2.0
            assert shared_of(first)["shared.eye"] == shared_of(second)["shared.eye"]
            assert shared_of(first)["shared.ear"] != shared_of(second)["shared.ear"]
            assert (await voice_of(client)).revisions[first.revision].phase is RevisionPhase.READY
            await flip(world, client, second.revision)
            before = (await state_of(client)).pool.used_bytes
            await client.drop_revision(VOICE, first.revision, fence=world.fence(), voice_uid=UID)
            await until(client, lambda state: first.revision not in state.voices[VOICE].revisions)
            assert (await state_of(client)).pool.used_bytes <= before
            assert shared_of((await voice_of(client)).revisions[second.revision]) == shared_of(second)

    asyncio.run(story())


def test_a_restart_takes_them_over_and_hashes_them_once(root: Path) -> None:
    async def story() -> None:
        async with sharing(root, workers=2) as (world, client):
            revisions = [await load(world, client, n, voice=f"default/v{n}") for n in (1, 2, 3)]
            ready = await models_are(client, ModelsPhase.READY)
            assert world.sidecar is not None
            world.sidecar.kill()
            await world.start_sidecar()
            async with world.client() as again:
                await until(again, lambda state: reasons(state).count("Adopted") == 3)
                taken = await models_are(again, ModelsPhase.READY)
                assert (taken.parts, taken.message) == (ready.parts, "taken over as they are")
                fourth = await load(world, again, 4)
                assert shared_of(fourth) == shared_of(revisions[0])
                assert preparations(root) == 1
                assert children_ended(world, "models") == 0

    asyncio.run(story())


def test_after_a_restart_files_that_changed_meanwhile_are_for_new_revisions(root: Path) -> None:
    async def story() -> None:
        async with sharing(root) as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first.revision)
            assert world.sidecar is not None
            world.sidecar.kill()
            write_model(root, "ear/values.npy", 5.0)
            await world.start_sidecar()
            async with world.client() as again:
                await until_phase(again, first.revision, RevisionPhase.READY)
                second = await load(world, again, 2)
                assert heard(world, first.revision)["ear"] == 1.0
                assert heard(world, second.revision)["ear"] == 5.0
                assert (await voice_of(again)).revisions[first.revision].phase is RevisionPhase.READY

    asyncio.run(story())


def test_after_everything_was_killed_they_are_prepared_anew(root: Path) -> None:
    async def story() -> None:
        async with sharing(root) as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first.revision)
            for process in world.processes:
                process.kill()
            await world.start_sidecar()
            world.start_worker("w0")
            async with world.client() as again:
                await until_phase(again, first.revision, RevisionPhase.READY)
                assert preparations(root) == 2

    asyncio.run(story())


def test_options_are_handed_to_the_engine(root: Path) -> None:
    async def story() -> None:
        async with sharing(root, models={"options": {"gain": 3}}) as (world, client):
            assert heard(world, (await load(world, client, 1)).revision)["ear"] == 3.0

    asyncio.run(story())


def test_they_are_never_evicted_and_count_once_when_room_is_made(root: Path) -> None:
    async def story() -> None:
        values = 1_500_000  # 6 MB a voice: two fit beside the models, three do not
        async with sharing(root, pool={"budgetBytes": "14Mi", "spares": 0}) as (world, client):
            first = await load(world, client, 1, voice="default/a", values=values)
            await load(world, client, 2, voice="default/a", values=values)
            third = await load(world, client, 3, voice="default/b", values=values)
            state = await state_of(client)
            assert first.revision not in state.voices["default/a"].revisions, "the older shadow made room"
            assert models_of(state).phase is ModelsPhase.READY
            assert set(shared_of(third)) == {"shared.ear", "shared.eye"}
            huge = await ask(world, client, 4, voice="default/c", values=3_500_000)
            failed = (
                (await until(client, lambda s: s.voices["default/c"].revisions[huge].phase is RevisionPhase.FAILED))
                .voices["default/c"]
                .revisions[huge]
            )
            assert "can never fit" in failed.message

    asyncio.run(story())


def test_a_cold_voice_comes_back_with_the_models_in_memory_and_they_are_on_no_disk(root: Path) -> None:
    async def story() -> None:
        room_for_two: dict[str, Any] = {"asked": True, "pool": {"budgetBytes": "3100Ki", "spares": 0}}
        async with sharing(root, **room_for_two) as (world, client):
            worker = world.processes[1]
            for number in (1, 2):
                await tiers.add(world, client, number, engine="sharing")
            await tiers.until_stored(client, 1, 2)
            files = tiers.prepared_files(world)
            assert len(files) == 2, "of each voice its own part"
            assert all(path.stat().st_size > 2 * MODEL_BYTES for path in files)
            await tiers.add(world, client, 3, engine="sharing")
            state = await state_of(client)
            gone = next(n for n in (1, 2) if state.voices[tiers.voice(n)].pointer.active not in _resident(state, n))
            tiers.forget_sources(world)
            await tiers.ask(worker, gone)
            assert tiers.metric(world, 'segue_sidecar_cold_starts_total{source="disk"}') == 1
            assert models_of(await state_of(client)).phase is ModelsPhase.READY
            assert preparations(root) == 1

    asyncio.run(story())


def _resident(state: StateDocument, number: int) -> set[str]:
    """Revisions of a voice that have memory."""
    return {name for name, each in state.voices[tiers.voice(number)].revisions.items() if each.parts}


def test_models_that_do_not_fit_say_so_and_an_engine_without_any_is_named(root: Path) -> None:
    async def story() -> None:
        write_model(root, "ear/values.npy", 1.0, values=4_000_000)
        sections = {"sharing": {"directory": str(root)}, "tiny": {"directory": str(root)}}
        async with running(sharedModels=sections, pool={"budgetBytes": "8Mi", "spares": 0}) as (_, client):
            failed = await models_are(client, ModelsPhase.FAILED)
            assert failed.reason == "PoolExhausted"
            assert "they can never fit" in failed.message
            document = await until(client, lambda state: state.models["tiny"].phase is ModelsPhase.FAILED)
            assert document.models["tiny"].reason == "NothingShared"

    asyncio.run(story())


def test_they_come_from_a_hub_at_a_commit(root: Path) -> None:
    files = {name: (root / name).read_bytes() for name in ("ear/values.npy", "eye/right.npy")}

    async def story(hub: Hub) -> None:
        named = {"repository": REPOSITORY, "revision": COMMIT, "endpoint": hub.url, "privateAddresses": True}
        hub.cut_after = 100_000
        async with running(sharedModels={"sharing": {"hub": named}}) as (world, client):
            first = await load(world, client, 1)
            assert heard(world, first.revision) == {"ear": 1.0, "eye": 7.0}
            ready = await models_are(client, ModelsPhase.READY)
            assert (ready.source, ready.absent) == (f"{REPOSITORY}@{COMMIT[:10]}", {})
            assert world.sidecar is not None
            world.sidecar.kill()
            hub.asked.clear()
            await world.start_sidecar()
            async with world.client() as again:
                await until_phase(again, first.revision, RevisionPhase.READY)
                assert shared_of(await load(world, again, 2)) == shared_of(first)
                assert hub.asked == []

    with serving(Hub(files=files)) as hub:
        asyncio.run(story(hub))
