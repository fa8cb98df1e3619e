"""What can be wrong with weights, sources, memory, disk or workers: a clear reason, and nothing else lost."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import pickle
import resource
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support import tiny_engine
from tests.support.sidecar import UID, VOICE, World, flip, load, running, until, until_phase, voice_of
from typing_extensions import override

from segue import signing
from segue.control import SidecarClient
from segue.errors import ControlUnreachable, InvalidCommand
from segue.tls import Authority
from segue.wire import FileSource, RevisionPhase, RevisionRequest, RevisionState, SignatureDemand

pytestmark = pytest.mark.process


async def attempt(world: World, client: SidecarClient, request: RevisionRequest) -> RevisionState:
    """Ask for a revision; where it ended."""
    revision = hashlib.sha256(request.model_dump_json().encode()).hexdigest()
    await client.ensure_revision(VOICE, revision, request, fence=world.fence(), voice_uid=UID)
    return await until_phase(client, revision, RevisionPhase.READY, RevisionPhase.FAILED)


async def refused(world: World, client: SidecarClient, source: FileSource, *, reason: str) -> None:
    """Ask for a revision that must fail for `reason`, and let it go."""
    state = await attempt(world, client, world.request(source))
    assert (state.phase, state.reason) == (RevisionPhase.FAILED, reason), state.message
    assert state.message
    await client.drop_revision(VOICE, state.revision, fence=world.fence(), voice_uid=UID)
    await until(client, lambda seen: state.revision not in seen.voices[VOICE].revisions)


def test_bad_weights_fail_with_a_reason_and_the_active_voice_goes_on() -> None:
    async def story() -> None:
        async with running(limits={"fileBytes": "1Mi", "tensorBytes": "1Mi"}) as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            good = tiny_engine.weights()
            whole = world.write("good.npz", good)
            short = world.write("short.npz", good[: len(good) // 2])
            cases = {
                "DigestMismatch": whole.model_copy(update={"sha256": "ab" * 32}),
                "WeightsError": short,
                "FileTooLarge": world.write("large.npz", tiny_engine.weights(values=1 << 19)),
                "SizeMismatch": whole.model_copy(update={"size_bytes": 7}),
                "FetchError": FileSource(uri=f"{world.voices.as_uri()}/nothing.npz", sha256="ab" * 32),
                "ChildDied": world.write("crash.npz", tiny_engine.weights(prepare="crash")),
                "OutOfMemory": world.write("eat.npz", tiny_engine.weights(prepare="eat")),
                "Silent": world.write("silent.npz", tiny_engine.weights(speak="silent")),
                "NonFinite": world.write("nan.npz", tiny_engine.weights(speak="nan")),
                "SynthesisFailed": world.write("error.npz", tiny_engine.weights(speak="error")),
            }
            for reason, source in cases.items():
                await refused(world, client, source, reason=reason)
            assert (await voice_of(client)).pointer.active == first
            await load(world, client, 2)

    asyncio.run(story())


def test_weights_that_hang_their_child_fail_and_the_active_voice_goes_on() -> None:
    async def story() -> None:
        async with running(deadlines={"prepareS": 3}) as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            hangs = world.write("hang.npz", tiny_engine.weights(prepare="hang"))
            await refused(world, client, hangs, reason="ChildHung")
            assert (await voice_of(client)).pointer.active == first

    asyncio.run(story())


class Gadget:
    """What a hostile pickle asks for."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._witness}",)


def test_a_malicious_pickle_is_refused_and_runs_nowhere() -> None:
    async def story() -> None:
        async with running() as (world, client):
            witness = world.directory / "witness"
            for protocol in (0, 2, 4):
                buffer = io.BytesIO()
                with zipfile.ZipFile(buffer, "w") as archive:
                    archive.writestr("voice/data.pkl", pickle.dumps(Gadget(witness), protocol=protocol))
                    archive.writestr("voice/version", "3\n")
                source = world.write(f"evil{protocol}.pth", buffer.getvalue())
                request = RevisionRequest(engine="demo", weights={"prosody": source, "timbre": source})
                state = await attempt(world, client, request)
                assert state.phase is RevisionPhase.FAILED
                assert state.reason == "UnsafePickle", state.message
                assert "system" in state.message
            assert not witness.exists()

    asyncio.run(story())


def test_sources_outside_the_allowed_ones_are_refused_at_once() -> None:
    async def story() -> None:
        async with running() as (world, client):
            (world.voices / "link.npz").symlink_to("/etc/hostname")
            content = (world.voices / "link.npz").read_bytes()
            inside = world.voices.as_uri()
            for uri in (
                "file:///etc/passwd",
                f"{inside}/../ca/ca.key",
                f"{inside}/%2e%2e/ca/ca.key",
                "http://169.254.169.254/latest/meta-data",
                "ftp://example.org/x",
                f"{inside}evil/x",
                "file://other.host/x",
            ):
                request = world.request(FileSource(uri=uri, sha256="ab" * 32))
                with pytest.raises(InvalidCommand, match="ForbiddenSource"):
                    await attempt(world, client, request)
            digest = hashlib.sha256(content).hexdigest()
            escaped = await attempt(world, client, world.request(FileSource(uri=f"{inside}/link.npz", sha256=digest)))
            assert escaped.reason == "ForbiddenSource"
            unknown = RevisionRequest(engine="nonesuch", weights={"tone": world.write("x.npz", b"x")})
            with pytest.raises(InvalidCommand, match="nonesuch"):
                await attempt(world, client, unknown)

    asyncio.run(story())


