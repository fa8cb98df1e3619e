"""From a wish to an archive: what the cache saves, what it keeps, and what a failure leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.images.engine import SBOM, FakeEngine
from tools.images import ImageError, build
from tools.images.bases import Base
from tools.images.building import Wish, Workshop
from tools.images.errors import BuildFailed
from tools.images.recipes import Recipe, Revision
from tools.images.reports import as_json, as_table
from tools.images.store import KEPT_BUILDS, Store

WISH = Wish(
    recipe=Recipe(name="server"),
    revision=Revision(name="abc", time=1_700_000_000),
    base=Base(name="base", identity="sha256:base"),
    tag="0.1.0",
    source="",
    engine="fake",
)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(
        engine=FakeEngine(), store=Store(tmp_path / "cache"), output=tmp_path / "out", say=lambda line: None
    )


def built(workshop: Workshop) -> int:
    engine = workshop.engine
    assert isinstance(engine, FakeEngine)
    return len(engine.orders)


def test_an_image_has_its_archive_its_sbom_and_its_facts(workshop: Workshop) -> None:
    image = workshop.obtain(WISH)
    assert (image.reference, image.cached) == ("segue/server:0.1.0", False)
    assert image.archive == workshop.output / "server.tar"
    assert json.loads(image.sbom.read_text()) == SBOM
    assert (image.facts.python_packages, image.facts.debian_packages) == (2, 1)
    assert image.digest.startswith("sha256:")


def test_the_engine_is_told_base_version_revision_and_time(workshop: Workshop) -> None:
    workshop.obtain(WISH)
    assert isinstance(workshop.engine, FakeEngine)
    (order,) = workshop.engine.orders
    assert order.name == "docker.io/segue/server:0.1.0"
    assert order.time == 1_700_000_000
    assert order.arguments == {
        "BASE": "base",
        "VERSION": "0.1.0",
        "REVISION": "abc",
        "SOURCE": "",
        "SOURCE_DATE_EPOCH": "1700000000",
    }


def test_the_same_wish_is_built_once_and_another_anew(workshop: Workshop) -> None:
    first, again = workshop.obtain(WISH), workshop.obtain(WISH)
    assert (built(workshop), again.cached, again.digest) == (1, True, first.digest)
    assert not workshop.obtain(replace(WISH, tag="0.2.0")).cached
    assert built(workshop) == 2


def test_another_folder_gets_the_same_bytes_without_a_build(workshop: Workshop, tmp_path: Path) -> None:
    first = workshop.obtain(WISH).archive.read_bytes()
    elsewhere = replace(workshop, output=tmp_path / "elsewhere")
    assert elsewhere.obtain(WISH).archive.read_bytes() == first
    assert built(workshop) == 1


def test_a_failed_build_leaves_nothing_in_the_cache(workshop: Workshop) -> None:
    assert isinstance(workshop.engine, FakeEngine)
    workshop.engine.broken = True
    with pytest.raises(BuildFailed):
        workshop.obtain(WISH)
    assert [*(workshop.store.root / "built").iterdir()] == []
    workshop.engine.broken = False
    assert not workshop.obtain(WISH).cached


def test_only_the_latest_builds_of_an_image_are_kept(workshop: Workshop) -> None:
    tags = [f"0.{minor}.0" for minor in range(KEPT_BUILDS + 2)]
    for tag in tags:
        workshop.obtain(replace(WISH, tag=tag))
    assert len([*(workshop.store.root / "built").iterdir()]) == KEPT_BUILDS
    assert workshop.obtain(replace(WISH, tag=tags[-1])).cached


def test_an_unknown_image_is_refused_by_name() -> None:
    with pytest.raises(ImageError, match="there is no image workr; there are operator, sidecar, server"):
        build(["workr"])


def test_the_report_has_a_row_for_each_image(workshop: Workshop) -> None:
    image = workshop.obtain(WISH)
    (row,) = json.loads(as_json({"server": image}))["images"].values()
    assert row["reference"] == "segue/server:0.1.0"
    assert row["archive"] == "server.tar"
    assert {"digest", "uncompressed_bytes", "compressed_bytes", "python_packages", "seconds", "cached"} <= row.keys()
    head, line = as_table([image]).splitlines()
    assert head.split()[:2] == ["image", "on"]
    assert line.startswith("segue/server:0.1.0  0 MiB")
