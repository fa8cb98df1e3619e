"""The SBOM: what it says of each package, that it is valid CycloneDX, and that the same packages give the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tools.images.sbom.document import Subject, describe
from tools.images.sbom.python_packages import installed, wheel_digests

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u14
Description: GNU C Library
 More of it.

Package: bash
Status: install ok installed
Architecture: amd64
Source: bash (5.2.15-2)
Version: 5.2.15-2+b13

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: bash

Files: *
License: GPL-3+
 The text.

Files: lib/*
License: MIT
"""
OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
DIGEST = "ab" * 32


class World:
    """A root file system and an environment, as small as they can be."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = root / "opt" / "segue"
        self.site = self.environment / "lib" / "python3.11" / "site-packages"
        self.site.mkdir(parents=True)
        _write(root / "etc/os-release", OS_RELEASE)
        _write(root / "var/lib/dpkg/status", STATUS)
        _write(root / "usr/share/doc/bash/copyright", COPYRIGHT)
        _write(root / "usr/share/doc/libc6/copyright", "This is the Debian package of glibc. Written by hand.\n")

    def add(self, name: str, version: str, *lines: str) -> Path:
        folder = self.site / f"{name}-{version}.dist-info"
        head = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
        _write(folder / "METADATA", "\n".join([*head, *lines, ""]))
        return folder

    def describe(self, **digests: str) -> dict[str, Any]:
        subject = Subject(name="segue-server", version="0.1.0", environment=self.environment, root=self.root)
        text = describe(subject, digests=digests)
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
        document: dict[str, Any] = json.loads(text)
        return document


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def component(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in document["components"] if one["name"] == name]
    return dict(found)


def test_a_python_package_has_purl_version_licence_and_the_hash_of_its_wheel(world: World) -> None:
    world.add("NumPy", "2.4.6", "License-Expression: BSD-3-Clause AND Zlib")
    numpy = component(world.describe(numpy=DIGEST), "numpy")
    assert numpy["purl"] == "pkg:pypi/numpy@2.4.6"
    assert numpy["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    assert numpy["licenses"] == [{"expression": "BSD-3-Clause AND Zlib"}]


@pytest.mark.parametrize(
    ("lines", "licences"),
    [
        (["License: MIT"], [{"license": {"id": "MIT"}}]),
        (["License: BSD"], [{"license": {"name": "BSD"}}]),
        (
            ["License: UNKNOWN", "Classifier: License :: OSI Approved :: ISC License (ISCL)"],
            [{"license": {"name": "ISC License (ISCL)"}}],
        ),
        (["License: " + "a whole text, " * 20, "Classifier: Topic :: Software"], None),
        ([], None),
    ],
)
def test_licences_are_what_the_package_says_and_nothing_is_guessed(
    world: World, lines: list[str], licences: list[Any] | None
) -> None:
    world.add("some", "1", *lines)
    assert component(world.describe(), "some").get("licenses") == licences


def test_our_own_package_is_not_passed_off_as_one_of_pypi(world: World) -> None:
    world.add("segue", "0.1.0", "License-Expression: Apache-2.0")
    assert component(world.describe(), "segue")["purl"] == "pkg:generic/segue@0.1.0"


def test_debian_packages_name_their_source_for_scanners(world: World) -> None:
    document = world.describe()
    libc = component(document, "libc6")
    assert libc["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12&upstream=glibc"
    assert "upstream=bash%405.2.15-2" in component(document, "bash")["purl"]


def test_what_was_removed_is_not_listed(world: World) -> None:
    assert not [one for one in world.describe()["components"] if one["name"] == "gone"]


def test_licences_of_debian_packages_come_from_machine_readable_files_alone(world: World) -> None:
    document = world.describe()
    licences = [next(iter(one["license"].values())) for one in component(document, "bash")["licenses"]]
    assert sorted(licences) == ["GPL-3+", "MIT"]
    assert "licenses" not in component(document, "libc6")


def test_the_distribution_itself_is_listed(world: World) -> None:
    system = component(world.describe(), "debian")
    assert (system["type"], system["version"]) == ("operating-system", "12")


def test_a_python_that_dpkg_does_not_know_is_listed(world: World) -> None:
    assert component(world.describe(), "python")["purl"].startswith("pkg:generic/python@3.")


def test_dependencies_leave_out_extras_other_systems_and_what_is_not_installed(world: World) -> None:
    world.add(
        "server",
        "1",
        "Requires-Dist: numpy>=2",
        "Requires-Dist: colorama; sys_platform == 'win32'",
        "Requires-Dist: torch; extra == 'gpu'",
        "Requires-Dist: absent",
    )
    for name in ("numpy", "colorama", "torch"):
        world.add(name, "2")
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in world.describe()["dependencies"]}
    assert edges["pkg:pypi/server@1"] == ["pkg:pypi/numpy@2"]
    assert "pkg:pypi/server@1" in edges["image:segue-server"]
    assert "pkg:pypi/numpy@2" not in edges["image:segue-server"]


def test_a_wheels_own_sbom_is_pointed_to(world: World) -> None:
    folder = world.add("cryptography", "50")
    _write(folder / "sboms" / "rust.cdx.json", "{}")
    _write(folder / "RECORD", f"{folder.name}/METADATA,,\n{folder.name}/sboms/rust.cdx.json,,\n")
    (reference,) = component(world.describe(), "cryptography")["externalReferences"]
    assert (reference["type"], reference["url"]) == ("bom", (folder / "sboms" / "rust.cdx.json").as_uri())


def test_the_same_packages_give_the_same_bytes_and_another_version_another_serial(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    world.add("numpy", "2")
    first, second = world.describe(), world.describe()
    assert first == second
    assert first["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    world.add("soxr", "1")
    assert world.describe()["serialNumber"] != first["serialNumber"]


def test_digests_are_read_from_what_pip_reports(tmp_path: Path) -> None:
    report = tmp_path / "installed.json"
    entries = [
        {"metadata": {"name": "Typing_Extensions"}, "download_info": {"archive_info": {"hashes": {"sha256": DIGEST}}}},
        {"metadata": {"name": "local"}, "download_info": {"dir_info": {}}},
    ]
    report.write_text(json.dumps({"install": entries}))
    assert wheel_digests(report) == {"typing-extensions": DIGEST}


def test_a_folder_without_packages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name a virtual environment"):
        [*installed(tmp_path)]


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
