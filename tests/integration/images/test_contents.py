"""What lies in the images, by looking at every file of them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML
from tests.support.images.containers import UnpackedImage
from tools.images import BuiltImage
from tools.images.archives import read_contents
from tools.images.recipes import ROOT, version

pytestmark = pytest.mark.node

COMPILERS = {"cc", "gcc", "g++", "c++", "clang", "ld", "as", "make", "cpp"}
INSTALLERS = {"pip", "setuptools", "ensurepip", "wheel", "uv"}


def entries(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every path below the root, without following links."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            yield path, path.lstat()


def chart_user(name: str) -> int:
    values = YAML(typ="safe").load(ROOT / "charts" / "segue" / "values.yaml")
    place = values["operator"] if name == "operator" else values["fleet"][name]
    return int(place["uid"])


def site_packages(image: UnpackedImage) -> Path:
    (found,) = image.root.glob("opt/segue/lib/python3*/site-packages")
    return found


def test_it_runs_as_the_user_of_the_chart(image: UnpackedImage, name: str) -> None:
    assert image.config["User"] == f"{chart_user(name)}:{chart_user(name)}"
    assert image.user != 0


def test_a_runtime_imports_it_under_the_name_that_the_chart_asks_for(
    built: Mapping[str, BuiltImage], name: str
) -> None:
    values = YAML(typ="safe").load(ROOT / "charts" / "segue" / "values.yaml")
    chart = YAML(typ="safe").load(ROOT / "charts" / "segue" / "Chart.yaml")
    place = values["operator"] if name == "operator" else values["fleet"][name]
    asked = f"{place['image']['repository']}:{place['image']['tag'] or chart['appVersion']}"
    assert built[name].reference == asked
    assert read_contents(built[name].archive).name == f"docker.io/{asked}"


def test_labels_say_what_it_is(image: UnpackedImage) -> None:
    labels = {key.rpartition(".")[2]: value for key, value in image.config["Labels"].items()}
    assert labels["version"] == version()
    assert labels["licenses"] == "Apache-2.0"
    assert len(labels["revision"].removesuffix("-dirty")) in (len("unknown"), 40)
    assert {"title", "description", "source", "name"} <= labels.keys()


def test_no_compiler_and_no_installer(image: UnpackedImage) -> None:
    names = {
        path.name.partition("-")[0]: path
        for path, _ in entries(image.root)
        if "sbin" in path.parts or "bin" in path.parts
    }
    assert not names.keys() & (COMPILERS | INSTALLERS)
    packages = {path.name for path in (*site_packages(image).iterdir(), *image.root.glob("usr/**/python3*/*"))}
    assert not packages & INSTALLERS
    assert not [*image.root.glob("usr/**/*.whl")]


def test_no_torch_anywhere_and_no_arrays_in_the_operators(image: UnpackedImage, name: str) -> None:
    names = {path.name for path, _ in entries(image.root)}
    assert not names & {"torch", "libtorch.so", "nvidia"}
    assert ("numpy" in names) is (name != "operator")


def test_nothing_raises_privileges(image: UnpackedImage) -> None:
    raising = [path for path, facts in entries(image.root) if stat.S_ISREG(facts.st_mode) and facts.st_mode & 0o6000]
    assert raising == []


def test_its_user_owns_nothing_and_can_write_nowhere_but_to_temporary_folders(image: UnpackedImage) -> None:
    temporary = {image.root / "tmp", image.root / "var" / "tmp"}
    wrong = [
        path
        for path, facts in entries(image.root)
        if path not in temporary
        and not stat.S_ISLNK(facts.st_mode)
        and (facts.st_uid != 0 or facts.st_gid == image.user or facts.st_mode & 0o002)
    ]
    assert wrong == []


def test_all_that_is_ours_can_be_read_by_everybody(image: UnpackedImage) -> None:
    for folder in ("opt/segue", "usr/share/segue"):
        modes = {path: facts.st_mode for path, facts in entries(image.root / folder) if not stat.S_ISLNK(facts.st_mode)}
        assert modes
        assert [path for path, mode in modes.items() if not mode & 0o004] == []


def test_nothing_is_left_to_compile(image: UnpackedImage) -> None:
    """Else every start would compile it again, since nothing can be written."""
    sources = [*site_packages(image).rglob("*.py")]
    tag = f"cpython-3{site_packages(image).parent.name.removeprefix('python3.')}"
    assert len(sources) > 500
    missing = [
        source for source in sources if not (source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc").exists()
    ]
    assert missing == []


def test_nothing_of_the_machine_that_built_it(image: UnpackedImage) -> None:
    assert not [name for name in image.config["Env"] if name.startswith(("PIP_", "SSL_", "HTTP", "http"))]
    for left in ("etc/pip.conf", "run/secrets", "wheels", "build", "root/.cache"):
        assert not (image.root / left).exists(), left
    for named in ("etc/resolv.conf", "etc/hostname", "etc/machine-id"):
        file = image.root / named
        assert not file.exists() or file.read_bytes() == b"", named


def test_the_sbom_in_the_image_is_the_one_beside_it_and_valid(
    image: UnpackedImage, built: Mapping[str, BuiltImage], name: str
) -> None:
    inside = (image.root / "usr/share/segue/sbom.cdx.json").read_text(encoding="utf-8")
    assert inside == built[name].sbom.read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(inside) is None


def test_the_sbom_lists_every_python_package_with_version_hash_and_licence(image: UnpackedImage) -> None:
    listed = {
        one["name"]: one for one in _components(image) if one.get("purl", "").startswith(("pkg:pypi/", "pkg:generic/"))
    }
    found = [folder.name.removesuffix(".dist-info").split("-") for folder in site_packages(image).glob("*.dist-info")]
    assert len(found) > 20
    for package, number in found:
        component = listed[canonicalize_name(package)]
        assert component["version"] == number
        assert component["licenses"]
        assert package == "segue" or component["hashes"]


def test_the_sbom_lists_every_debian_package(image: UnpackedImage) -> None:
    status = (image.root / "var/lib/dpkg/status").read_text(encoding="utf-8")
    stanzas = [
        dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line) for stanza in status.split("\n\n")
    ]
    here = {(one["Package"], one["Version"]) for one in stanzas if one.get("Status") == "install ok installed"}
    assert len(here) > 50
    listed = {(one["name"], one["version"]) for one in _components(image) if one.get("purl", "").startswith("pkg:deb/")}
    assert listed == here


def test_the_report_counts_what_the_sbom_lists(
    image: UnpackedImage, built: Mapping[str, BuiltImage], name: str
) -> None:
    purls = [one.get("purl", "") for one in _components(image)]
    facts = built[name].facts
    assert facts.python_packages == sum(purl.startswith("pkg:pypi/") for purl in purls)
    assert facts.debian_packages == sum(purl.startswith("pkg:deb/") for purl in purls)


def test_the_sidecar_brings_the_example_voices_and_updates(unpacked: Mapping[str, UnpackedImage]) -> None:
    ours, theirs = ROOT / "examples", unpacked["sidecar"].root / "usr/share/segue/examples"
    files = [path.relative_to(ours) for path in ours.rglob("*") if path.is_file()]
    assert any(path.name == "prosody.pth" for path in files)
    assert all((theirs / path).read_bytes() == (ours / path).read_bytes() for path in files)


def _components(image: UnpackedImage) -> list[dict[str, str]]:
    document = json.loads((image.root / "usr/share/segue/sbom.cdx.json").read_text(encoding="utf-8"))
    found: list[dict[str, str]] = document["components"]
    return found
