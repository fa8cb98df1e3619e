"""Shared models from a hub: resumed, checked, bounded; what stands for something else may be absent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.model_hub import COMMIT, REPOSITORY, Hub, serving
from typing_extensions import override

from segue.errors import DigestMismatch, FetchError, ForbiddenSource
from segue_sidecar.children import hub as child
from segue_sidecar.children.channel import Channel, JobError

LARGE = bytes(range(256)) * 1000
SMALL = b'{"layers": 2}'
FILES = ["ear/config.json", "ear/model.safetensors", "ear/pytorch_model.bin", "eye.ckpt"]


class Silent(Channel):
    """A channel with nobody at the other end."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, int, int]] = []

    @override
    def progress(self, stage: str, *, done: int, total: int) -> None:
        self.notes.append((stage, done, total))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(child, "_ATTEMPTS", 2)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving(Hub(files={"ear/config.json": SMALL, "ear/pytorch_model.bin": LARGE})) as hub:
        yield hub


def fetch(hub: Hub, cache: Path, **changes: Any) -> dict[str, Any]:
    revision = changes.pop("revision", COMMIT)
    repository, endpoint = changes.pop("repository", REPOSITORY), changes.pop("endpoint", hub.url)
    job = {
        "hub": {"repository": repository, "revision": revision, "endpoint": endpoint},
        "redirects": [],
        "privateAddresses": True,
        "files": FILES,
        "folder": str(cache / revision),
        "fileBytes": 1 << 20,
        "totalBytes": 1 << 30,
        "silenceS": 2.0,
        **changes,
    }
    return child.run(job, Silent())


def resolved(hub: Hub) -> list[str]:
    return [path.rpartition(f"{COMMIT}/")[2] for path, _, _ in hub.asked if "/resolve/" in path]


def test_what_the_commit_has_comes_and_the_rest_is_absent(hub: Hub, tmp_path: Path) -> None:
    assert fetch(hub, tmp_path) == {"absent": ["ear/model.safetensors", "eye.ckpt"]}
    assert (tmp_path / COMMIT / "ear" / "pytorch_model.bin").read_bytes() == LARGE
    assert (tmp_path / COMMIT / "ear" / "config.json").read_bytes() == SMALL
    assert sorted(resolved(hub)) == FILES


def test_what_was_fetched_needs_no_hub_any_more(hub: Hub, tmp_path: Path) -> None:
    first = fetch(hub, tmp_path)
    hub.asked.clear()
    assert fetch(hub, tmp_path) == first
    assert hub.asked == []


def test_the_endpoint_comes_from_the_environment_where_none_is_named(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
    assert fetch(hub, tmp_path, endpoint=None)["absent"] == ["ear/model.safetensors", "eye.ckpt"]


def test_a_broken_download_is_taken_up_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = 100_000
    fetch(hub, tmp_path, files=["ear/pytorch_model.bin"])
    assert (tmp_path / COMMIT / "ear" / "pytorch_model.bin").read_bytes() == LARGE
    assert [asked for _, asked, _ in hub.asked if asked] == ["bytes=100000-", "bytes=100000-"]


def test_a_download_that_a_kill_cut_short_is_taken_up_later(hub: Hub, tmp_path: Path) -> None:
    partial = tmp_path / COMMIT / "ear" / ".pytorch_model.bin.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(LARGE[:5])
    fetch(hub, tmp_path, files=["ear/pytorch_model.bin"])
    assert (partial.parent / "pytorch_model.bin").read_bytes() == LARGE
    assert not partial.exists()


@pytest.mark.parametrize("name", ["ear/pytorch_model.bin", "ear/config.json"])
def test_what_is_not_what_the_hub_says_is_refused(hub: Hub, tmp_path: Path, name: str) -> None:
    partial = tmp_path / COMMIT / "ear" / f".{Path(name).name}.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"not its beginning"[: len(hub.files[name]) - 1])
    with pytest.raises(DigestMismatch, match=name):
        fetch(hub, tmp_path, files=[name])
    assert not partial.exists(), "the next try must begin anew"
    fetch(hub, tmp_path, files=[name])
    assert (tmp_path / COMMIT / name).read_bytes() == hub.files[name]


def test_content_that_the_hub_does_not_vouch_for_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.lie = LARGE[::-1]
    with pytest.raises(DigestMismatch, match="the hub says"):
        fetch(hub, tmp_path)


def test_no_such_commit_or_repository_is_no_absence(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="revisionnotfound: are repository, commit and token"):
        fetch(hub, tmp_path, revision="1" * 40)
    with pytest.raises(FetchError, match="reponotfound"):
        fetch(hub, tmp_path, repository="somebody/else")


def test_none_of_the_files_is_an_error_and_is_asked_again(hub: Hub, tmp_path: Path) -> None:
    kept, hub.files = hub.files, {}
    with pytest.raises(FetchError, match=r"has none of the files that the engine knows: ear/config\.json"):
        fetch(hub, tmp_path)
    hub.files = kept
    assert fetch(hub, tmp_path)["absent"] == ["ear/model.safetensors", "eye.ckpt"]


def test_sizes_are_bounded_before_anything_is_taken(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="has 256000 bytes or more; allowed 5000"):
        fetch(hub, tmp_path, fileBytes=5000)
    with pytest.raises(JobError, match="together; allowed 200000"):
        fetch(hub, tmp_path, totalBytes=200_000)


def test_a_redirect_to_elsewhere_needs_leave_and_takes_no_token(hub: Hub, tmp_path: Path) -> None:
    with serving(Hub(files=hub.files)) as elsewhere:
        hub.elsewhere = elsewhere.url
        with pytest.raises(ForbiddenSource, match="outside the sources"):
            fetch(hub, tmp_path)
        fetch(hub, tmp_path, redirects=[f"{elsewhere.url}/"])
        assert {token for _, _, token in hub.asked} == {"Bearer hf_secret"}
        assert {token for _, _, token in elsewhere.asked} == {""}


def test_another_commit_takes_the_place_of_the_one_before(hub: Hub, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    hub.commit = "2" * 40
    fetch(hub, tmp_path, revision=hub.commit)
    assert [path.name for path in tmp_path.iterdir()] == [hub.commit]


def test_private_addresses_need_leave(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ForbiddenSource, match="privateAddresses"):
        fetch(hub, tmp_path, privateAddresses=False)


def test_an_engine_cannot_name_files_outside(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="outside the repository"):
        fetch(hub, tmp_path, files=["../../secret"])
