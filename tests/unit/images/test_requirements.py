"""Lock files of the images: enough for what each process imports, and nothing that it must not have.

Whether they can really be imported is asked of the built images (`tests/integration/images`).
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tools.images.recipes import IMAGES, ROOT

REQUIREMENTS = ROOT / "requirements"
OBJECT_STORES = {"s3fs", "gcsfs", "huggingface-hub"}
"""fsspec finds them by name, so no import names them."""

TRACES = {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"}
"""`opentelemetry` is one package of many distributions; a lock file must name those that `segue.tracing` imports."""

OPTIONAL_ENGINE = "segue_engines.gpt_sovits"

Pins = dict[str, list[str]]


def read_pins(name: str) -> Pins:
    """Canonical name to the versions of a lock file; there are two where Pythons differ."""
    pins: Pins = {}
    for found in re.finditer(r"^([A-Za-z0-9._-]+)==(\S+)", (REQUIREMENTS / f"{name}.txt").read_text(), re.MULTILINE):
        pins.setdefault(canonicalize_name(found[1]), []).append(found[2])
    return pins


def asked_for(name: str) -> list[Requirement]:
    lines = (REQUIREMENTS / f"{name}.in").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Without the engine `gpt-sovits`, whose libraries are in no image yet: it says what to install where they lack."""
    packages = ("segue", "segue_engines", "segue_server", "segue_sidecar", "segue_operator", "segue_cli")
    found = grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)
    for module in found.find_descendants(OPTIONAL_ENGINE) | {OPTIONAL_ENGINE}:
        found.remove_module(module)
    return found


def imported(graph: grimp.ImportGraph, package: str) -> set[str]:
    """Distributions that some module of a process, or one that it can reach, imports, now or later."""
    modules = {package} | graph.find_descendants(package)
    reached = modules.union(*(graph.find_upstream_modules(module) for module in modules))
    tops = {module for module in reached if graph.is_module_squashed(module)} - sys.stdlib_module_names
    known = packages_distributions()
    return {canonicalize_name(known[top.partition(".")[0]][0]) for top in tops}


@pytest.mark.parametrize("name", IMAGES)
def test_whatever_a_process_imports_is_in_its_image(graph: grimp.ImportGraph, name: str) -> None:
    assert imported(graph, f"segue_{name}") <= read_pins(name).keys()


@pytest.mark.parametrize("name", IMAGES)
def test_nothing_is_asked_for_that_nobody_imports(graph: grimp.ImportGraph, name: str) -> None:
    by_uvicorn = {"httptools"}
    wanted = {canonicalize_name(one.name) for one in asked_for(name)}
    found = imported(graph, f"segue_{name}")
    if "opentelemetry-api" in found:
        assert wanted >= TRACES
        found |= TRACES
    assert wanted - OBJECT_STORES - by_uvicorn <= found


def test_the_operator_has_no_arrays_no_audio_and_no_torch() -> None:
    assert not read_pins("operator").keys() & {"numpy", "soundfile", "soxr", "lameenc", "av", "torch"}


@pytest.mark.parametrize("name", ["sidecar", "server"])
def test_no_image_has_torch(name: str) -> None:
    assert not any("torch" in pin or pin.startswith("nvidia") for pin in read_pins(name))


def test_the_sidecar_reads_every_store_that_an_extra_names() -> None:
    assert read_pins("sidecar").keys() >= OBJECT_STORES


@pytest.mark.parametrize("name", IMAGES)
def test_floors_are_those_of_pyproject(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    known = {canonicalize_name(one.name): one.specifier for one in map(Requirement, lines)}
    for one in asked_for(name):
        assert one.specifier == known.get(canonicalize_name(one.name), one.specifier), one


@pytest.mark.parametrize(
    ("name", "tested"), [("operator", "dev"), ("sidecar", "run"), ("server", "dev"), ("build", "dev")]
)
def test_versions_are_those_that_are_tested(name: str, tested: str) -> None:
    pins, ours = read_pins(name), read_pins(tested)
    assert {key: pins[key] for key in pins.keys() & ours.keys()} == {
        key: ours[key] for key in pins.keys() & ours.keys()
    }


@pytest.mark.parametrize("name", [*IMAGES, "build"])
def test_every_pin_has_hashes_and_no_line_names_an_index(name: str) -> None:
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
