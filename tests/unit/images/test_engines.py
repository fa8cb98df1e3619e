"""Which engine builds: the first that works, and what is said where none does."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tools.images.engines import KEPT_LAYERS, Buildah, Docker, Engine, Order, Podman, choose_engine
from tools.images.errors import ImageError, NoEngine
from tools.images.pip_settings import PipSettings

Machine = Callable[..., Path]

NO_DAEMON = '[ "$1" != info ]'
NO_BUILDX = '[ "$1" != buildx ]'
NO_OVERLAY = 'case "$*" in *overlay*) exit 1;; esac'


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Puts programs into PATH, which hold nothing else."""

    def make(**programs: str) -> Path:
        for name, body in programs.items():
            file = tmp_path / name
            file.write_text(f"#!/bin/sh\n{body}\n")
            file.chmod(file.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path))
        return tmp_path

    return make


def chosen(wanted: str, folder: Path, *, user: int = 0) -> Engine:
    return choose_engine(wanted, storage=folder / "storage", user=user)


@pytest.mark.parametrize(
    ("programs", "expected"),
    [
        ({"docker": "true", "podman": "true", "buildah": "true"}, "docker"),
        ({"docker": NO_DAEMON, "podman": "true", "buildah": "true"}, "podman"),
        ({"docker": NO_BUILDX, "buildah": "true"}, "buildah"),
        ({"podman": "true"}, "podman"),
    ],
)
def test_the_first_that_works_is_taken(machine: Machine, programs: Mapping[str, str], expected: str) -> None:
    assert chosen("auto", machine(**programs)).name == expected


def test_buildah_keeps_layers_in_overlay_where_it_can_and_else_copies_them(machine: Machine) -> None:
    folder = machine(buildah="true")
    assert chosen("buildah", folder) == Buildah(storage=folder / "storage" / "overlay", driver="overlay")
    machine(buildah=NO_OVERLAY)
    assert chosen("buildah", folder) == Buildah(storage=folder / "storage" / "vfs", driver="vfs")


def test_many_layers_are_forgotten_before_a_build_and_few_are_kept(machine: Machine) -> None:
    folder = machine(buildah='echo "$*" >> "${0%/*}/asked"')
    layers = folder / "storage" / "overlay" / "overlay"
    layers.mkdir(parents=True)
    chosen("buildah", folder)
    assert "rmi" not in (folder / "asked").read_text()
    for number in range(KEPT_LAYERS + 1):
        (layers / str(number)).mkdir()
    chosen("buildah", folder)
    assert (folder / "asked").read_text().rstrip().endswith("rmi --all --force")


def test_nothing_in_path_says_what_to_install(machine: Machine) -> None:
    with pytest.raises(NoEngine) as refused:
        chosen("auto", machine())
    said = str(refused.value)
    assert "docker is not in PATH (packages docker.io and docker-buildx" in said
    assert "podman is not in PATH (package podman)" in said
    assert said.endswith("On Debian: apt-get install buildah")


@pytest.mark.parametrize(
    ("wanted", "programs", "said"),
    [
        ("docker", {"docker": NO_DAEMON}, "docker has no daemon that answers"),
        ("docker", {"docker": NO_BUILDX}, "docker has no buildx"),
        ("podman", {"docker": "true"}, "podman is not in PATH"),
        ("kaniko", {}, "no engine is called kaniko; there are docker, podman, buildah, and auto"),
    ],
)
def test_a_named_engine_is_never_replaced(
    machine: Machine, wanted: str, programs: Mapping[str, str], said: str
) -> None:
    with pytest.raises(NoEngine, match=said):
        chosen(wanted, machine(**programs))


def test_buildah_says_that_it_needs_root(machine: Machine) -> None:
    with pytest.raises(NoEngine, match="buildah builds here as root only: run it with sudo"):
        chosen("buildah", machine(buildah="true"), user=1000)


def test_what_an_engine_says_when_it_fails_is_in_the_error(machine: Machine) -> None:
    machine(podman='echo "Error: no such host" >&2; exit 125')
    with pytest.raises(ImageError, match="podman failed: Error: no such host"):
        Podman().pull("example.com/base")


@pytest.mark.parametrize("engine", [Docker(), Podman(), Buildah(storage=Path("/nowhere"))], ids=lambda one: one.name)
def test_no_engine_is_told_anything_of_pip_but_as_a_loan(engine: Engine, tmp_path: Path) -> None:
    """Build arguments and environment end in an image's history; secrets and contexts do not."""
    pip = PipSettings(text="[global]\nindex-url = https://user:secret@index.example.com\n", wheels=Path("/opt/wheels"))
    ran: list[list[str]] = []

    def run(command: list[str], *, environment: Mapping[str, str] | None = None) -> None:
        ran.append(list(command))

    engine.build(_order(tmp_path, pip), run)  # type: ignore[arg-type]  # a list is what it gets
    (command,) = ran
    assert not any("index.example.com" in word for word in command)
    assert ["--secret", f"id=pip.conf,src={tmp_path / 'pip.conf'}"] == _pair(command, "--secret")
    assert _pair(command, "--build-context") == ["--build-context", "wheels=/opt/wheels"]
    assert "secret" in (tmp_path / "pip.conf").read_text()


def _pair(command: list[str], option: str) -> list[str]:
    at = command.index(option)
    return command[at : at + 2]


def _order(lent: Path, pip: PipSettings) -> Order:
    return Order(
        name="docker.io/segue/server:1",
        dockerfile=Path("server/Dockerfile"),
        context=Path(),
        arguments={"BASE": "base"},
        pip=pip,
        lent=lent,
        time=0,
    )
