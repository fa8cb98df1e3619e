"""Containers of the images, on a root file system that cannot be written, as the image's own user."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.support.images.containers import UnpackedImage

pytestmark = pytest.mark.node

OWN = {
    "operator": ("segue_operator",),
    "sidecar": ("segue_sidecar", "segue_engines"),
    "server": ("segue_server", "segue_engines.demo"),
}
"""And whatever these import of `segue`, which holds more than any one of them needs."""
IMPORT_ALL = """
import importlib, pkgutil
count = 0
for name in {packages}:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, name + "."):
        if not found.name.endswith("__main__") and not found.name.startswith("segue_engines.gpt_sovits."):
            importlib.import_module(found.name)
            count += 1
print(count)
"""
WITHOUT_TORCH = """
from segue.errors import SegueError
from segue_engines.registry import get_engine
try:
    get_engine("gpt-sovits")
except SegueError as error:
    print(error)
"""
ENCODE = """
import numpy as np
from segue_server.audio.encoder import make_encoder
from segue_server.audio.formats import AudioFormat, OutputSpec
tone = np.sin(np.arange(24000) / 20).astype(np.float32) / 2
for format in AudioFormat:
    encoder = make_encoder(OutputSpec(format=format, sample_rate=24000, whole=False), engine_rate=24000)
    print(format.value, len(encoder.feed(tone) + encoder.finish()) > 1000)
"""
STORES = """
import fsspec
for scheme in ("s3", "gs", "hf", "https", "file"):
    print(scheme, fsspec.get_filesystem_class(scheme).__name__)
"""
PYTHONS = """
import os, sys
print(os.getuid(), os.access("/", os.W_OK), os.access(sys.prefix, os.W_OK), sys.path[0] != "")
"""


def test_docker_run_help_works(image: UnpackedImage, name: str) -> None:
    printed = image.run(*image.config["Entrypoint"], *image.config["Cmd"])
    assert "--config" in printed
    assert image.config["Entrypoint"] == ["python", "-m", f"segue_{name}"]


def test_the_charts_command_is_found_in_path(image: UnpackedImage, name: str) -> None:
    assert "usage:" in image.run("python", "-m", f"segue_{name}", "--help")


def test_every_module_of_its_packages_can_be_imported(image: UnpackedImage, name: str) -> None:
    """Also those that are imported when they are needed: nothing that a process may ask for is missing.

    But for the engine `gpt-sovits`, whose libraries are in no image yet.
    """
    assert int(image.python(IMPORT_ALL.format(packages=OWN[name]))) > 50


def test_no_start_compiles_anything_again_not_the_standard_library_either(image: UnpackedImage, name: str) -> None:
    """`python -v` says of each module whether it came from its source."""
    said = image.run("python", "-v", "-m", f"segue_{name}", "--help")
    assert "argparse" in said
    assert re.findall(r"^# code object from '(.*\.py)'$", said, re.MULTILINE) == []


def test_its_user_can_write_nothing_and_the_current_folder_is_no_place_for_modules(image: UnpackedImage) -> None:
    assert image.python(PYTHONS).split() == [str(image.user), "False", "False", "True"]


def test_the_server_encodes_every_format_of_the_api(unpacked: Mapping[str, UnpackedImage]) -> None:
    lines = unpacked["server"].python(ENCODE).splitlines()
    assert {line.split()[0] for line in lines} == {"mp3", "opus", "vorbis", "aac", "flac", "wav", "pcm"}
    assert all(line.endswith("True") for line in lines)


def test_an_engine_that_no_image_holds_says_so(unpacked: Mapping[str, UnpackedImage]) -> None:
    for name in ("sidecar", "server"):
        assert "needs torch" in unpacked[name].python(WITHOUT_TORCH)


def test_the_sidecar_knows_every_store_of_the_docs(unpacked: Mapping[str, UnpackedImage]) -> None:
    assert len(unpacked["sidecar"].python(STORES).splitlines()) == 5


def test_as_process_1_it_ends_when_it_is_asked_to(unpacked: Mapping[str, UnpackedImage], tmp_path: Path) -> None:
    """The kernel delivers no signal to process 1 that it does not handle."""
    tmp_path.chmod(0o755)
    (tmp_path / "server.yaml").write_text(
        "socketDir: /tmp\nworkers: 1\nlisten: 127.0.0.1:0\nstatusListen: 127.0.0.1:0\n"
    )
    words = ("python", "-m", "segue_server", "--config", "/config/server.yaml", "--log-format", "json")
    with unpacked["server"].container(words, files=tmp_path) as container:
        container.await_line("speech API on")
        container.signal("TERM")
        container.process.communicate(timeout=60)
        assert container.process.returncode == 0
