"""The journal: the last value counts, whatever a kill, a full disk or a bad sector did."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue_sidecar.journal import COMPACT_AT_BYTES, Journal, JournalError, replay


def opened(path: Path) -> Journal:
    journal = Journal(path)
    journal.open()
    return journal


def read(path: Path) -> dict[str, dict[str, object]]:
    return replay(path.read_bytes()).records


def test_the_last_value_of_a_key_counts(tmp_path: Path) -> None:
    path = tmp_path / "j" / "journal.log"
    journal = opened(path)
    journal.put("voice a", {"n": 1})
    journal.put("voice b", {"n": 2})
    journal.put("voice a", {"n": 3})
    journal.remove("voice b")
    journal.close()
    again = Journal(path)
    assert again.open().records == {"voice a": {"n": 3}}
    again.close()


@given(cut=st.integers(min_value=0, max_value=200))
def test_a_torn_tail_loses_the_last_record_at_most(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "journal.log"
    journal = opened(path)
    journal.put("a", {"n": 1})
    before = path.stat().st_size
    journal.put("b", {"n": 2})
    journal.close()
    content = path.read_bytes()
    kept = content[: max(before, len(content) - cut)]
    expected = {"a": {"n": 1}} | ({"b": {"n": 2}} if kept == content else {})
    assert replay(kept).records == expected


def test_a_damaged_line_is_skipped_and_told(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    journal = opened(path)
    journal.put("a", {"n": 1})
    journal.put("b", {"n": 2})
    journal.close()
    replayed = replay(path.read_bytes().replace(b'"n":1', b'"n":9'))
    assert replayed.records == {"b": {"n": 2}}
    assert replayed.damaged_lines == 1


@given(content=st.binary(max_size=300))
def test_no_bytes_break_a_replay(content: bytes) -> None:
    assert replay(content).records == {}


def test_compacting_keeps_what_counts_and_little_else(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    journal = opened(path)
    for number in range(200):
        journal.put("a", {"text": "x" * (COMPACT_AT_BYTES // 100), "n": number})
    assert journal.wants_compacting()
    journal.compact()
    journal.put("b", {"n": 1})
    journal.close()
    assert path.stat().st_size < COMPACT_AT_BYTES // 50
    assert read(path)["a"]["n"] == 199
    assert read(path)["b"] == {"n": 1}


def test_a_full_disk_leaves_the_log_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.log"
    journal = opened(path)
    journal.put("a", {"n": 1})
    write = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(JournalError, match="make room"):
        journal.put("b", {"n": 2})
    monkeypatch.undo()
    journal.put("c", {"n": 3})
    journal.close()
    assert read(path) == {"a": {"n": 1}, "c": {"n": 3}}
