"""Models that all voices of an engine share: brought up once per pod, kept for as long as they are configured.

They are prepared by a child like a voice, and their arenas are parts of every revision of the engine (named
`shared.MODEL`), so that offering, adopting and letting go know them already. What is here is the rest: when they are
prepared, who waits for that, and what becomes of them when the files change. A revision keeps the models that it was
prepared with; only those that are prepared later get the new ones, and only when there is such a revision are they
prepared anew: until then nobody needs their memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from segue.errors import PoolExhausted, SegueError
from segue.memory.eviction import Resident
from segue.memory.interface import WeightMemory
from segue.memory.messages import PartRef
from segue.memory.voice_view import is_shared, model_of
from segue.wire import ModelsPhase, Progress
from segue_sidecar.books import Books
from segue_sidecar.child import ChildFailed, ChildKind, Nursery
from segue_sidecar.config import Config, HubSection, SharedModelsSection
from segue_sidecar.engines import place_of
from segue_sidecar.entries import ModelsEntry, part_documents
from segue_sidecar.filling import Filling
from segue_sidecar.model_files import fingerprint

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 2.0
_MOST_DOUBLINGS = 6
_STEPS = 20


class SharedModels:
    """The shared models of every engine that has any configured.

    Attributes
    ----------
    sound
        Digests of arenas that were hashed since they were sealed or taken over: nobody can have changed them since.
    make_room
        Told how many bytes are needed and by whom; set by the composition.
    """

    def __init__(self, *, config: Config, books: Books, memory: WeightMemory, nursery: Nursery) -> None:
        self.sound: set[str] = set()
        self.make_room: Callable[[int, str], None] = lambda _needed, _whose: None
        self._config = config
        self._books = books
        self._memory = memory
        self._nursery = nursery
        self._engines: Mapping[str, Any] | None = None
        self._begun = asyncio.Event()
        self._known = asyncio.Event()
        self._changed = {engine: asyncio.Event() for engine in config.shared_models}
        self._wanted = {engine: asyncio.Event() for engine in config.shared_models}
        self._complained: dict[str, str] = {}
        self._times = 0
        self._list()

    def _list(self) -> None:
        for engine in set(self._books.models) - set(self._config.shared_models):
            self._books.forget_models(engine)
        for engine, section in self._config.shared_models.items():
            entry = self._books.models.setdefault(engine, ModelsEntry(engine=engine))
            entry.source = _shown(section)
            entry.since_ns = time.time_ns()

    # --- the start --------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """What workers gave back is in the pool and hashed: take over what is still there, then bring up the rest."""
        for entry in self._books.models.values():
            self._adopt(entry)
        self._begun.set()

    def engines_answered(self, answer: Mapping[str, Any]) -> None:
        """What the engines say of themselves; see `children.builds`."""
        self._engines = answer
        self._known.set()

    async def run(self) -> None:
        """Bring up what is configured, and again what failed or changed, until cancelled."""
        await self._begun.wait()
        await self._known.wait()
        async with asyncio.TaskGroup() as group:
            for engine in self._config.shared_models:
                group.create_task(self._tend(self._books.models[engine]), name=f"shared models of {engine}")

    def _adopt(self, entry: ModelsEntry) -> None:
        """From the revisions that hold them; all or none."""
        parts, entry.parts = entry.parts, ()
        owner = self._new_owner(entry.engine)
        try:
            for part in parts:
                if part.digest not in self.sound:
                    raise KeyError(part.digest)
                self._memory.retain(part.digest, owner=owner)
        except KeyError:
            for part in parts:
                self._memory.release(part.digest, owner=owner)
            self._move(entry, ModelsPhase.WAITING)
            return
        if parts or entry.absent:
            entry.parts, entry.owner = parts, owner
            self._move(entry, ModelsPhase.READY, message="taken over as they are")

    # --- for revisions ----------------------------------------------------------------------------------------------

    async def wait(self, engine: str, *, say: Callable[[str, str], None]) -> None:
        """Return once the shared models of an engine are there as the files are now; at once where it has none.

        Parameters
        ----------
        say
            Told why it takes longer: a reason and a message.
        """
        entry = self._books.models.get(engine)
        if entry is None:
            return
        if not self._known.is_set():
            say("SharedModels", f"waits for the engine {engine} to say which models it shares")
            await self._known.wait()
        if entry.phase is ModelsPhase.READY and await self._is_stale(entry):
            self._move(entry, ModelsPhase.WAITING, reason="FilesChanged", message="the files changed")
            self._wanted[engine].set()
        while entry.phase is not ModelsPhase.READY:
            say(*_why(entry))
            await self._changed[engine].wait()

    def hold(self, engine: str, *, owner: str) -> tuple[PartRef, ...]:
        """The parts that a revision of the engine lists beside its own, held for it from now on."""
        entry = self._books.models.get(engine)
        parts = entry.parts if entry is not None else ()
        for part in parts:
            self._memory.retain(part.digest, owner=owner)
        return parts

    def holds_all(self, parts: Iterable[PartRef]) -> bool:
        """Whether these are all parts of a revision, and those that are shared are in memory."""
        listed = tuple(parts)
        return bool(listed) and all(self._memory.holds(part.digest) for part in listed if is_shared(part.name))

    def residents(self) -> list[Resident]:
        """For choosing whom to evict: they stay, so that nobody is evicted in the hope of their bytes."""
        return [
            Resident(revision=entry.owner, parts=_sizes(entry), protected=True, uses=0.0, last_used_s=0.0)
            for entry in self._books.models.values()
            if entry.parts
        ]

    def sizes(self) -> dict[str, int]:
        """Digest to bytes of all that stays."""
        return {digest: size for entry in self._books.models.values() for digest, size in _sizes(entry).items()}

    # --- one engine's -----------------------------------------------------------------------------------------------

    async def _tend(self, entry: ModelsEntry) -> None:
        failures = 0
        while True:
            if entry.phase is not ModelsPhase.READY:
                pause_s = self._config.models_retry_s * 2 ** min(failures, _MOST_DOUBLINGS)
                if await self._failed(entry, pause_s=pause_s):
                    failures += 1
                    await self._until_changed(entry, most_s=pause_s)
                    continue
            failures = 0
            await self._wanted[entry.engine].wait()
            self._wanted[entry.engine].clear()

    async def _failed(self, entry: ModelsEntry, *, pause_s: float) -> bool:
        """Bring them up; whether that failed."""
        try:
            await self._bring_up(entry)
        except ChildFailed as error:
            reason, message = error.reason, str(error)
        except SegueError as error:
            reason, message = type(error).__name__.rstrip("_"), str(error)
        except Exception as error:  # a task's outermost point: a mistake of ours must not leave every voice waiting
            logger.exception("bringing up the shared models of %s failed", entry.engine)
            reason, message = "InternalError", f"{type(error).__name__}: {error}"
        else:
            return False
        self._move(entry, ModelsPhase.FAILED, reason=reason, message=f"{message} (again in {pause_s:g} s)")
        if self._complained.get(entry.engine) != message:  # once, however often it is tried
            self._complained[entry.engine] = message
            self._books.event("SharedModelsFailed", f"{entry.engine}: {reason}: {message}", warning=True)
            logger.warning("the shared models of %s: %s: %s", entry.engine, reason, message)
        return True

    async def _until_changed(self, entry: ModelsEntry, *, most_s: float) -> None:
        """Return once the files are others than those that failed, and are not being written any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                before = now = seen = await self._fingerprint(entry)
                while now == seen or now != before:
                    await asyncio.sleep(_LOOK_EVERY_S)
                    before, now = now, await self._fingerprint(entry)

    async def _bring_up(self, entry: ModelsEntry) -> None:
        section, place = self._config.shared_models[entry.engine], self._place(entry.engine)
        if section.hub is not None:
            self._move(entry, ModelsPhase.FETCHING)
            await self._fetch(entry, section.hub)
        self._move(entry, ModelsPhase.PREPARING)
        seen = await self._fingerprint(entry)
        before, owner = (entry.parts, entry.owner), self._new_owner(entry.engine)

        def make_room(needed_bytes: int) -> None:
            # Strictly after the new parts are retained: what is the same in both stays where it is.
            self._let_go(entry, *before)
            self.make_room(needed_bytes, f"the shared models of {entry.engine}")

        filling = Filling(self._memory, owner=owner, make_room=make_room, no_room=self._no_room)
        job = {
            "place": place,
            "root": str(self._root(entry.engine)),
            "options": section.options,
            "tensorBytes": self._config.limits.tensor_bytes,
            "totalBytes": self._config.limits.voice_bytes,
        }
        deadlines = self._config.deadlines
        try:
            result = await self._child(
                ChildKind.MODELS, job, entry, deadline_s=deadlines.prepare_s, answer=filling.answer
            )
            filling.seal()
            await self._hash(entry, filling.fresh)
            if await self._fingerprint(entry) != seen:
                raise ChildFailed("FilesChanged", "the files changed while they were read")
        except BaseException:
            filling.give_up()
            raise
        entry.parts, entry.owner, entry.fingerprint = filling.parts, owner, seen
        entry.absent = {str(model): str(why) for model, why in result["absent"].items()}
        self._move(entry, ModelsPhase.READY)
        self._complained.pop(entry.engine, None)
        self._books.record_models(entry)
        self._tell(entry)

    async def _fetch(self, entry: ModelsEntry, hub: HubSection) -> None:
        limits, deadlines = self._config.limits, self._config.deadlines
        job = {
            "hub": {"repository": hub.repository, "revision": hub.revision, "endpoint": hub.endpoint},
            "redirects": hub.redirects,
            "privateAddresses": hub.private_addresses,
            "files": self._files(entry.engine),
            "folder": str(self._root(entry.engine)),
            "fileBytes": limits.file_bytes,
            "totalBytes": limits.cache_bytes,
            "silenceS": deadlines.silence_s,
        }
        await self._child(ChildKind.FETCH, job, entry, deadline_s=deadlines.fetch_s)

    async def _hash(self, entry: ModelsEntry, parts: tuple[PartRef, ...]) -> None:
        """Nobody has read them yet but the child that wrote them."""
        digests = {part.digest for part in parts}
        self.sound -= digests
        if parts:
            self._move(entry, ModelsPhase.VERIFYING)
            fds = self._memory.export_all(parts)
            job = {"parts": part_documents(parts), "memory": self._memory.mapping_terms}
            await self._child(ChildKind.REHASH, job, entry, deadline_s=self._config.deadlines.prove_s, fds=fds)
        self.sound |= digests

    async def _child(self, kind: ChildKind, job: Mapping[str, Any], entry: ModelsEntry, **more: Any) -> Any:
        def progress(_stage: str, done: int, total: int) -> None:
            fraction = int(_STEPS * done / total) / _STEPS if total else 0.0
            if fraction != entry.progress.fraction:
                entry.progress = Progress(done_bytes=int(fraction * total), total_bytes=total, fraction=fraction)
                self._books.touch()

        return await self._nursery.run(kind, job, progress=progress, **more)

    def _let_go(self, entry: ModelsEntry, parts: tuple[PartRef, ...], owner: str) -> None:
        """Of what was prepared before; revisions that were prepared with it hold it on."""
        for part in parts:
            self._memory.release(part.digest, owner=owner)
        entry.parts = ()
        self._memory.reap()

    def _no_room(self, error: PoolExhausted, needed_bytes: int) -> SegueError:
        if needed_bytes <= error.budget_bytes:
            return error
        return PoolExhausted(
            f"they need {needed_bytes} bytes, but the whole pool has {error.budget_bytes}: they can never fit; raise "
            "pool.budgetBytes",
            needed_bytes=needed_bytes,
            free_bytes=error.free_bytes,
            budget_bytes=error.budget_bytes,
        )

    # --- their files ------------------------------------------------------------------------------------------------

    async def _is_stale(self, entry: ModelsEntry) -> bool:
        return await self._fingerprint(entry) != entry.fingerprint

    async def _fingerprint(self, entry: ModelsEntry) -> str:
        """Off the loop: a network file system may take its time."""
        return await asyncio.to_thread(
            fingerprint,
            self._root(entry.engine),
            self._files(entry.engine),
            told=self._config.shared_models[entry.engine].options,
            build=str((self._engines or {}).get("builds", {}).get(entry.engine, "")),
        )

    def _files(self, engine: str) -> list[str]:
        """All that the engine may read, whether it is there or not."""
        return list((self._engines or {}).get("models", {}).get(engine, ()))

    def _root(self, engine: str) -> Path:
        """Where they lie, or are brought to."""
        section = self._config.shared_models[engine]
        if section.hub is None:
            assert section.directory is not None
            return section.directory
        repository = section.hub.repository.replace("/", "--")
        return self._config.cache_directory / "models" / repository / section.hub.revision

    def _place(self, engine: str) -> str:
        answer = self._engines or {}
        if engine in answer.get("errors", {}):
            raise ChildFailed("EngineUnavailable", str(answer["errors"][engine]))
        place = place_of(engine, self._config.engines)
        if engine not in answer.get("models", {}):
            raise ChildFailed(
                "NothingShared", f"the engine {engine} has no models that voices share: do not configure any"
            )
        return place

    # --- saying so --------------------------------------------------------------------------------------------------

    def _new_owner(self, engine: str) -> str:
        self._times += 1
        return f"shared models of {engine}, {self._times}"

    def _move(self, entry: ModelsEntry, phase: ModelsPhase, *, reason: str = "", message: str = "") -> None:
        if entry.phase is not phase:
            entry.progress = Progress()
            entry.since_ns = time.time_ns()
        entry.phase, entry.reason, entry.message = phase, reason, message
        self._books.touch()
        self._changed[entry.engine].set()
        self._changed[entry.engine] = asyncio.Event()

    def _tell(self, entry: ModelsEntry) -> None:
        there = ", ".join(f"{model_of(part.name)} ({part.size_bytes / 1e6:.1f} MB)" for part in entry.parts) or "none"
        self._books.event("SharedModelsReady", f"{entry.engine}: {there}")
        for model, why in entry.absent.items():
            self._books.event("SharedModelAbsent", f"{entry.engine}: {model}: {why}", warning=True)


def _sizes(entry: ModelsEntry) -> dict[str, int]:
    return {part.digest: part.size_bytes for part in entry.parts}


def _why(entry: ModelsEntry) -> tuple[str, str]:
    """Why a voice waits: a reason and a message."""
    if entry.phase is ModelsPhase.FAILED:
        return "SharedModelsFailed", f"the shared models of {entry.engine}: {entry.reason}: {entry.message}"
    return "SharedModels", f"waits for the shared models of {entry.engine}: {entry.phase}"


def _shown(section: SharedModelsSection) -> str:
    if section.hub is not None:
        return f"{section.hub.repository}@{section.hub.revision[:10]}"
    return str(section.directory)
