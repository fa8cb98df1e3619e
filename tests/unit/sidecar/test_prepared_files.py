"""Prepared parts on disk: written whole or not at all, bounded, and never believed beyond their digest."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segue.engine import PreparedPart
from segue.memory import arena, memfd
from segue.memory.arena import Arena, ArenaPlan
from segue_sidecar.children import load, store
from segue_sidecar.children.channel import Channel, JobError

MIB = 1 << 20


@pytest.fixture
def channel() -> Iterator[Channel]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield Channel(theirs)


def made(number: int, *, values: int = 5 * MIB // 4) -> tuple[int, ArenaPlan]:
    """A sealed arena over more than one step, and its plan."""
    plan = ArenaPlan.of(PreparedPart(tensors={"tone": np.full(values, number, np.float32)}, meta={"n": number}))
    fd = memfd.create("test")
    plan.write(fd)
    arena.seal(fd)
    return fd, plan


def job(folder: Path, plan: ArenaPlan, *, most_bytes: int = 1 << 30) -> dict[str, Any]:
    """Of both children, for one part."""
    path = folder / "kind" / plan.digest
    part = {"name": "tone", "digest": plan.digest, "size": plan.total_bytes, "path": str(path)}
    return {
        "folder": str(folder),
        "parts": [part],
        "mostBytes": most_bytes,
        "memory": {"mode": "host", "device": "cpu"},
    }


def keep(folder: Path, channel: Channel, number: int, *, most_bytes: int = 1 << 30) -> tuple[dict[str, Any], Path]:
    """Store one part; its job, and its file."""
    fd, plan = made(number)
    wanted = job(folder, plan, most_bytes=most_bytes)
    try:
        store.run(wanted, [fd], channel)
    finally:
        os.close(fd)
    return wanted, Path(wanted["parts"][0]["path"])


def test_what_was_stored_is_loaded_as_the_arena_that_it_was(tmp_path: Path, channel: Channel) -> None:
    wanted, file = keep(tmp_path, channel, 1)
    fd = memfd.create("again")
    load.run(wanted, [memfd.reopen(fd, os.O_RDWR)], channel)
    loaded = Arena.open(fd)  # checks the seals
    loaded.verify_digest(wanted["parts"][0]["digest"])
    assert loaded.meta == {"n": 1}
    loaded.close()
    os.close(fd)
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("where", [0.0, 0.3, 0.999])
def test_one_flipped_bit_is_found_and_the_file_removed(tmp_path: Path, channel: Channel, where: float) -> None:
    wanted, file = keep(tmp_path, channel, 1)
    content = bytearray(file.read_bytes())
    content[64 + int(where * (len(content) - 65))] ^= 1
    file.write_bytes(content)
    fd = memfd.create("again")
    with pytest.raises(JobError, match="not what the journal says") as error:
        load.run(wanted, [memfd.reopen(fd, os.O_RDWR)], channel)
    assert error.value.reason == "PreparedDamaged"
    assert not file.exists()
    assert os.pread(fd, 8, 0) == bytes(8)  # no preamble: it is no arena
    os.close(fd)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_size_is_refused_before_memory_is_filled(
    tmp_path: Path, channel: Channel, change: int
) -> None:
    wanted, file = keep(tmp_path, channel, 1)
    os.truncate(file, file.stat().st_size + change)
    fd = memfd.create("again")
    with pytest.raises(JobError, match="bytes instead of"):
        load.run(wanted, [memfd.reopen(fd, os.O_RDWR)], channel)
    assert os.fstat(fd).st_size == 0
    os.close(fd)


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path, channel: Channel) -> None:
    wanted, file = keep(tmp_path, channel, 1)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    fd = memfd.create("again")
    with pytest.raises(JobError) as error:
        load.run(wanted, [memfd.reopen(fd, os.O_RDWR)], channel)
    assert error.value.reason == "PreparedMissing"
    os.close(fd)


def test_the_folder_is_bounded_and_what_was_used_longest_ago_goes_first(tmp_path: Path, channel: Channel) -> None:
    _, plan = made(0)
    most_bytes = 2 * plan.total_bytes + 1
    wanted, first = keep(tmp_path, channel, 1, most_bytes=most_bytes)
    _, second = keep(tmp_path, channel, 2, most_bytes=most_bytes)
    os.utime(first, (1_000, 1_000))
    os.utime(second, (2_000, 2_000))
    fd = memfd.create("again")
    load.run(wanted, [memfd.reopen(fd, os.O_RDWR)], channel)  # the first is the one used last, now
    os.close(fd)
    _, third = keep(tmp_path, channel, 3, most_bytes=most_bytes)
    assert [first.exists(), second.exists(), third.exists()] == [True, False, True]


def test_a_part_over_the_whole_bound_removes_nothing(tmp_path: Path, channel: Channel) -> None:
    _, first = keep(tmp_path, channel, 1)
    with pytest.raises(JobError) as error:
        keep(tmp_path, channel, 2, most_bytes=MIB)
    assert error.value.reason == "OverBudget"
    assert first.exists()


def test_a_folder_that_takes_nothing_is_named(tmp_path: Path, channel: Channel) -> None:
    (tmp_path / "kind").write_text("not a folder")
    with pytest.raises(JobError, match="cannot be used") as error:
        keep(tmp_path, channel, 1)
    assert error.value.reason == "CacheUnusable"


def test_half_written_files_of_killed_children_are_cleared_away(tmp_path: Path, channel: Channel) -> None:
    left = tmp_path / "kind" / "abc.17.partial"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    os.utime(left, (1_000, 1_000))
    keep(tmp_path, channel, 1)
    assert not left.exists()
