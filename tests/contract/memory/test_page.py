"""The pointer page: one store is one word, seen whole by everyone, and only its owner can make one."""

from __future__ import annotations

import fcntl
import mmap
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.memory import open_fds, raw_memfd
from tests.support.memory_peer import MemoryPeer

from segue.errors import ArenaCorrupt
from segue.memory import memfd
from segue.memory.page import COLD, PAGE_BYTES, SLOTS, Mode, PageReader, PointerPage, Word

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="starting a process under another UID takes root")

words = st.builds(
    lambda active, candidate, mode, weight, epoch: Word(
        active=active, candidate=candidate, mode=mode, weight=weight if candidate else 0, epoch=epoch
    ),
    st.integers(1, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.sampled_from(Mode),
    st.integers(0, 10_000),
    st.integers(0, 0xFFFF),
)


@given(words)
def test_a_word_survives_packing(word: Word) -> None:
    assert Word.unpack(word.pack()) == word


@given(st.integers(0, 2**64 - 1))
def test_any_u64_is_either_a_word_that_packs_back_or_refused(raw: int) -> None:
    try:
        word = Word.unpack(raw)
    except ArenaCorrupt:
        return
    assert word.pack() == raw


def test_the_bits_lie_where_the_contract_says() -> None:
    word = Word(active=0x1234, candidate=0x5678, mode=Mode.MIRROR, weight=10_000, epoch=0x9ABC)
    assert word.pack() == 0x1234_5678 << 32 | 1 << 30 | 10_000 << 16 | 0x9ABC
    assert COLD.pack() == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"active": 0x10000},
        {"active": -1},
        {"active": 1, "candidate": 2, "weight": 10_001},
        {"active": 1, "epoch": 0x10000},
        {"candidate": 2},
        {"active": 1, "weight": 1},
    ],
)
def test_words_that_mean_nothing_cannot_be_made(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="word"):
        Word(**fields)  # type: ignore[arg-type]


def test_the_epoch_counts_up_and_wraps() -> None:
    word = Word(active=1, epoch=0xFFFF).followed_by(active=2, candidate=3, weight=500)
    assert word == Word(active=2, candidate=3, weight=500, epoch=0)
    assert word.handles == {2, 3}


def test_a_worker_sees_what_the_sidecar_stores() -> None:
    before = open_fds()
    page = PointerPage.create()
    lent = page.export()
    reader = PageReader(lent)
    assert reader.load(0) == reader.load(SLOTS - 1) == COLD
    page.store(SLOTS - 1, Word(active=7, epoch=1))
    page.beat(term=1_700_000_000)
    assert reader.load(SLOTS - 1) == Word(active=7, epoch=1)
    assert reader.page_id == page.page_id != 0
    assert (reader.term, reader.sidecar_pid) == (1_700_000_000, os.getpid())
    assert 0 <= reader.heartbeat_age_s() < 60
    for slot in (-1, SLOTS):
        with pytest.raises(IndexError, match="outside"):
            reader.load(slot)
    reader.close()
    page.close()
    page.close()
    os.close(lent)
    assert open_fds() == before