def test_a_signature_that_is_demanded_must_hold() -> None:
    key, stranger = signing.generate_key(), signing.generate_key()

    async def story() -> None:
        async with running(trustedKeys=[key.public.to_text()]) as (world, client):
            content = tiny_engine.weights()
            source = world.write("signed.npz", content)
            demand = SignatureDemand(required=True)
            request = world.request(source, signature=demand)

            unsigned = await attempt(world, client, request)
            assert unsigned.reason == "SignatureRejected"
            assert "required" in unsigned.message

            manifest = signing.Manifest(
                name="v1", created=NOW, files={"signed.npz": signing.BundleFile(source.sha256, len(content))}
            )
            packed = signing.pack_manifest(manifest)
            (world.voices / "bundle.json").write_bytes(packed)
            (world.voices / "bundle.json.sig").write_bytes(signing.sign(packed, stranger))
            await again(world, client, unsigned)
            foreign = await attempt(world, client, request)
            assert foreign.reason == "SignatureRejected"
            assert stranger.public.key_id in foreign.message

            (world.voices / "bundle.json.sig").write_bytes(signing.sign(packed, key))
            await again(world, client, foreign)
            assert (await attempt(world, client, request)).phase is RevisionPhase.READY

            other = world.request(world.write("other.npz", tiny_engine.weights(hz=300)), signature=demand)
            assert (await attempt(world, client, other)).reason == "DigestMismatch"

    asyncio.run(story())


async def again(world: World, client: SidecarClient, state: RevisionState) -> None:
    """Let a failed revision go, so that asking for it is a new attempt."""
    await client.drop_revision(VOICE, state.revision, fence=world.fence(), voice_uid=UID)
    await until(client, lambda seen: state.revision not in seen.voices[VOICE].revisions)


def test_a_pool_that_is_full_queues_with_figures_and_one_that_is_too_small_refuses() -> None:
    async def story() -> None:
        async with running(pool={"budgetBytes": "20Mi", "spares": 0}) as (world, client):
            first = await load(world, client, 1, values=1_500_000)
            await flip(world, client, first)
            revision, request = world.version(2, values=1_500_000)
            await client.ensure_revision(VOICE, revision, request, fence=world.fence(), voice_uid=UID)
            await until_phase(client, revision, RevisionPhase.READY)

            other, waiting = world.version(3, values=2_500_000)
            await client.ensure_revision("default/other", other, waiting, fence=world.fence(), voice_uid="uid-other")
            document = await until(
                client, lambda state: state.voices["default/other"].revisions[other].reason == "PoolFull"
            )
            queued = document.voices["default/other"].revisions[other]
            assert queued.phase is RevisionPhase.QUEUED
            assert "MiB" in queued.message
            assert document.pool.peak_bytes <= document.pool.budget_bytes

            await client.drop_revision(VOICE, revision, fence=world.fence(), voice_uid=UID)
            await until(
                client, lambda state: state.voices["default/other"].revisions[other].phase is RevisionPhase.READY
            )

            huge, never = world.version(4, values=6_000_000)
            await client.ensure_revision(VOICE, huge, never, fence=world.fence(), voice_uid=UID)
            refused = await until_phase(client, huge, RevisionPhase.FAILED)
            assert refused.reason == "PoolExhausted"
            assert "never fit" in refused.message

    asyncio.run(story())


def test_a_full_disk_is_a_reason_and_not_an_end() -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    async def story() -> None:
        async with running() as (world, _client):
            assert world.sidecar is not None
            world.sidecar.kill()
            await world.start_sidecar(limit=small_files)
            async with world.client() as limited:
                source = world.write("large.npz", tiny_engine.weights(values=1 << 20))
                state = await attempt(world, limited, world.request(source))
                assert state.reason == "DiskFull"
                assert "room" in state.message
                await load(world, limited, 1)

    asyncio.run(story())


def test_wrong_certificates_get_no_answer() -> None:
    async def story() -> None:
        async with running() as (world, client):
            stranger = Authority.create(world.directory / "ca2")
            unknown = stranger.issue("operator.segue.dev", server=False, directory=world.directory / "unknown")
            misnamed = world.authority.issue("someone.segue.dev", server=False, directory=world.directory / "misnamed")
            for files in (unknown, misnamed):
                async with world.client(files=files) as refused:
                    with pytest.raises(ControlUnreachable):
                        await refused.state()
            assert await client.state() is not None

    asyncio.run(story())


def test_workers_that_refuse_hang_or_babble_fail_only_that_revision() -> None:
    async def story() -> None:
        for trouble, reason in (("refuse", "WorkerRefused"), ("silent", "OfferTimedOut")):
            async with running(trouble=trouble, deadlines={"offerS": 1.5}) as (world, client):
                first = await load(world, client, 1)
                await flip(world, client, first)
                revision, request = world.version(2, troublesome=True)
                await client.ensure_revision(VOICE, revision, request, fence=world.fence(), voice_uid=UID)
                failed = await until_phase(client, revision, RevisionPhase.FAILED)
                assert failed.reason == reason
                assert (await voice_of(client)).pointer.active == first
                await load(world, client, 3)

    asyncio.run(story())


def test_a_worker_that_talks_nonsense_is_disconnected_and_reported() -> None:
    async def story() -> None:
        async with running(trouble="babble") as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            revision, request = world.version(2, troublesome=True)
            await client.ensure_revision(VOICE, revision, request, fence=world.fence(), voice_uid=UID)
            await until(client, lambda state: "WorkerTalkedNonsense" in {event.reason for event in state.events})
            world.start_worker("w9", trouble="nonsense")
            await until(
                client,
                lambda state: [event.reason for event in state.events].count("WorkerTalkedNonsense") >= 2,
            )
            assert (await voice_of(client)).pointer.active == first

    asyncio.run(story())


NOW = datetime(2026, 11, 22, tzinfo=UTC)
