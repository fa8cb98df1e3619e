"""The desired set as Kubernetes mounts it: replaced in one step, in one directory or many, and partly broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.mounted import Mount

from segue.desired import DesiredEntry, data_key
from segue.wire import FileSource, RevisionRequest
from segue_sidecar.desired.reading import MAX_FILE_BYTES, read_shelf, signature_of

REQUEST = RevisionRequest(engine="tiny", weights={"tone": FileSource(uri="s3://voices/1", sha256="ab" * 32)})


def entry(voice: str = "default/narrator", *, fence: str = "5.1", revision: str = "12" * 32) -> DesiredEntry:
    """An entry of some voice."""
    return DesiredEntry(voice=voice, uid="u-1", fence=fence, revision=revision, request=REQUEST)


def files(*entries: DesiredEntry) -> dict[str, str | bytes]:
    """As they stand in a ConfigMap."""
    return {data_key(one.voice): one.to_json() for one in entries}


def test_a_mount_is_read_and_so_is_what_replaces_it(tmp_path: Path) -> None:
    mount = Mount(tmp_path)
    mount.show(files(entry()))
    before = signature_of(tmp_path)
    assert dict(read_shelf(tmp_path).entries) == {"default/narrator": entry()}
    assert signature_of(tmp_path) == before

    mount.show(files(entry(fence="5.2"), entry("default/other")))
    assert signature_of(tmp_path) != before
    shelf = read_shelf(tmp_path)
    assert set(shelf.entries) == {"default/narrator", "default/other"}
    assert shelf.entries["default/narrator"].fence == "5.2"
    assert not shelf.problems


def test_each_shard_may_have_a_directory_of_its_own(tmp_path: Path) -> None:
    shards = [Mount(tmp_path / str(number)) for number in range(3)]
    shards[0].show(files(entry("default/a")))
    shards[2].show(files(entry("default/b")))
    before = signature_of(tmp_path)
    assert set(read_shelf(tmp_path).entries) == {"default/a", "default/b"}
    shards[1].show(files(entry("default/c")))
    assert signature_of(tmp_path) != before
    assert set(read_shelf(tmp_path).entries) == {"default/a", "default/b", "default/c"}


def test_plain_files_will_do(tmp_path: Path) -> None:
    path = tmp_path / data_key("default/narrator")
    path.write_text(entry().to_json())
    before = signature_of(tmp_path)
    assert set(read_shelf(tmp_path).entries) == {"default/narrator"}
    path.write_text(entry(fence="5.1234").to_json())
    assert signature_of(tmp_path) != before


def test_of_two_entries_for_a_voice_the_higher_fence_counts(tmp_path: Path) -> None:
    Mount(tmp_path / "0").show(files(entry(fence="5.10")))
    Mount(tmp_path / "1").show(files(entry(fence="5.9")))
    assert read_shelf(tmp_path).entries["default/narrator"].fence == "5.10"


@pytest.mark.parametrize(
    ("name", "content", "reason", "message"),
    [
        ("default.bad", b"{", "Invalid", "document"),
        ("default.bad", b"\xff\xfe", "Invalid", "document"),
        ("default.bad", b"", "Invalid", "document"),
        ("default.bad", b'{"voice": "default/bad"}', "Invalid", "uid"),
        ("default.bad", entry("default/other").to_json().encode(), "Invalid", "belongs under default.other"),
        ("default.bad", b" " * (MAX_FILE_BYTES + 1), "Invalid", "larger"),
    ],
)
def test_a_file_that_is_no_entry_is_a_problem_and_the_others_count(
    tmp_path: Path, name: str, content: bytes, reason: str, message: str
) -> None:
    Mount(tmp_path).show({**files(entry()), name: content})
    shelf = read_shelf(tmp_path)
    assert set(shelf.entries) == {"default/narrator"}
    (problem,) = shelf.problems
    assert (problem.source, problem.reason) == (name, reason)
    assert message in problem.message


def test_a_link_that_leads_nowhere_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "default.gone").symlink_to(tmp_path / "nothing")
    (problem,) = read_shelf(tmp_path).problems
    assert (problem.source, problem.reason) == ("default.gone", "Unreadable")


def test_no_directory_is_a_problem_and_no_entries(tmp_path: Path) -> None:
    shelf = read_shelf(tmp_path / "none")
    assert not shelf.entries
    assert shelf.problems[0].reason == "Unreadable"


def test_an_empty_mount_is_nothing(tmp_path: Path) -> None:
    assert read_shelf(tmp_path).problems == ()
    Mount(tmp_path).show({})
    assert not read_shelf(tmp_path).entries