def test_what_a_worker_gets_is_read_only() -> None:
    page = PointerPage.create()
    lent = page.export()
    with pytest.raises(PermissionError):
        mmap.mmap(lent, PAGE_BYTES, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    with pytest.raises(OSError, match="Bad file"):
        os.pwrite(lent, b"x", 0)
    os.close(lent)
    page.close()


@needs_root
def test_a_worker_of_another_uid_can_neither_write_reopen_nor_chmod_the_page() -> None:
    page = PointerPage.create()
    lent = page.export()
    open_to_all = memfd.create("test-control", mode=0o666)
    with MemoryPeer(fds=[lent, open_to_all]) as peer:
        assert peer.ask("become", uid=65_534) == "uid 65534"
        assert peer.ask("reopen_writable", fd=open_to_all) == "reopened"
        assert peer.ask("map", fd=lent) == "mapped"
        assert peer.ask("map", fd=lent, write=True).startswith("PermissionError")
        assert peer.ask("reopen_writable", fd=lent).startswith("PermissionError")
        assert peer.ask("chmod", fd=lent).startswith("PermissionError")
    memfd.close_all([lent, open_to_all])
    page.close()


def test_nobody_can_truncate_or_seal_the_page_but_it_stays_writable() -> None:
    page = PointerPage.create()
    lent = page.export()
    again = memfd.reopen(lent, os.O_RDWR)
    for size in (0, PAGE_BYTES * 2):
        with pytest.raises(PermissionError):
            os.ftruncate(again, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(again, fcntl.F_ADD_SEALS, memfd.F_SEAL_FUTURE_WRITE)
    memfd.close_all([lent, again])
    page.close()


def test_a_restarted_sidecar_goes_on_with_a_workers_page() -> None:
    page = PointerPage.create()
    page.store(3, Word(active=9, epoch=4))
    lent, page_id = page.export(), page.page_id
    reader = PageReader(lent)
    page.close()
    adopted = PointerPage.adopt(lent)
    assert (adopted.page_id, adopted.load(3)) == (page_id, Word(active=9, epoch=4))
    adopted.store(3, Word(active=10, epoch=5))
    assert reader.load(3) == Word(active=10, epoch=5)
    reader.close()
    adopted.close()
    os.close(lent)


@needs_root
def test_only_a_sidecar_of_the_same_uid_can_go_on_with_a_page() -> None:
    sidecar_uid, server_uid = 65_533, 65_534
    with MemoryPeer() as first:
        assert first.ask("become", uid=sidecar_uid) == f"uid {sidecar_uid}"
        exported = first.ask("create_page")
        lent = os.open(f"/proc/{first.pid}/fd/{exported}", os.O_RDONLY)
        first.kill()
    reader = PageReader(lent)
    with MemoryPeer(fds=[lent]) as worker:
        worker.ask("become", uid=server_uid)
        assert "belongs to uid 65533" in worker.ask("adopt_page", fd=lent)
    assert reader.load(3) == Word(active=9, epoch=4)
    with MemoryPeer(fds=[lent]) as second:
        second.ask("become", uid=sidecar_uid)
        assert second.ask("adopt_page", fd=lent) == "adopted"
    assert reader.load(3) == Word(active=10, epoch=5)
    reader.close()
    os.close(lent)


@pytest.mark.parametrize(
    ("content", "seals", "says"),
    [
        pytest.param(bytes(PAGE_BYTES), memfd.SEALS_PAGE, "not a pointer page", id="zeros"),
        pytest.param(bytes(PAGE_BYTES - 8), memfd.SEALS_PAGE, "bytes instead of", id="size"),
        pytest.param(bytes(PAGE_BYTES), 0, "needs", id="unsealed"),
        pytest.param(bytes(PAGE_BYTES), memfd.SEALS_ARENA, "sealed against writing", id="write seal"),
        pytest.param(
            bytes(PAGE_BYTES), memfd.SEALS_PAGE | memfd.F_SEAL_FUTURE_WRITE, "sealed against writing", id="future write"
        ),
    ],
)
def test_what_is_no_page_is_neither_read_nor_adopted(content: bytes, seals: int, says: str) -> None:
    before = open_fds()
    fd = raw_memfd(content, seals=seals)
    with pytest.raises(ArenaCorrupt, match=says):
        PageReader(fd)
    with pytest.raises(ArenaCorrupt, match=says):
        PointerPage.adopt(fd)
    os.close(fd)
    assert open_fds() == before


def test_a_page_with_another_mode_is_not_adopted() -> None:
    page = PointerPage.create()
    lent = page.export()
    os.fchmod(lent, 0o666)
    with pytest.raises(ArenaCorrupt, match="mode 666"):
        PointerPage.adopt(lent)
    os.close(lent)
    page.close()


@pytest.mark.process
def test_a_concurrent_reader_never_sees_half_a_word() -> None:
    """Two words that differ in every byte are stored in turn; another process must read one of them, or the first 0."""
    ones, twos = Word(active=0x1111, epoch=0x1111), Word(active=0xFEFE, candidate=0xFEFE, weight=9999, epoch=0xFEFE)
    page = PointerPage.create()
    lent = page.export()
    stop = threading.Event()

    def store() -> None:
        while not stop.is_set():
            for _ in range(1000):
                page.store(0, ones)
                page.store(0, twos)

    storing = threading.Thread(target=store)
    with MemoryPeer(fds=[lent]) as peer:
        page.store(0, ones)
        storing.start()
        result = peer.ask("hammer", fd=lent, index=192, allowed=[ones.pack(), twos.pack()], reads=2_000_000)
        stop.set()
        storing.join()
    os.close(lent)
    page.close()
    assert result == {"wrong": 0, "distinct": 2}
