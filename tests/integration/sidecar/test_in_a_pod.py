"""What is different in a pod: who it is comes from the environment, and other containers' processes cannot be seen."""

from __future__ import annotations

import asyncio
import resource
import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.support.sidecar import (
    UID,
    VOICE,
    World,
    eventually,
    flip,
    load,
    running,
    state_of,
    until,
    until_phase,
    voice_of,
)

from segue.errors import SegueError, WrongPod
from segue.tls import client_context, sidecar_name
from segue.wire import RevisionPhase, WatchTerms
from segue_sidecar.journal import Journal

pytestmark = pytest.mark.process


def test_the_environment_says_who_answers_on_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_POD_UID", "uid-of-the-pod")
    monkeypatch.setenv("SEGUE_POD_NAME", "speech-0")

    async def story() -> None:
        async with running(controlListen="0.0.0.0:0") as (world, _):
            assert world.ready["control"].startswith("https://0.0.0.0:")
            async with world.client(pod="uid-of-the-pod") as client:
                pod = (await state_of(client)).pod
                assert (pod.uid, pod.name) == ("uid-of-the-pod", "speech-0")
            async with world.client() as another:
                with pytest.raises(WrongPod, match="uid-of-the-pod"):
                    await another.state()

    asyncio.run(story())


def test_workers_whose_pids_mean_nothing_here_are_waited_for_after_a_restart() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            before = await voice_of(client)
            assert world.sidecar is not None
            world.sidecar.kill()
            hide_pids(world.directory / "journal" / "journal.log")
            await world.start_sidecar()
            async with world.client() as again:
                await until_phase(again, first, RevisionPhase.READY)
                document = await state_of(again)
                reasons = [event.reason for event in document.events]
                assert "PageLost" not in reasons
                assert "Adopted" in reasons
                assert document.voices[VOICE].revisions[first].handle == before.revisions[first].handle

    asyncio.run(story())


def hide_pids(path: Path) -> None:
    """Have a journal know its workers as from another pid namespace."""
    journal = Journal(path)
    records = journal.open().records
    workers = [key for key in records if key.startswith("worker ")]
    assert workers
    for key in workers:
        journal.put(key, {**records[key], "started": 0})
    journal.close()


def test_a_shadow_takes_nobody_out_of_service() -> None:
    async def story() -> None:
        async with running() as (world, client):
            _, request = world.version(1, prepare="hang")
            await client.ensure_revision(VOICE, "ab" * 32, request, fence=world.fence(), voice_uid=UID)
            await until_phase(client, "ab" * 32, RevisionPhase.PREPARING)
            assert await asyncio.to_thread(status_of, f"{world.ready['status']}/readyz") == 200

    asyncio.run(story())


def test_a_full_disk_refuses_commands_and_keeps_nobody_from_going_back() -> None:
    async def story() -> None:
        async with running(outOfReachS=0.5) as (world, client):
            first, second = await load(world, client, 1), await load(world, client, 2, fails=True)
            await flip(world, client, first)
            assert world.sidecar is not None
            size = (world.directory / "journal" / "journal.log").stat().st_size
            terms = WatchTerms(previous=first, max_error_rate=0.01, sustained_for_s=1, min_requests=5, min_errors=3)
            await flip(world, client, second, watch=terms)
            resource.prlimit(world.sidecar.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            before = await voice_of(client)
            with pytest.raises(SegueError, match="journal"):
                await client.confirm(VOICE, fence=world.fence(), voice_uid=UID)
            with pytest.raises(SegueError, match="journal"):
                await flip(world, client, second, at_ns=before.watch.since_ns + 10**12 if before.watch else None)
            document = await until(client, lambda state: state.voices[VOICE].self_reverted)
            assert document.voices[VOICE].pointer.active == first

            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(world.sidecar.pid, resource.RLIMIT_FSIZE, unlimited)
            log = world.directory / "journal" / "journal.log"
            await eventually(lambda: b'"selfReverted"' in log.read_bytes(), what="the journal to be made up for")
            world.sidecar.kill()
            await world.start_sidecar()
            async with world.client() as again:
                await until_phase(again, first, RevisionPhase.READY)
                voice = await voice_of(again)
                assert voice.pointer.active == first
                assert voice.self_reverted is not None

    asyncio.run(story())


def test_a_rotated_certificate_is_taken_without_a_restart() -> None:
    async def story() -> None:
        async with running() as (world, client):
            await state_of(client)
            before = await asyncio.to_thread(certificate_of, world)
            name = sidecar_name(fleet="default", namespace="default")
            world.authority.issue(name, server=True, directory=world.directory / "sidecar")
            async with world.client() as again:
                await state_of(again)
            assert await asyncio.to_thread(certificate_of, world) != before

    asyncio.run(story())


def certificate_of(world: World) -> bytes | None:
    """What the sidecar shows to a new connection."""
    parts = urlsplit(world.ready["control"])
    tls = client_context(world.operator, server_name=sidecar_name(fleet="default", namespace="default"))
    with (
        socket.create_connection((parts.hostname, parts.port), timeout=5) as plain,
        tls.wrap_socket(plain, server_hostname=parts.hostname) as secured,
    ):
        return secured.getpeercert(binary_form=True)


def status_of(url: str) -> int:
    """Of an answer that is a success."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return int(answer.status)
