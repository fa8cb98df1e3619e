"""The images, built before the first test (that takes minutes once, and a test's timeout counts its fixtures)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.support.images.containers import UnpackedImage
from tools.images import IMAGES, BuiltImage, ImageError, build

_BUILT = pytest.StashKey[Mapping[str, BuiltImage]]()
_MISSING = pytest.StashKey[str]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build, saying what takes so long."""
    wanted = any("built" in getattr(item, "fixturenames", ()) for item in session.items)
    if session.config.option.collectonly or not wanted:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    say = reporter.write_line if reporter else lambda line: None
    try:
        if os.geteuid() != 0 or shutil.which("runc") is None:
            raise ImageError("looking into images needs root and runc (apt-get install runc)")
        session.config.stash[_BUILT] = build(output=session.config.rootpath / "build" / "images", say=say)
    except ImageError as error:
        session.config.stash[_MISSING] = str(error)


@pytest.fixture(scope="session")
def built(pytestconfig: pytest.Config) -> Mapping[str, BuiltImage]:
    """All images; skipped where none can be built, failed where `SEGUE_REQUIRE` names `node`."""
    if (missing := pytestconfig.stash.get(_MISSING, None)) is not None:
        if "node" in os.environ.get("SEGUE_REQUIRE", "").split(","):
            pytest.fail(f"SEGUE_REQUIRE demands images: {missing}")
        pytest.skip(f"no images: {missing}")
    return pytestconfig.stash[_BUILT]


@pytest.fixture(scope="session", params=IMAGES)
def name(request: pytest.FixtureRequest) -> str:
    """Of each image in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def image(name: str, unpacked: Mapping[str, UnpackedImage]) -> UnpackedImage:
    """Each image in turn, unpacked."""
    return unpacked[name]


@pytest.fixture(scope="session")
def unpacked(built: Mapping[str, BuiltImage], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, UnpackedImage]:
    """All of them; a folder that root alone could enter would hide them from their users."""
    folder = tmp_path_factory.mktemp("unpacked")
    _open(folder)
    return {name: UnpackedImage.of(one.archive, folder / name) for name, one in built.items()}


def _open(folder: Path) -> None:
    for above in (folder, *folder.parents):
        if above.stat().st_mode & 0o005 != 0o005 and above.owner() == "root":
            above.chmod(0o755)
