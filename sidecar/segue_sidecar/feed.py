"""The state of the pod as one document, and waiting for another one.

Separate because it is read far more often than it changes: each voice is rendered once per change, so that polling
three hundred voices does not hold up a flip. Memory figures are rounded to MiB, and lie outside the ETag.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Iterable

from pydantic import TypeAdapter

from segue import __version__
from segue.memory.interface import MemoryUsage, WeightMemory
from segue.wire import WIRE_VERSION, DesiredState, ModelsState, PodIdentity, PoolState, SidecarEvent, WorkerState
from segue_sidecar.books import Books
from segue_sidecar.config import PodSection
from segue_sidecar.hurry import Hurry
from segue_sidecar.render import models_state, voice_state
from segue_sidecar.switchboard import Switchboard
from segue_sidecar.workers import Roster, WorkerPhase

_MIB = 1 << 20
_POOLS = {"host": b"pool", "gpu": b"gpuPool"}
_EVENTS = TypeAdapter(tuple[SidecarEvent, ...])
_WORKERS = TypeAdapter(tuple[WorkerState, ...])
_DESIRED: TypeAdapter[DesiredState | None] = TypeAdapter(DesiredState | None)
_MODELS = TypeAdapter(dict[str, ModelsState])
_COALESCE_S = 0.02
"""Changes that come together wake a poller once."""


class StateFeed:
    """Renders `StateDocument`s."""

    def __init__(
        self,
        *,
        pod: PodSection,
        books: Books,
        switchboard: Switchboard,
        memory: WeightMemory,
        roster: Roster,
        desired: Callable[[], DesiredState | None] = lambda: None,
    ) -> None:
        self._desired = desired
        self._books = books
        self._switchboard = switchboard
        self._memory = memory
        self._pod = pod
        self._roster = roster
        self._started_ns = time.time_ns()
        self._version = -1
        self._etag = ""
        self._core = b""
        self._frame = (b"", b"")
        self._voices: dict[str, bytes] = {}

    async def wait_for_other(self, etag: str, *, wait_s: float, hurry: Hurry | None = None) -> bool:
        """Wait until the ETag is another one, at most `wait_s` or until it is to hurry; whether it is."""
        hurry = hurry or Hurry()
        ends_s = time.monotonic() + wait_s
        while self.etag() == etag:
            left_s = ends_s - time.monotonic()
            if left_s <= 0 or hurry.asked:
                return False
            try:
                async with asyncio.timeout(left_s) as deadline:
                    hurry.ends(deadline)
                    await self._books.changed()
                    await asyncio.sleep(_COALESCE_S)
            except TimeoutError:
                return self.etag() != etag
            finally:
                hurry.waits_no_more()
        return True

    def etag(self) -> str:
        """Names the state of now."""
        self._render()
        return self._etag

    def document(self, *, only: Collection[str] = ()) -> tuple[str, bytes]:
        """ETag and JSON of the state of now.

        Parameters
        ----------
        only
            Voices to tell of; empty: all. The ETag is that of everything.
        """
        self._render()
        head = b'{"wire":%d,"etag":"%b","nowNs":%d,' % (WIRE_VERSION, self._etag.encode(), time.time_ns())
        for place, usage in self._memory.budgets().items():
            head += b'"%b":%b,' % (_POOLS[place], _pool(usage).model_dump_json(by_alias=True).encode())
        return self._etag, head + (self._core_of(sorted(set(only))) if only else self._core)

    def _render(self) -> None:
        if self._version == self._books.version:
            return
        self._version = self._books.version
        pod = PodIdentity(
            uid=self._pod.uid,
            name=self._pod.name,
            namespace=self._pod.namespace,
            fleet=self._pod.fleet,
            started_ns=self._started_ns,
            build=__version__,
            engine_builds=dict(self._books.builds),
            device_class=self._pod.device_class,
        )
        self._render_voices()
        self._frame = (
            b'"pod":%b,"voices":{' % pod.model_dump_json(by_alias=True).encode(),
            b'},"workers":%b,"events":%b,"desired":%b,"models":%b}'
            % (
                _WORKERS.dump_json(self._workers(), by_alias=True),
                _EVENTS.dump_json(tuple(self._books.events), by_alias=True),
                _DESIRED.dump_json(self._desired(), by_alias=True),
                _MODELS.dump_json(self._models(), by_alias=True),
            ),
        )
        self._core = self._core_of(sorted(self._voices))
        self._etag = hashlib.sha256(self._core).hexdigest()[:32]

    def _core_of(self, names: Iterable[str]) -> bytes:
        """The part of the document that the ETag is made of, with these voices in it."""
        before, after = self._frame
        return before + b",".join(self._voices[name] for name in names if name in self._voices) + after

    def _render_voices(self) -> None:
        """Only those that changed; all of them the first time."""
        for name in self._books.stale | (self._books.voices.keys() - self._voices.keys()):
            entry = self._books.voices.get(name)
            if entry is None:
                self._voices.pop(name, None)
                continue
            state = voice_state(entry, pointer=self._switchboard.pointer(entry))
            self._voices[name] = b'"%b":%b' % (name.encode(), state.model_dump_json(by_alias=True).encode())
        self._books.stale.clear()

    def _models(self) -> dict[str, ModelsState]:
        return {engine: models_state(entry) for engine, entry in sorted(self._books.models.items())}

    def _workers(self) -> tuple[WorkerState, ...]:
        return tuple(
            WorkerState(
                id=worker.id,
                pid=worker.pid,
                phase=WorkerPhase.STUCK if worker.phase is WorkerPhase.LOST else worker.phase,
            )
            for worker in self._roster
        )


def _pool(usage: MemoryUsage) -> PoolState:
    return PoolState(
        budget_bytes=usage.budget_bytes,
        used_bytes=_mib(usage.used_bytes),
        spare_bytes=_mib(usage.spare_bytes),
        peak_bytes=_mib(usage.peak_bytes),
    )


def _mib(size_bytes: int) -> int:
    return round(size_bytes / _MIB) * _MIB
