"""Mistakes of the operator's become messages with file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue_server.config import InvalidConfig, load_config, split_address


def written(directory: Path, text: str) -> Path:
    path = directory / "server.yaml"
    path.write_text(text)
    return path


def test_defaults_need_the_socket_directory_only(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "socketDir: run\n"))
    assert config.socket_path == tmp_path / "run" / "sidecar.sock"
    assert (config.queue_limit, config.request_deadline_s, config.cache_bytes) == (1000, 60, 256 << 20)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("socketDir: run\nworkerz: 3\n", "server.yaml:2: workerz: is no key"),
        ("socketDir: run\nbatching:\n  maxRows: 0\n", "server.yaml:3: batching.maxRows"),
        ("socketDir: run\nlisten: here\n", "server.yaml:2: listen"),
        ("socketDir: run\nreferences:\n  roots:\n  - refs\n", "server.yaml:4: references.roots.0"),
        ("socketDir: run\nreferences: {maxBytes: 0}\n", "references.maxBytes"),
        ("listen: 127.0.0.1:0\n", "server.yaml:1: socketDir: Field required"),
        ("- a\n- b\n", "a mapping of keys to values"),
        ("socketDir: [\n", "not YAML"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        load_config(written(tmp_path, text))
    assert told in str(error.value)


def test_a_socket_path_that_is_too_long_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="shorten it"):
        load_config(written(tmp_path, f"socketDir: /{'x' * 120}\n"))


def test_workers_share_queue_and_cache(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "socketDir: run\nworkers: 3\nqueueLimit: 10\ncacheBytes: 300\n"))
    assert (config.worker_queue_limit, config.worker_cache_bytes) == (4, 100)


def test_reference_roots_are_relative_to_the_file_and_somebodys_or_everybodys(tmp_path: Path) -> None:
    text = "socketDir: run\nreferences:\n  roots: [{path: refs}, {path: /mnt/theirs, namespace: theirs}]\n"
    references = load_config(written(tmp_path, text)).references
    assert [root.path for root in references.roots] == [tmp_path / "refs", Path("/mnt/theirs")]
    assert [len(references.roots_of(each)) for each in ("ours", "theirs")] == [1, 2]


def test_batching_off_is_batches_of_one(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "socketDir: run\nbatching: {enabled: false}\n"))
    assert config.batching.rows == 1


@pytest.mark.parametrize(("address", "parts"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0))])
def test_addresses_are_split(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
