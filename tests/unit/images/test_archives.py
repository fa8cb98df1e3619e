"""OCI archives are read as a container runtime would: upper layers replace, whiteouts remove."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from tests.support.images.archives import write_archive
from tools.images.archives import read_contents, read_file, uncompressed_bytes, unpack
from tools.images.errors import ImageError

LOWER = {"etc": None, "etc/kept": b"kept", "etc/changed": b"old", "etc/removed": b"!", "var": None, "var/log": None}
UPPER = {"etc/changed": b"new", "etc/.wh.removed": b"", "var/.wh.log": b"", "opt": None, "opt/own": b"own"}
NAME = "docker.io/segue/server:0.1.0"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    target = tmp_path / "image.tar"
    write_archive(target, [LOWER, UPPER], name=NAME, config={"User": "10002:10002"})
    return target


def test_name_user_and_layers_are_read(archive: Path) -> None:
    contents = read_contents(archive)
    assert contents.name == NAME
    assert contents.config["config"]["User"] == "10002:10002"
    assert len(contents.layers) == 2
    assert contents.digest.startswith("sha256:")


def test_sizes_are_those_of_the_files_and_of_the_blobs(archive: Path) -> None:
    assert uncompressed_bytes(archive) == sum(
        len(content or b"") for layer in (LOWER, UPPER) for content in layer.values()
    )
    with tarfile.open(archive) as tar:
        sizes = {member.name.rpartition("/")[2]: member.size for member in tar}
    contents = read_contents(archive)
    assert contents.compressed_bytes == sum(sizes[digest.removeprefix("sha256:")] for digest in contents.layers)


def test_the_uppermost_layer_has_the_file(archive: Path) -> None:
    assert read_file(archive, "/etc/changed") == b"new"
    with pytest.raises(ImageError, match="has no file /etc/none"):
        read_file(archive, "/etc/none")


def test_unpacked_it_is_what_a_container_sees(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    unpack(archive, root)
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert files == {"etc/kept": b"kept", "etc/changed": b"new", "opt/own": b"own"}
    assert not (root / "var" / "log").exists()


def test_an_opaque_folder_hides_all_that_was_below(tmp_path: Path) -> None:
    archive, root = tmp_path / "image.tar", tmp_path / "root"
    root.mkdir()
    write_archive(archive, [LOWER, {"etc/.wh..wh..opq": b"", "etc/only": b"1"}], name=NAME)
    unpack(archive, root)
    assert [path.name for path in (root / "etc").iterdir()] == ["only"]


def test_something_else_is_refused_by_name(tmp_path: Path) -> None:
    other = tmp_path / "other.tar"
    other.write_bytes(b"no tar at all")
    with pytest.raises(ImageError, match=r"other\.tar is no OCI archive"):
        read_contents(other)
