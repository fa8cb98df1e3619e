"""Bringing revisions into memory, and making room for them.

One task per revision follows it from Queued to Offering; from there the workers' answers make it Ready (`handover`).
The slow and the dangerous is done by children; here is only the order of things, and what each failure means.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segue.errors import PoolExhausted, SegueError
from segue.memory.interface import WeightMemory
from segue.wire import FileSource, ProbeKind, ProbePhase, ProbeReport, RevisionPhase
from segue_sidecar.books import Books
from segue_sidecar.child import ChildFailed, ChildKind, Nursery
from segue_sidecar.config import Config
from segue_sidecar.engines import place_of
from segue_sidecar.entries import RevisionEntry, part_documents
from segue_sidecar.filling import Filling
from segue_sidecar.handover import Handover
from segue_sidecar.models import SharedModels
from segue_sidecar.sources import Allowed, merged
from segue_sidecar.tiers.rising import Rising
from segue_sidecar.tiers.room import Room

logger = logging.getLogger(__name__)

_STAGES = {
    "fetch": RevisionPhase.FETCHING,
    "verify": RevisionPhase.VERIFYING,
    "fill": RevisionPhase.PREPARING,
    "upload": RevisionPhase.PREPARING,
    "speak": RevisionPhase.PROVING,
}


class _NoRoom(SegueError):
    """The pool has no room now; carries what is needed."""

    def __init__(self, error: PoolExhausted, needed_bytes: int) -> None:
        self.needed_bytes = needed_bytes
        super().__init__(str(error))


@dataclass(frozen=True, slots=True)
class Files:
    """A revision's files in the cache."""

    paths: Mapping[str, str]
    reference: str | None


