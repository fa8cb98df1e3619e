"""An arena gives back exactly what was laid in, and nothing that is not an arena gets mapped."""

from __future__ import annotations

import errno
import gc
import json
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.support.memory import open_fds, prepared_part, raw_memfd, written_memfd

from segue.engine import PreparedPart
from segue.errors import ArenaCorrupt, DigestMismatch, MemoryError_, ShapeMismatch
from segue.memory import arena, memfd
from segue.memory.arena import Arena, ArenaPlan
from segue.memory.arena_header import DTYPES, PREAMBLE, parse_header


def content_of(part: PreparedPart) -> bytes:
    fd = written_memfd(part)
    try:
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def with_header(document: object, *, data: int = 8192, **preamble: int) -> bytes:
    """An arena with this JSON; `preamble` overrides what the preamble says."""
    header = document if isinstance(document, bytes) else json.dumps(document).encode()
    data_offset = -(-(PREAMBLE.size + len(header)) // 4096) * 4096
    fields = {"version": 1, "length": len(header), "total": data_offset + data, "data_offset": data_offset} | preamble
    head = PREAMBLE.pack(
        b"SEGUEAR1", fields["version"], fields["length"], fields["total"], fields["data_offset"], bytes(32)
    )
    return (head + header).ljust(data_offset + data, b"\0")


def test_every_dtype_and_shape_comes_back_as_it_went_in() -> None:
    tensors: dict[str, NDArray[Any]] = {name: (np.arange(6).reshape(1, 2, 3) % 2).astype(name) for name in DTYPES}
    tensors |= {"scalar": np.array(3.5, dtype=np.float32), "empty": np.empty((0, 4), dtype=np.float16)}
    fd = written_memfd(PreparedPart(tensors=tensors, meta={"speaker": "m3", "größe": [1, None, {"x": 0.5}]}))
    opened = Arena.open(fd)
    views = opened.views()
    assert views.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(views[name], tensor, strict=True)
        assert not views[name].flags.writeable
        assert tensor.size == 0 or views[name].ctypes.data % 64 == 0
    assert opened.meta == {"speaker": "m3", "größe": [1, None, {"x": 0.5}]}
    opened.verify_digest()
    views.clear()
    opened.close()
    os.close(fd)


def test_the_same_content_gives_the_same_bytes_whatever_the_order() -> None:
    part = prepared_part()
    turned = PreparedPart(tensors=dict(reversed(list(part.tensors.items()))), meta=part.meta)
    assert content_of(part) == content_of(turned)
    assert ArenaPlan.of(part).digest == ArenaPlan.of(turned).digest != ArenaPlan.of(prepared_part(fill=2)).digest


def test_the_digest_is_known_before_memory_is_taken() -> None:
    plan = ArenaPlan.of(prepared_part())
    fd = written_memfd()
    opened = Arena.open(fd)
    assert (opened.digest, opened.size_bytes) == (plan.digest, plan.total_bytes)
    opened.close()
    os.close(fd)


def test_meta_is_part_of_the_key() -> None:
    assert ArenaPlan.of(prepared_part(meta={"a": 1})).digest != ArenaPlan.of(prepared_part(meta={"a": 2})).digest


def test_writing_can_be_throttled_and_stopped_between_steps_and_leaves_no_arena() -> None:
    plan = ArenaPlan.of(prepared_part(values=3_000_000))
    fd = memfd.create("test")
    os.ftruncate(fd, plan.total_bytes)
    seen: list[int] = []

    def stop_after_two(done_bytes: int) -> None:
        seen.append(done_bytes)
        if done_bytes > 8 << 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan.write(fd, step=stop_after_two)
    assert all(later - earlier <= arena.STEP_BYTES for earlier, later in zip([0, *seen], seen, strict=False))
    arena.seal(fd)
    with pytest.raises(ArenaCorrupt, match="never finished"):
        Arena.open(fd)
    os.close(fd)


def test_close_refuses_while_a_view_lives_and_the_view_stays_readable() -> None:
    fd = written_memfd()
    opened = Arena.open(fd)
    view = opened.views()["weight"][10:20]
    with pytest.raises(BufferError):
        opened.close()
    assert view.sum() == 10.0
    del view
    gc.collect()
    opened.close()
    opened.close()
    assert opened.closed
    os.close(fd)


def test_views_lie_inside_the_mapping_and_prefault_is_harmless() -> None:
    fd = written_memfd()
    opened = Arena.open(fd)
    opened.prefault()
    start, end = opened.address_range()
    assert all(start <= view.ctypes.data and view.ctypes.data + view.nbytes <= end for view in opened.views().values())
    opened.close()
    os.close(fd)


def test_a_sealed_arena_cannot_be_written_resized_unsealed_or_mapped_writable() -> None:
    fd = written_memfd()
    again = memfd.reopen(fd, os.O_RDWR)
    for attempt in (
        lambda: os.pwrite(again, b"x", 100),
        lambda: os.ftruncate(again, 10),
        lambda: os.ftruncate(again, 1 << 20),
        lambda: mmap.mmap(again, 4096, flags=mmap.MAP_SHARED, prot=mmap.PROT_WRITE),
        lambda: os.posix_fallocate(again, 0, 1 << 20),
    ):
        with pytest.raises(OSError, match="not permitted") as caught:
            attempt()
        assert caught.value.errno == errno.EPERM
    with pytest.raises(MemoryError_, match="sealed already"):
        memfd.add_seals(again, memfd.F_SEAL_FUTURE_WRITE)
    os.close(again)
    os.close(fd)


def test_sealing_waits_for_the_writer_to_unmap() -> None:
    fd = written_memfd(sealed=False)
    mapping = mmap.mmap(fd, 4096, flags=mmap.MAP_SHARED, prot=mmap.PROT_WRITE)
    with pytest.raises(MemoryError_, match="unmap it"):
        arena.seal(fd)
    mapping.close()
    arena.seal(fd)
    os.close(fd)


@pytest.fixture
def held_page() -> Iterator[tuple[int, Callable[[], object]]]:
    """A written arena of which a pipe holds a page, as compaction or reclaim hold one; and what lets it go."""
    fd = written_memfd(sealed=False)
    reader, writer = os.pipe()
    os.splice(fd, writer, 4096, offset_src=0)
    yield fd, lambda: len(os.read(reader, 4096))
    memfd.close_all([fd, reader, writer])


def test_sealing_gives_up_at_once_while_a_page_is_held(held_page: tuple[int, Callable[[], object]]) -> None:
    fd, _ = held_page
    with pytest.raises(MemoryError_, match=r"held elsewhere after 0 s"):
        arena.seal(fd)


def test_a_patient_writer_seals_once_the_page_is_let_go(
    held_page: tuple[int, Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fd, let_go = held_page
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        let_go()

    monkeypatch.setattr("segue.memory.memfd.time.sleep", pause)
    arena.seal(fd, patience_s=memfd.SEALING_PATIENCE_S)
    assert len(pauses) == 1, "the kernel had said busy once"
    assert memfd.seals_of(fd) & memfd.SEALS_ARENA == memfd.SEALS_ARENA


def test_patience_ends(held_page: tuple[int, Callable[[], object]]) -> None:
    fd, _ = held_page
    with pytest.raises(MemoryError_, match=r"held elsewhere after 0\.05 s"):
        arena.seal(fd, patience_s=0.05)
    assert not memfd.seals_of(fd) & memfd.SEALS_ARENA


def test_a_flipped_byte_anywhere_in_the_content_is_found() -> None:
    content = bytearray(content_of(prepared_part()))
    content[-5] ^= 1
    fd = raw_memfd(bytes(content))
    opened = Arena.open(fd)
    with pytest.raises(DigestMismatch, match="header says"):
        opened.verify_digest()
    opened.close()
    os.close(fd)


def test_a_true_digest_that_is_not_the_journals_is_refused() -> None:
    fd = written_memfd()
    opened = Arena.open(fd)
    with pytest.raises(DigestMismatch, match="journal says"):
        opened.verify_digest("0" * 64)
    opened.close()
    os.close(fd)


def test_an_arena_that_could_still_change_is_refused(tmp_path: Path) -> None:
    unsealed = written_memfd(sealed=False)
    plain = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.pwrite(plain, content_of(prepared_part()), 0)
    for fd in (unsealed, plain):
        with pytest.raises(ArenaCorrupt, match="refused"):
            Arena.open(fd)
        with pytest.raises(ArenaCorrupt, match="refused"):
            arena.check_adoptable(fd, uid=os.geteuid(), size_bytes=os.fstat(fd).st_size)
        os.close(fd)


def test_adoption_looks_at_owner_and_size() -> None:
    fd = written_memfd()
    size = os.fstat(fd).st_size
    arena.check_adoptable(fd, uid=os.geteuid(), size_bytes=size)
    with pytest.raises(ArenaCorrupt, match="belongs to uid"):
        arena.check_adoptable(fd, uid=os.geteuid() + 1, size_bytes=size)
    with pytest.raises(ArenaCorrupt, match="the journal says"):
        arena.check_adoptable(fd, uid=os.geteuid(), size_bytes=size + 1)
    os.close(fd)
    pipe = os.pipe()
    with pytest.raises(ArenaCorrupt, match="not a regular file"):
        arena.check_adoptable(pipe[0], uid=os.geteuid(), size_bytes=0)
    memfd.close_all(pipe)


ROW = ["w", "float32", [4], 0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "fewer than its preamble", id="empty"),
        pytest.param(b"SEGUEAR1", "fewer than its preamble", id="short"),
        pytest.param(bytes(8192), "instead of b'SEGUEAR1'", id="no magic"),
        pytest.param(with_header({"tensors": [], "meta": {}}, version=9), "version 9", id="version"),
        pytest.param(with_header({"tensors": [], "meta": {}}, total=99), "says 99 bytes", id="total"),
        pytest.param(with_header({"tensors": [], "meta": {}}, length=1 << 31), "does not fit", id="long header"),
        pytest.param(with_header({"tensors": [], "meta": {}}, data_offset=8192), "does not fit", id="moved data"),
        pytest.param(with_header(b"{nonsense"), "not JSON", id="no json"),
        pytest.param(with_header(b"\xff\xfe\x00"), "not JSON", id="no text"),
        pytest.param(with_header(b"[" * 200_000), "not JSON", id="deep json"),
        pytest.param(with_header([1]), "must be a JSON object", id="list"),
        pytest.param(with_header({"tensors": {}, "meta": {}}), "needs a list", id="no table"),
        pytest.param(with_header({"tensors": [], "meta": 3}), "needs a list", id="no meta"),
        pytest.param(with_header({"tensors": ["w"], "meta": {}}), "must be [name", id="row"),
        pytest.param(with_header({"tensors": [["w", "float32", [True], 0]], "meta": {}}), "must be [name", id="bool"),
        pytest.param(with_header({"tensors": [["w", "float32", [-4], 0]], "meta": {}}), "must be [name", id="minus"),
        pytest.param(with_header({"tensors": [["w", "float32", [4], -64]], "meta": {}}), "must be [name", id="before"),
        pytest.param(with_header({"tensors": [["w", "float32", [4.0], 0]], "meta": {}}), "must be [name", id="float"),
        pytest.param(with_header({"tensors": [["", "float32", [4], 0]], "meta": {}}), "tensor name", id="no name"),
        pytest.param(with_header({"tensors": [["w", "object", [4], 0]], "meta": {}}), "has dtype", id="object dtype"),
        pytest.param(with_header({"tensors": [["w", "float32", [1] * 9, 0]], "meta": {}}), "9 dimensions", id="dims"),
        pytest.param(with_header({"tensors": [["w", "float32", [4], 1]], "meta": {}}), "outside", id="misaligned"),
        pytest.param(with_header({"tensors": [["w", "float32", [4], 8192]], "meta": {}}), "outside", id="behind"),
        pytest.param(with_header({"tensors": [["w", "float32", [2049], 0]], "meta": {}}), "outside", id="too long"),
        pytest.param(with_header({"tensors": [["w", "int8", [2**62, 4], 0]], "meta": {}}), "outside", id="overflow"),
        pytest.param(with_header({"tensors": [["w", "int8", [2**62, 0], 0]], "meta": {}}), "outside", id="huge empty"),
        pytest.param(with_header({"tensors": [ROW, ROW], "meta": {}}), "twice", id="twice"),
        pytest.param(with_header({"tensors": [ROW, ["v", *ROW[1:]]], "meta": {}}), "overlaps", id="overlap"),
    ],
)
def test_a_hostile_header_is_refused_with_the_reason(content: bytes, says: str) -> None:
    before = open_fds()
    fd = raw_memfd(content)
    with pytest.raises(ArenaCorrupt) as caught:
        Arena.open(fd)
    assert says in str(caught.value)
    os.close(fd)
    assert open_fds() == before


GOOD = content_of(prepared_part())
HEADER_END = PREAMBLE.size + struct.unpack_from("<I", GOOD, 12)[0]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, HEADER_END - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_damage_to_the_header_ever_yields_a_view_outside_the_arena(damage: list[tuple[int, int]]) -> None:
    content = bytearray(GOOD)
    for position, value in damage:
        content[position] = value
    try:
        header = parse_header(bytes(content))
    except ArenaCorrupt:
        return
    assert all(entry.offset >= 0 and entry.offset + entry.size_bytes <= len(content) for entry in header.entries)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        pytest.param(np.arange(6).reshape(2, 3).T, "not C-contiguous", id="strided"),
        pytest.param(np.array(["text"]), "has dtype", id="text"),
        pytest.param(np.array([object()]), "has dtype", id="objects"),
        pytest.param(np.zeros(3, dtype=">f4"), "has dtype", id="foreign byte order"),
        pytest.param(np.zeros((1,) * 9, dtype=np.float32), "9 dimensions", id="dimensions"),
    ],
)
def test_tensors_that_cannot_be_mapped_are_refused_before_memory_is_taken(tensor: NDArray[Any], says: str) -> None:
    with pytest.raises(ShapeMismatch, match=says):
        ArenaPlan.of(PreparedPart(tensors={"bad": tensor}))


@pytest.mark.parametrize("meta", [{"x": float("nan")}, {"x": b"bytes"}, {"x": {1, 2}}])
def test_meta_must_be_plain_json(meta: dict[str, Any]) -> None:
    with pytest.raises(ShapeMismatch, match="plain JSON"):
        ArenaPlan.of(prepared_part(meta=meta))
