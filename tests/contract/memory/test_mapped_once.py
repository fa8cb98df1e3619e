"""The same part in several revisions is one mapping, which goes with the last of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typing_extensions import override

from segue.engine import PreparedPart
from segue.errors import ArenaCorrupt
from segue.memory.arena import ArenaPlan
from segue.memory.host import HostMapper, HostMemory
from segue.memory.interface import MappedPart, WeightMapper
from segue.memory.mapped_once import MapOnce
from segue.memory.messages import PartRef
from segue.memory.voice_view import shared_part, voice_view


def _memory(*values: float) -> tuple[HostMemory, list[PartRef]]:
    memory = HostMemory(64 << 20, spares=0)
    memory.settle()
    return memory, [_filled(memory, value) for value in values]


def _filled(memory: HostMemory, value: float) -> PartRef:
    plan = ArenaPlan.of(PreparedPart(tensors={"w": np.full(5000, value, np.float32)}))
    allocation = memory.allocate(plan.total_bytes, name="gpt")
    plan.write(allocation.fd)
    return memory.seal(allocation, owner=f"v@{value}")


def _mappings() -> int:
    return Path("/proc/self/maps").read_text().count("segue")


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_one_mapping_serves_all_and_goes_with_the_last() -> None:
    memory, (part,) = _memory(1.0)
    mapper, before, open_before = MapOnce(HostMapper()), _mappings(), _descriptors()
    first = mapper.map(memory.export(part.digest), part)
    open_once = _descriptors()
    second = mapper.map(memory.export(part.digest), part)
    assert first.address_range() == second.address_range()
    assert _descriptors() == open_once
    first.close()
    first.close()
    assert second.view().tensors["w"][0] == 1.0
    second.close()
    assert (_mappings(), _descriptors()) == (before, open_before)
    memory.release(part.digest, owner="v@1.0")
    memory.reap()
    assert memory.usage().used_bytes == 0
    memory.close()


def test_the_last_stays_until_its_views_are_gone() -> None:
    memory, (part,) = _memory(1.0)
    mapper = MapOnce(HostMapper())
    first, second = (mapper.map(memory.export(part.digest), part) for _ in range(2))
    view = first.view().tensors["w"]
    first.close()
    with pytest.raises(BufferError):
        second.close()
    assert view[0] == 1.0
    third = mapper.map(memory.export(part.digest), part)
    assert third.address_range() == second.address_range()
    second.close()
    del view
    third.close()
    memory.close()


def test_different_parts_are_different_mappings_and_are_mapped_anew_after_they_went() -> None:
    memory, (one, other) = _memory(1.0, 2.0)
    mapper = MapOnce(HostMapper())
    first, second = mapper.map(memory.export(one.digest), one), mapper.map(memory.export(other.digest), other)
    assert first.address_range() != second.address_range()
    first.close()
    again = mapper.map(memory.export(one.digest), one)
    assert again.view().tensors["w"][0] == 1.0
    again.close()
    second.close()
    memory.close()


def test_a_size_that_does_not_fit_what_is_mapped_is_refused_without_a_leak() -> None:
    memory, (part,) = _memory(1.0)
    mapper = MapOnce(HostMapper())
    mapped = mapper.map(memory.export(part.digest), part)
    before = _descriptors()
    with pytest.raises(ArenaCorrupt, match="offered with 1 bytes"):
        mapper.map(memory.export(part.digest), PartRef(name="gpt", digest=part.digest, size_bytes=1))
    assert _descriptors() == before
    mapped.close()
    memory.close()


def test_shared_models_are_told_apart_by_their_name() -> None:
    memory, (own, model) = _memory(1.0, 2.0)
    mapper = MapOnce(HostMapper())
    shared = PartRef(name=shared_part("roberta"), digest=model.digest, size_bytes=model.size_bytes)
    parts = [mapper.map(memory.export(part.digest), part) for part in (own, shared)]
    view = voice_view(parts, options={"speed": 1.1})
    assert (list(view.parts), list(view.shared)) == (["gpt"], ["roberta"])
    assert view.shared["roberta"].digest == model.digest
    assert view.options == {"speed": 1.1}
    del view
    for part in parts:
        part.close()
    memory.close()


class _Slow(WeightMapper):
    """Maps when the test says so, as a copy to a device takes its time."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    @override
    def map(self, fds: Sequence[int], part: PartRef) -> MappedPart:
        self.begun.set()
        assert self.go_on.wait(10)
        return HostMapper().map(fds, part)


def test_letting_go_does_not_wait_for_a_mapping_that_takes_long() -> None:
    memory, (one, other) = _memory(1.0, 2.0)
    slow = _Slow()
    mapper = MapOnce(slow)
    slow.go_on.set()
    leaving = mapper.map(memory.export(one.digest), one)
    slow.go_on.clear()
    slow.begun.clear()
    coming: list[MappedPart] = []
    thread = threading.Thread(target=lambda: coming.append(mapper.map(memory.export(other.digest), other)))
    thread.start()
    assert slow.begun.wait(10)
    leaving.close()
    assert not coming
    slow.go_on.set()
    thread.join(10)
    coming[0].close()
    memory.close()