class Residency:
    """All bringing-up that is under way."""

    def __init__(
        self,
        *,
        config: Config,
        books: Books,
        memory: WeightMemory,
        handover: Handover,
        nursery: Nursery,
        shared: SharedModels,
        room: Room,
        rising: Rising,
    ) -> None:
        self._config = config
        self._books = books
        self._memory = memory
        self._handover = handover
        self._nursery = nursery
        self._shared = shared
        self._room = room
        self._rising = rising
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(config.limits.preloads)
        self._closing = False
        self._uploading = asyncio.Lock()
        self.settled = False

    # --- from outside -----------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Start what is queued and has no task, where there is (or can be made) room. Call it when anything changed."""
        if not self.settled or self._closing:
            return
        self._rising.look()
        for entry in list(self._books.revisions()):
            if entry.phase is RevisionPhase.QUEUED and entry.owner not in self._tasks and self._may_try(entry):
                self._tasks[entry.owner] = asyncio.create_task(self._run(entry), name=f"bring up {entry.owner}")

    def try_again(self, entry: RevisionEntry) -> None:
        """Bring a failed revision up once more, without being told to."""
        if entry.phase is RevisionPhase.FAILED:
            self._books.move(entry, RevisionPhase.QUEUED, reason="TriedAgain", message=entry.message)
            self._books.record_revision(entry)
            self.advance()

    async def stop(self, entry: RevisionEntry) -> None:
        """Give up bringing a revision up; its child is gone afterwards."""
        task = self._tasks.get(entry.owner)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        """Give up everything."""
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def fail(self, entry: RevisionEntry, reason: str, message: str) -> None:
        """The revision cannot be used: remember why, and give back what it holds."""
        logger.warning("%s: %s: %s", entry.owner, reason, message)
        self._handover.retire(entry, forget=False)
        self._books.move(entry, RevisionPhase.FAILED, reason=reason, message=message)
        self._books.event(reason, f"revision {entry.revision[:10]}: {message}", voice=entry.voice, warning=True)
        self._books.record_revision(entry)
        self._rising.failed(entry)

    # --- the way up -------------------------------------------------------------------------------------------------

    async def _run(self, entry: RevisionEntry) -> None:
        try:
            if not self._shared.holds_all(entry.prepared):
                await self._wait_for_models(entry)
            async with self._rising.turn() if entry.woken else self._turns:
                await self._rise(entry)
        except _NoRoom as error:
            self._queue(entry, error)
        except ChildFailed as error:
            self.fail(entry, error.reason, str(error))
        except SegueError as error:
            self.fail(entry, type(error).__name__.rstrip("_"), str(error))
        except Exception as error:  # a task's outermost point: a mistake of ours must not leave the revision hanging
            logger.exception("bringing up %s failed", entry.owner)
            self.fail(entry, "InternalError", f"{type(error).__name__}: {error}")
        finally:
            self._tasks.pop(entry.owner, None)
            self.advance()

    async def _rise(self, entry: RevisionEntry) -> None:
        """The shortest way up that there is."""
        if entry.woken and not self._rising.is_wanted(entry):
            return
        try:
            back = await self._rising.bring_back(entry, build=self._books.builds.get(entry.request.engine, ""))
        except PoolExhausted as error:
            raise self._no_room(entry, error, error.needed_bytes) from error
        if back:
            await self._upload(entry)
            self._offer(entry)
        else:
            await self._bring_up(entry)

    async def _bring_up(self, entry: RevisionEntry) -> None:
        place = place_of(entry.request.engine, self._config.engines)
        self._books.move(entry, RevisionPhase.FETCHING)
        files = await self.fetch(entry)
        await self._wait_for_models(entry)  # again: their files may have changed while it had its turn to wait for
        self._books.move(entry, RevisionPhase.PREPARING)
        await self._prepare(entry, files, place)
        await self._upload(entry)
        self._books.move(entry, RevisionPhase.PROVING)
        await self._prove(entry, place)
        self._rising.proven(entry)
        self._offer(entry)

    def _offer(self, entry: RevisionEntry) -> None:
        if not self._rising.offer_as_before(entry):
            self._books.new_handle(entry)
            self._books.record_counters()
        self._books.move(entry, RevisionPhase.OFFERING)
        self._books.record_revision(entry)
        self._handover.offer_all(entry)

    async def fetch(self, entry: RevisionEntry) -> Files:
        """Have all files of a revision in the cache: digests, sizes and signature hold. Raises `ChildFailed`."""
        sources: dict[str, FileSource] = dict(entry.request.weights)
        if entry.request.reference is not None:
            sources["reference"] = entry.request.reference
        allowed = self.allowed(entry.voice.namespace)
        signature = entry.request.signature
        job = {
            "files": [
                {"name": name, "uri": source.uri, "sha256": source.sha256, "size_bytes": source.size_bytes}
                for name, source in sources.items()
            ],
            "prefixes": allowed.prefixes,
            "privateAddresses": allowed.private_addresses,
            "cache": str(self._config.cache_directory),
            "cacheBytes": self._config.limits.cache_bytes,
            "fileBytes": self._config.limits.file_bytes,
            "silenceS": self._config.deadlines.silence_s,
            "keep": sorted(self._cached_digests()),
            "signature": {"uri": signature.uri, "trustedKeys": self._config.trusted_keys}
            if signature.required or signature.uri
            else None,
        }
        result = await self._child(ChildKind.FETCH, job, entry, deadline_s=self._config.deadlines.fetch_s)
        paths = {name: str(file["path"]) for name, file in result["files"].items()}
        reference = paths.pop("reference", None) if entry.request.reference is not None else None
        return Files(paths, reference)

    async def _prepare(self, entry: RevisionEntry, files: Files, place: str) -> None:
        """Prepare, fill and seal; afterwards the entry has its parts, and the pool knows it as their owner."""
        filling = Filling(
            self._memory,
            owner=entry.owner,
            make_room=lambda needed: self._room.make_now(entry, needed),
            no_room=lambda error, needed: self._no_room(entry, error, needed),
            wait_for_room=lambda needed: self._wait_for_room(entry, needed),
        )
        reference = entry.request.reference
        job = {
            "place": place,
            "files": dict(files.paths),
            "reference": {"path": files.reference, "text": reference.text, "language": reference.language}
            if reference and files.reference
            else None,
            "options": entry.request.options,
            "tensorBytes": self._config.limits.tensor_bytes,
            "voiceBytes": self._config.limits.voice_bytes,
        }
        shared = self._shared.hold(entry.request.engine, owner=entry.owner)
        try:
            result = await self._child(
                ChildKind.PREPARE,
                {**job, "shared": part_documents(shared), "memory": self._memory.mapping_terms},
                entry,
                fds=self._memory.export_all(shared),
                deadline_s=self._config.deadlines.prepare_s,
                answer=filling.answer,
            )
            filling.seal()
        except BaseException:
            for part in shared:
                self._memory.release(part.digest, owner=entry.owner)
            filling.give_up()
            raise
        entry.parts, entry.build = (*filling.parts, *shared), str(result["build"])

    async def _wait_for_room(self, entry: RevisionEntry, needed_bytes: int) -> None:
        """What makes room for it may still speak for a moment: to prepare it again would take longer."""
        self._room.make_now(entry, needed_bytes)
        if entry.woken or self._room.is_coming(needed_bytes):
            try:
                await self._rising.make_room(entry, needed_bytes)
            except PoolExhausted as error:
                raise self._no_room(entry, error, needed_bytes) from error

    async def _upload(self, entry: RevisionEntry) -> None:
        """Have on the device what is not there yet. In host memory there is nothing to do."""
        async with self._uploading:  # parts are shared: each is copied once
            uploads = self._memory.uploads(part.digest for part in entry.parts)
            if not uploads:
                return
            job = {
                "parts": [
                    {"name": each.part.name, "digest": each.part.digest, "size": each.part.size_bytes}
                    for each in uploads
                ],
                "memory": self._memory.mapping_terms,
            }
            fds = [fd for each in uploads for fd in each.fds]
            await self._child(ChildKind.UPLOAD, job, entry, fds=fds, deadline_s=self._config.deadlines.prepare_s)
            for each in uploads:
                self._memory.uploaded(each.part.digest)

    async def _prove(self, entry: RevisionEntry, place: str) -> None:
        job = {
            "place": place,
            "parts": entry.part_documents,
            "sound": [part.digest for part in entry.parts if part.digest in self._shared.sound],
            "options": entry.request.options,
            "memory": self._memory.mapping_terms,
            "language": entry.language,
        }
        fds = self._memory.export_all(entry.parts)
        shown = await self._child(ChildKind.PROVE, job, entry, fds=fds, deadline_s=self._config.deadlines.prove_s)
        entry.sentence = ProbeReport(
            key="",
            kind=ProbeKind.SENTENCE,
            phase=ProbePhase.PASSED,
            done=1,
            total=1,
            engine_build=str(shown["build"]),
            device_class=self._config.pod.device_class,
            finished_ns=time.time_ns(),
            details=dict(shown),
        )

    async def _child(
        self, kind: ChildKind, job: Mapping[str, Any], entry: RevisionEntry, **more: Any
    ) -> Mapping[str, Any]:
        def progress(stage: str, done: int, total: int) -> None:
            phase = _STAGES.get(stage, entry.phase)
            # A prover hashes the sealed arena, too, but the revision is past Verifying then.
            if entry.phase in (RevisionPhase.FETCHING, RevisionPhase.VERIFYING):
                self._books.move(entry, phase)
            self._books.show_progress(entry, done=done, total=total)

        return await self._nursery.run(kind, job, progress=progress, **more)

    # --- room -------------------------------------------------------------------------------------------------------

    def allowed(self, namespace: str) -> Allowed:
        """What voices of a namespace may name."""
        rules = (rule for rule in self._config.sources if "*" in rule.namespaces or namespace in rule.namespaces)
        return merged(Allowed(prefixes=r.uri_prefixes, private_addresses=r.private_addresses) for r in rules)

    def _no_room(self, entry: RevisionEntry, error: PoolExhausted, needed_bytes: int) -> SegueError:
        """Later, or never: it must fit into the budget beside the voice's own active revision and the shared models."""
        voice = self._books.voices[str(entry.voice)]
        beside = {
            part.digest: part.size_bytes
            for name in voice.protected
            if name in voice.revisions
            for part in voice.revisions[name].parts
        } | self._shared.sizes()
        least = needed_bytes + sum(beside.values())
        if least > error.budget_bytes:
            return PoolExhausted(
                f"needs {needed_bytes} bytes beside {least - needed_bytes} that have to stay, but the whole pool has "
                f"{error.budget_bytes}: it can never fit; raise pool.budgetBytes",
                needed_bytes=needed_bytes,
                free_bytes=error.free_bytes,
                budget_bytes=error.budget_bytes,
            )
        return _NoRoom(error, needed_bytes)

    async def _wait_for_models(self, entry: RevisionEntry) -> None:
        def say(reason: str, message: str) -> None:
            self._books.move(entry, RevisionPhase.QUEUED, reason=reason, message=message)

        await self._shared.wait(entry.request.engine, say=say)

    def _queue(self, entry: RevisionEntry, error: _NoRoom) -> None:
        if entry.for_request:
            self._rising.rest_again(entry, "PoolFull", str(error))
            return
        entry.needed_bytes = error.needed_bytes
        self._books.move(entry, RevisionPhase.QUEUED, reason="PoolFull", message=str(error))

    def _may_try(self, entry: RevisionEntry) -> bool:
        if entry.reason != "PoolFull":
            return True
        return self._room.could(entry, entry.needed_bytes)

    def _cached_digests(self) -> set[str]:
        found: set[str] = set()
        for entry in self._books.revisions():
            found.update(source.sha256 for source in entry.request.weights.values())
            if entry.request.reference is not None:
                found.add(entry.request.reference.sha256)
        return found
