"""Lock files of the images: enough for what each process imports, and nothing that it must not have.

Whether they can really be imported is asked of the built images (`tests/integration/images`).
"""

from __future__ import annotations

import copy
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tools.images.other_torch import with_torch
from tools.images.recipes import ENGINES, IMAGES, ROOT

from segue_engines.gpt_sovits.text.installed import LIBRARIES

REQUIREMENTS = ROOT / "requirements"
OBJECT_STORES = {"s3fs", "gcsfs", "huggingface-hub"}
"""fsspec finds them by name, so no import names them."""

_TRACES = "opentelemetry-proto"
"""`opentelemetry` is one package of many distributions; this is the one that `segue.otlp` imports."""

OPTIONAL_ENGINE = "segue_engines.gpt_sovits"
VARIANTS = [(name, engine) for engine, names in ENGINES.items() for name in names]
BY_NAME = {canonicalize_name(distribution) for found in LIBRARIES.values() for distribution in found.values()}
"""What the text front end imports by name, when a language is first read."""

Pins = dict[str, list[str]]


def read_pins(name: str) -> Pins:
    """Canonical name to the versions of a lock file; there are two where Pythons differ."""
    pins: Pins = {}
    for found in re.finditer(r"^([A-Za-z0-9._-]+)==(\S+)", (REQUIREMENTS / f"{name}.txt").read_text(), re.MULTILINE):
        pins.setdefault(canonicalize_name(found[1]), []).append(found[2])
    return pins


def asked_for(name: str) -> list[Requirement]:
    lines = (REQUIREMENTS / f"{name}.in").read_text().splitlines()
    included = [one for line in lines if line.startswith("-r ") for one in asked_for(line[3:].removesuffix(".in"))]
    return included + [Requirement(line) for line in lines if line and line[0] not in "#-"]


@pytest.fixture(scope="module")
def whole_graph() -> grimp.ImportGraph:
    """Every import there is."""
    packages = ("segue", "segue_engines", "segue_server", "segue_sidecar", "segue_operator", "segue_cli")
    return grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)


@pytest.fixture(scope="module")
def graph(whole_graph: grimp.ImportGraph) -> grimp.ImportGraph:
    """Without the engine `gpt-sovits`, whose libraries are in images of their own: it says what to install."""
    found = copy.deepcopy(whole_graph)
    for module in found.find_descendants(OPTIONAL_ENGINE) | {OPTIONAL_ENGINE}:
        found.remove_module(module)
    return found


def imported(graph: grimp.ImportGraph, package: str) -> set[str]:
    """Distributions that some module of a process, or one that it can reach, imports, now or later."""
    modules = {package} | graph.find_descendants(package)
    reached = modules.union(*(graph.find_upstream_modules(module) for module in modules))
    tops = {module for module in reached if graph.is_module_squashed(module)} - sys.stdlib_module_names
    known = packages_distributions()
    found = {top: known[top.partition(".")[0]] for top in tops}
    return {canonicalize_name(_TRACES if _TRACES in each else each[0]) for each in found.values()}


@pytest.mark.parametrize("name", IMAGES)
def test_whatever_a_process_imports_is_in_its_image(graph: grimp.ImportGraph, name: str) -> None:
    assert imported(graph, f"segue_{name}") <= read_pins(name).keys()


@pytest.mark.parametrize("name", IMAGES)
def test_nothing_is_asked_for_that_nobody_imports(graph: grimp.ImportGraph, name: str) -> None:
    by_uvicorn = {"httptools"}
    wanted = {canonicalize_name(one.name) for one in asked_for(name)}
    found = imported(graph, f"segue_{name}")
    assert wanted - OBJECT_STORES - by_uvicorn <= found


@pytest.mark.parametrize(("name", "engine"), VARIANTS)
def test_an_image_with_an_engine_has_what_that_imports_and_no_more_than_it_names(
    whole_graph: grimp.ImportGraph, name: str, engine: str
) -> None:
    found = imported(whole_graph, f"segue_{name}") | BY_NAME
    assert found <= read_pins(f"{name}-{engine}").keys()
    added = {canonicalize_name(one.name) for one in asked_for(f"{name}-{engine}")} - {
        canonicalize_name(one.name) for one in asked_for(name)
    }
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][engine]
    assert added == {canonicalize_name(Requirement(line).name) for line in extra}


@pytest.mark.parametrize(("name", "engine"), VARIANTS)
def test_an_image_with_an_engine_has_all_of_the_one_without_in_the_same_versions(name: str, engine: str) -> None:
    without, with_engine = read_pins(name), read_pins(f"{name}-{engine}")
    assert {key: with_engine[key] for key in without} == without


@pytest.mark.parametrize(("name", "engine"), VARIANTS)
def test_another_torch_takes_the_place_of_the_locked_one_and_of_nvidias_libraries(name: str, engine: str) -> None:
    lock = (REQUIREMENTS / f"{name}-{engine}.txt").read_text()
    line = f"torch==9.9.9+cpu --hash=sha256:{'ab' * 32}"
    changed = with_torch(lock, line)
    before, after = read_pins(f"{name}-{engine}"), re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", changed, re.MULTILINE)
    gone = before.keys() - {canonicalize_name(found) for found, _ in after}
    assert any(each.startswith("nvidia-") for each in gone)
    assert gone <= {each for each in before if each.startswith(("nvidia-", "cuda-", "triton"))}
    assert dict(after)["torch"] == "9.9.9+cpu"
    assert changed.count("torch==") == 1
    assert with_torch(lock, "") == lock
    for wrong in ("torch", "torch==2", f"numpy==2 --hash=sha256:{'ab' * 32}", line + "\n--index-url x"):
        with pytest.raises(ValueError, match="as in a lock file"):
            with_torch(lock, wrong)


def test_the_operator_has_no_arrays_no_audio_and_no_torch() -> None:
    assert not read_pins("operator").keys() & {"numpy", "soundfile", "soxr", "lameenc", "av", "torch"}


@pytest.mark.parametrize("name", ["sidecar", "server"])
def test_no_image_has_torch(name: str) -> None:
    assert not any("torch" in pin or pin.startswith("nvidia") for pin in read_pins(name))


def test_the_sidecar_reads_every_store_that_an_extra_names() -> None:
    assert read_pins("sidecar").keys() >= OBJECT_STORES


@pytest.mark.parametrize("name", [*IMAGES, *("-".join(variant) for variant in VARIANTS)])
def test_floors_are_those_of_pyproject(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    known = {canonicalize_name(one.name): one.specifier for one in map(Requirement, lines)}
    for one in asked_for(name):
        assert one.specifier == known.get(canonicalize_name(one.name), one.specifier), one


@pytest.mark.parametrize(
    ("name", "tested"),
    [
        ("operator", "dev"),
        ("sidecar", "run"),
        ("server", "dev"),
        ("build", "dev"),
        ("server-gpt-sovits", "dev"),
        ("sidecar-gpt-sovits", "server-gpt-sovits"),
    ],
)
def test_versions_are_those_that_are_tested(name: str, tested: str) -> None:
    pins, ours = read_pins(name), read_pins(tested)
    assert {key: pins[key] for key in pins.keys() & ours.keys()} == {
        key: ours[key] for key in pins.keys() & ours.keys()
    }


@pytest.mark.parametrize("name", [*IMAGES, "build", *("-".join(variant) for variant in VARIANTS)])
def test_every_pin_has_hashes_and_no_line_names_an_index(name: str) -> None:
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
