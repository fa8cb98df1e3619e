"""kind is asked for a cluster, given the images and, whatever happened, asked to take it away; or what is missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.support.cluster.cluster import CONTEXT, KUBECONFIG
from tests.support.e2e import kind

SPEAKS = '#!/bin/sh\necho "$(basename "$0") $*" >> "$SAID"\n'


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH but for what a test puts there; what its programs were told."""
    file = tmp_path / "said"
    file.touch()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    monkeypatch.setenv("SAID", str(file))
    return file


def put(said: Path, name: str, *, more: str = "") -> None:
    program = said.parent / "bin" / name
    program.write_text(SPEAKS.replace('$(basename "$0")', name) + more, encoding="utf-8")
    program.chmod(0o755)


def archives(said: Path) -> list[Path]:
    found = [said.parent / f"{name}.tar" for name in ("operator", "server")]
    for path in found:
        path.touch()
    return found


def test_without_docker_it_says_so(said: Path) -> None:
    with pytest.raises(kind.NoKind, match="no docker in PATH"):
        kind.on_kind(["true"], images=list, say=print)


def test_a_docker_that_does_not_answer_is_none(said: Path) -> None:
    put(said, "docker", more="echo 'Cannot connect to the Docker daemon' >&2; exit 1\n")
    with pytest.raises(kind.NoKind, match="Cannot connect to the Docker daemon"):
        kind.on_kind(["true"], images=list, say=print)


def test_without_kind_it_says_how_to_get_it(said: Path) -> None:
    put(said, "docker")
    with pytest.raises(kind.NoKind, match="go install"):
        kind.on_kind(["true"], images=list, say=print)


def test_the_suite_runs_on_a_cluster_that_has_the_images_and_is_deleted(said: Path) -> None:
    for name in ("docker", "kind"):
        put(said, name)
    script = f"import os; print(os.environ['{CONTEXT}'], os.environ['{KUBECONFIG}']); raise SystemExit(3)"
    found = archives(said)
    assert kind.on_kind([sys.executable, "-c", script], images=lambda: found, say=print) == 3
    told = [line.split() for line in said.read_text().splitlines()]
    assert [line[:3] for line in told] == [
        ["docker", "info"],
        ["kind", "create", "cluster"],
        ["kind", "load", "image-archive"],
        ["kind", "load", "image-archive"],
        ["kind", "delete", "cluster"],
    ]
    assert {line[3] for line in told if "load" in line} == {str(path) for path in found}


def test_a_cluster_is_deleted_also_when_an_image_cannot_be_loaded(said: Path) -> None:
    put(said, "docker")
    put(said, "kind", more='[ "$1" != load ] || exit 1\n')
    with pytest.raises(kind.NoKind, match="load"):
        kind.on_kind(["true"], images=lambda: archives(said), say=print)
    assert said.read_text().splitlines()[-1].startswith("kind delete cluster")


def test_its_configuration_is_there() -> None:
    assert kind.CONFIG.is_file()
    assert os.access(kind.CONFIG, os.R_OK)
