"""One machine in simulated time: a real folder with real YAML, the real loop, a fake sidecar.

Turn by turn, so that nothing sleeps. `restart_operator` is what a `kill -9` and a new process amount to: everything in
memory is gone, the files are not.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import Crashed, CrashSwitch
from tests.fakes.sidecar import FakeSidecar
from tests.support.control import FakeControl

from segue.control import SidecarClient
from segue.model import Status
from segue.model.edit import FieldPath
from segue.rollout import PodFacts
from segue.wire import PodIdentity
from segue_operator.changes import Changes
from segue_operator.events import EventLog
from segue_operator.files import write_atomically
from segue_operator.fleet.records import FleetKey, PodRecord
from segue_operator.fleet.sidecars import SidecarFleet
from segue_operator.folder.cluster import FolderCluster, edit_if_unchanged
from segue_operator.folder.digests import DigestCache
from segue_operator.folder.store import Store
from segue_operator.leader import Leadership, take_leadership
from segue_operator.ports import WriteConflict
from segue_operator.run import ALWAYS_THERE
from segue_operator.slots import SlotBook
from segue_operator.voice_loop import CommandsFailed, Surroundings, VoiceLoop

KEY = "default/narrator"
LONG_AGO_S = 60.0


def age(path: Path) -> None:
    """Make a file look as if nobody had written to it for a while."""
    then = time.time() - LONG_AGO_S
    os.utime(path, (then, then))


async def no_wakeups() -> AsyncIterator[None]:
    """The folder is read when a test says so."""
    for _ in ():
        yield


class FolderWorld:
    """Everything of one machine but the server."""

    def __init__(self, root: Path) -> None:
        self.clock = FakeClock()
        self.crash = CrashSwitch()
        self.folder = root / "voices"
        self.state = root / "state"
        self.folder.mkdir()
        identity = PodIdentity(uid="pod-1", name="local", engine_builds={"demo": "b1"})
        self.sidecar = FakeSidecar(identity, self.clock)
        self.control = FakeControl(self.sidecar, self.crash)
        self.leadership: Leadership | None = None
        self.start_operator()

    # --- the operator ---------------------------------------------------------------------------------------------

    def start_operator(self) -> None:
        """A new process on the same files."""
        if self.leadership is not None:
            self.leadership.release()
        self.leadership = take_leadership(self.state, unix_s=self.clock.unix_s)
        changes = Changes()
        store = Store.open(self.state / "status")
        store.write = lambda path, text: self.crash.wrap(partial(write_atomically, path, text))
        self.cluster = FolderCluster(
            folder=self.folder,
            store=store,
            digests=DigestCache(self.state / "digests.json"),
            wakeups=no_wakeups,
            clock=self.clock.unix_s,
            edit=self._edit,
        )
        fences = self.leadership.fences
        key = FleetKey(namespace="default", name="default")
        self.fleet = SidecarFleet(
            select=lambda _voice: key,
            connect=lambda record: SidecarClient(record.url, pod_uid=record.facts.uid, transport=self.control),
            term=lambda: fences.term,
        )
        facts = PodFacts(uid="pod-1", name="local", created_at=ALWAYS_THERE)
        self.fleet.update([PodRecord(facts=facts, fleet=key, url="http://sidecar")])
        self.events = EventLog.open(self.state / "events.jsonl", changes=changes, now=self.clock.now)
        around = Surroundings(
            cluster=self.cluster,
            fleet=self.fleet,
            clock=self.clock,
            events=self.events,
            fences=fences,
            slots=SlotBook(10),
            wake=lambda _: None,
        )
        self.loop = VoiceLoop(KEY, around)

    def close(self) -> None:
        """Stop."""
        assert self.leadership is not None
        self.leadership.release()
        asyncio.run(self.fleet.pods["pod-1"].leave())

    def _edit(self, file: Path, key: str, changes: Mapping[FieldPath, Any], digest: str) -> object:
        try:
            return self.crash.wrap(partial(edit_if_unchanged, file, key, changes, digest))
        finally:
            age(file)

    async def turn(self) -> float | None:
        """One turn on what the sidecar says now; failed commands are a reason to look again."""
        self.fleet.pods["pod-1"].forget()
        try:
            return await self.loop.turn()
        except (CommandsFailed, WriteConflict):
            return 0.0

    async def settle(self, *, most: int = 60) -> None:
        """Turns until there is nothing to do now."""
        for _ in range(most):
            accepted = self.control.accepted
            pause_s = await self.turn()
            woken = self.control.accepted > accepted
            if pause_s is None or (pause_s > 0 and not woken):
                return
        raise AssertionError(f"still busy after {most} turns: {self.status}")

    async def run(self, *, seconds: float, every: float = 1.0) -> None:
        """Let the operator act and time pass, in turns."""
        while seconds > 0:
            await self.cluster.read_folder()
            await self.settle()
            self.clock.advance(every)
            self.sidecar.tick()
            seconds -= every
        await self.settle()

    def run_through(self, *, seconds: float, every: float = 1.0) -> None:
        """As `run`, starting a new operator where one dies."""
        try:
            asyncio.run(self.run(seconds=seconds, every=every))
        except Crashed:
            self.crash.arm(None)
            self.start_operator()
            asyncio.run(self.run(seconds=seconds, every=every))

    # --- the person -----------------------------------------------------------------------------------------------

    def write_weights(self, name: str) -> Path:
        """A file whose content is its name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"weights {name}", encoding="utf-8")
        age(path)
        return path

    def write_voice(self, version: str = "v1", *, file: str = "narrator.yaml", **sections: Any) -> Path:
        """A voice whose weights are called after the version."""
        self.write_weights(f"{version}.bin")
        document = {
            "apiVersion": "segue.dev/v1alpha1",
            "kind": "VoiceModel",
            "metadata": {"name": "narrator"},
            "spec": {"engine": "demo", "weights": {"acoustic": {"uri": f"{version}.bin"}}, **sections},
        }
        path = self.folder / file
        with path.open("w", encoding="utf-8") as stream:
            YAML().dump(document, stream)
        age(path)
        return path

    def write_text(self, text: str, *, file: str = "narrator.yaml") -> Path:
        """Exactly this content."""
        path = self.folder / file
        path.write_text(text, encoding="utf-8")
        age(path)
        return path

    # --- what came of it ------------------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """The voice's status."""
        return self.cluster.store.records[KEY].voice.status

    def revision_of_file(self) -> str:
        """What the YAML asks for."""
        from segue.model import revision_of

        return revision_of(self.cluster.store.records[KEY].voice.spec)
