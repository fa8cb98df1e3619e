"""Where the programs of the test cluster come from: the order, what is checked, and what is said when there is none."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import platform
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tests.support.cluster.binaries import GIVEN_BY, HELM, HELM_PROJECT, NoBinary, Origins, find, obtain
from typing_extensions import override

NAME = "kube-apiserver"
CONTENT = b"#!/bin/sh\necho downloaded\n"
VERSION = "v1.34.4"
HELM_VERSION = "v4.3.1"
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


class Mirror:
    """What dl.k8s.io serves, on this machine."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.asked.append(self.path)
                content = mirror.files.get(self.path.rpartition("/")[2])
                self.send_response(404 if content is None else 200)
                self.end_headers()
                self.wfile.write(content or b"")

            @override
            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/release"


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    mirror = Mirror()
    thread = Thread(target=mirror.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield mirror
    mirror.server.shutdown()
    thread.join()
    mirror.server.server_close()


@pytest.fixture
def origins(tmp_path: Path, mirror: Mirror) -> Origins:
    """An empty machine: nothing in PATH, nothing cached, and a mirror that has nothing."""
    module = tmp_path / "tools"
    module.mkdir()
    (module / "go.mod").write_text(f"module tools\nrequire k8s.io/kubernetes {VERSION}\n")
    (module / "go.sum").write_text("one\n")
    (tmp_path / "bin").mkdir()
    environment = {"PATH": str(tmp_path / "bin")}
    return Origins(go_module=module, store=tmp_path / "store", official=mirror.url, environment=environment)


def program(folder: Path, name: str = NAME, *, script: str = "exit 0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def publish(mirror: Mirror, *, digest: str | None = None) -> None:
    mirror.files = {NAME: CONTENT, f"{NAME}.sha256": (digest or hashlib.sha256(CONTENT).hexdigest()).encode()}


def test_a_given_folder_goes_before_the_path_and_the_path_before_the_cache(origins: Origins, tmp_path: Path) -> None:
    cached = program(origins.cache)
    assert find(NAME, origins) == cached
    in_path = program(tmp_path / "bin")
    assert find(NAME, origins) == in_path
    given = program(tmp_path / "assets")
    environment = {**origins.environment, GIVEN_BY: str(tmp_path / "assets")}
    assert find(NAME, Origins(go_module=origins.go_module, store=origins.store, environment=environment)) == given


def test_another_version_is_another_cache(origins: Origins) -> None:
    program(origins.cache)
    (origins.go_module / "go.sum").write_text("two\n")
    assert find(NAME, origins) is None


def test_what_is_there_is_neither_built_nor_downloaded(origins: Origins, mirror: Mirror) -> None:
    cached = program(origins.cache)
    assert obtain(NAME, origins=origins) == cached
    assert mirror.asked == []


def test_go_builds_the_pinned_version_into_the_cache(origins: Origins, mirror: Mirror, tmp_path: Path) -> None:
    out = 'while [ "$1" != -o ]; do shift; done; echo "$3 $CGO_ENABLED" > "$2"'
    program(tmp_path / "bin", "go", script=out)
    said: list[str] = []
    built = obtain(NAME, origins=origins, say=said.append)
    assert built == origins.cache / NAME
    assert built.read_text() == f"k8s.io/kubernetes/cmd/{NAME} 0\n"
    assert os.access(built, os.X_OK)
    assert VERSION in said[0]
    assert mirror.asked == []


def test_a_build_that_fails_leads_to_the_download(origins: Origins, mirror: Mirror, tmp_path: Path) -> None:
    program(tmp_path / "bin", "go", script="echo no compiler >&2; exit 1")
    publish(mirror)
    assert obtain(NAME, origins=origins).read_bytes() == CONTENT


def test_a_download_is_official_and_cached(origins: Origins, mirror: Mirror) -> None:
    publish(mirror)
    first = obtain(NAME, origins=origins)
    assert first.read_bytes() == CONTENT
    assert os.access(first, os.X_OK)
    assert obtain(NAME, origins=origins) == first
    assert len(mirror.asked) == 2
    assert all(path.startswith(f"/release/{VERSION}/bin/linux/") for path in mirror.asked)


def test_a_download_with_another_digest_is_refused_and_leaves_nothing(origins: Origins, mirror: Mirror) -> None:
    publish(mirror, digest="0" * 64)
    with pytest.raises(NoBinary, match=r"but 0000.* is published"):
        obtain(NAME, origins=origins)
    assert [path.name for path in origins.cache.iterdir()] == [".lock"]


def test_a_machine_with_nothing_hears_all_that_was_tried(origins: Origins, mirror: Mirror) -> None:
    with pytest.raises(NoBinary) as caught:
        obtain(NAME, origins=origins)
    for words in (f"no {NAME}", GIVEN_BY, str(origins.cache), "no go in PATH", mirror.url, "404"):
        assert words in str(caught.value)


def test_etcd_is_unpacked_from_the_distribution(origins: Origins, tmp_path: Path) -> None:
    program(tmp_path / "bin", "apt-get", script="echo $2 $3 > etcd-server_3.4.deb")
    program(tmp_path / "bin", "dpkg-deb", script='/bin/mkdir -p "$3/usr/bin"; /bin/cp "$2" "$3/usr/bin/etcd"')
    assert obtain("etcd", origins=origins).read_text() == "download etcd-server\n"


def test_without_a_package_the_way_out_is_said(origins: Origins) -> None:
    with pytest.raises(NoBinary, match="or newer into PATH"):
        obtain("etcd", origins=origins)


def test_the_pinned_versions_are_read_from_the_real_modules() -> None:
    assert Origins().version == VERSION
    assert Origins.of(HELM).version == HELM_VERSION
    assert Origins.of(HELM).cache != Origins().cache


# --- helm: a project of its own, and an archive ----------------------------------------------------------------------


@pytest.fixture
def helm_origins(origins: Origins) -> Origins:
    """The same empty machine, asked for helm."""
    (origins.go_module / "go.mod").write_text(f"module tools\nrequire helm.sh/helm/v4 {HELM_VERSION}\n")
    return dataclasses.replace(origins, project=HELM_PROJECT)


def archive(member: str) -> bytes:
    """A tar.gz with the program at a place in it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as made:
        entry = tarfile.TarInfo(member)
        entry.size = len(CONTENT)
        made.addfile(entry, io.BytesIO(CONTENT))
    return stream.getvalue()


def publish_archive(mirror: Mirror, content: bytes) -> None:
    name = f"helm-{HELM_VERSION}-linux-{MACHINE}.tar.gz"
    mirror.files = {name: content, f"{name}.sha256": hashlib.sha256(content).hexdigest().encode()}


def test_go_builds_helm_from_its_own_module(helm_origins: Origins, tmp_path: Path) -> None:
    out = 'while [ "$1" != -o ]; do flags="$flags $1"; shift; done; echo "$flags $3" > "$2"'
    program(tmp_path / "bin", "go", script=out)
    built = obtain(HELM, origins=helm_origins).read_text()
    assert built.endswith("helm.sh/helm/v4/cmd/helm\n")
    assert f"helm.sh/helm/v4/internal/version.version={HELM_VERSION}" in built


def test_helm_is_taken_out_of_its_archive(helm_origins: Origins, mirror: Mirror) -> None:
    publish_archive(mirror, archive(f"linux-{MACHINE}/helm"))
    path = obtain(HELM, origins=helm_origins)
    assert path.read_bytes() == CONTENT
    assert os.access(path, os.X_OK)


def test_an_archive_without_helm_is_refused_and_leaves_nothing(helm_origins: Origins, mirror: Mirror) -> None:
    publish_archive(mirror, archive("README"))
    with pytest.raises(NoBinary, match="holds no linux-"):
        obtain(HELM, origins=helm_origins)
    assert [path.name for path in helm_origins.cache.iterdir()] == [".lock"]
