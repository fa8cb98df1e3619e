"""The kinds of weight memory under one roof, on a driver without a device, for tests that hold for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.fakes import cuda_driver as fake
from tests.support.memory import prepared_part

from segue.engine import PartView
from segue.memory.arena import ArenaPlan
from segue.memory.device.array import DeviceArray
from segue.memory.device.copying import CopyMapper
from segue.memory.device.device import CudaDevice
from segue.memory.device.driver import Driver
from segue.memory.device.mapping import SharedMapper
from segue.memory.device.shared import SharedDeviceMemory
from segue.memory.device.slots import SlotPool
from segue.memory.device.uploading import upload
from segue.memory.host import HostMapper, HostMemory
from segue.memory.interface import MappedPart, WeightMapper, WeightMemory
from segue.memory.messages import PartRef
from segue.memory.mode import MemoryMode

MIB = 1 << 20
FAKE_DRIVER = "tests.fakes.cuda_driver"


def fake_device() -> CudaDevice:
    """`cuda:0` of the driver without a device."""
    return CudaDevice(Driver(fake))


@dataclass
class Setup:
    """An owner's memory and a reader's mapper of one kind."""

    mode: MemoryMode
    memory: WeightMemory
    mapper: WeightMapper
    slots: SlotPool | None = None

    def lay_in(
        self, *, fill: float = 1.0, values: int = 1_000_000, name: str = "timbre", owner: str = "rev-a"
    ) -> PartRef:
        """One part of about 4 MB, written, sealed and, where that is needed, uploaded."""
        part = self.seal_in(fill=fill, values=values, name=name, owner=owner)
        self.finish_uploads(part)
        return part

    def seal_in(self, *, fill: float = 1.0, values: int = 1_000_000, name: str = "timbre", owner: str) -> PartRef:
        """One part, written and sealed."""
        plan = ArenaPlan.of(prepared_part(fill=fill, values=values))
        allocation = self.memory.allocate(plan.total_bytes, name=name)
        plan.write(allocation.fd)
        return self.memory.seal(allocation, owner=owner)

    def finish_uploads(self, *parts: PartRef) -> None:
        """What the uploading child does."""
        for each in self.memory.uploads([part.digest for part in parts]):
            upload(fake_device(), each.fds, each.part)
            self.memory.uploaded(each.part.digest)

    def map(self, part: PartRef) -> MappedPart:
        """As a worker does with an offer."""
        return self.mapper.map(self.memory.export(part.digest), part)


def make_setup(mode: MemoryMode, *, budget_bytes: int = 64 * MIB, elsewhere: Elsewhere | None = None) -> Setup:
    """A settled memory of this kind, and a mapper for it."""
    run = {} if elsewhere is None else {"elsewhere": elsewhere}
    memory, mapper, slots = owner(mode, budget_bytes=budget_bytes), reader(mode, budget_bytes=budget_bytes, **run), None
    if isinstance(mapper, CopyMapper):
        slots = mapper.slots
    memory.settle()
    return Setup(mode, memory, mapper, slots)


Elsewhere = Callable[[Callable[[], None]], "Future[None]"]


def owner(mode: MemoryMode, *, budget_bytes: int = 64 * MIB) -> WeightMemory:
    """The sidecar's side, not settled yet."""
    if mode is MemoryMode.GPU_SHARED:
        return SharedDeviceMemory(
            fake_device(), budget_bytes=budget_bytes, staging=HostMemory(64 * MIB), driver=FAKE_DRIVER
        )
    return HostMemory(budget_bytes)


def reader(mode: MemoryMode, *, budget_bytes: int = 64 * MIB, **more: Any) -> WeightMapper:
    """The worker's side."""
    match mode:
        case MemoryMode.HOST:
            return HostMapper()
        case MemoryMode.GPU_SHARED:
            return SharedMapper(fake_device(), **more)
        case MemoryMode.GPU_COPY:
            device = fake_device()
            return CopyMapper(device, SlotPool(device, budget_bytes))


def tensor(view: PartView, name: str) -> NDArray[Any]:
    """A tensor of a part, as numpy sees it wherever it lies; keeps the part mapped."""
    found = view.tensors[name]
    return np.from_dlpack(found) if isinstance(found, DeviceArray) else found


def inodes(fds: Sequence[int]) -> list[int]:
    """What files descriptors are of."""
    return [os.fstat(fd).st_ino for fd in fds]


@dataclass
class LaterThread:
    """Stands for the unmapping thread: jobs wait until the test has them done."""

    jobs: list[tuple[Callable[[], None], Future[None]]] = field(default_factory=list)

    def __call__(self, job: Callable[[], None]) -> Future[None]:
        self.jobs.append((job, Future()))
        return self.jobs[-1][1]

    def run(self) -> None:
        """Do what waits."""
        while self.jobs:
            job, done = self.jobs.pop(0)
            job()
            done.set_result(None)
