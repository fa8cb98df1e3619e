"""Long commands: what is said while they run, and what is left when they fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import tools.images.running
from tools.images.errors import BuildFailed
from tools.images.running import LoggedRunner

STEPS = """\
echo '[2/3] STEP 4/17: COPY requirements/build.txt   /build/'
echo 'STEP 1/2: FROM base'
echo '#9 [build 3/11] RUN python3 -m venv'
echo 'I: Base system installed successfully.'
echo 'Collecting numpy'
"""


def runner(folder: Path, said: list[str]) -> LoggedRunner:
    return LoggedRunner(label="server", log=folder / "server.log", say=said.append)


def test_steps_of_each_engine_are_said_and_the_rest_is_logged(tmp_path: Path) -> None:
    said: list[str] = []
    runner(tmp_path, said)(["sh", "-c", STEPS])
    assert said == [
        "server: 4/17: COPY requirements/build.txt /build/",
        "server: 1/2: FROM base",
        "server: 3/11: RUN python3 -m venv",
        "server: Base system installed successfully.",
    ]
    assert "Collecting numpy" in (tmp_path / "server.log").read_text()


def test_a_failure_shows_the_last_lines_and_the_log(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed) as failed:
        runner(tmp_path, [])(["sh", "-c", "echo first; echo 'no matching distribution' >&2; exit 7"])
    assert "server: sh ended with 7; all of it is in" in str(failed.value)
    assert "server.log" in str(failed.value)
    assert "no matching distribution" in str(failed.value)


def test_silence_is_broken_with_a_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends when the sign of life was given."""
    monkeypatch.setattr(tools.images.running, "SIGN_OF_LIFE_S", 0.01)
    said: list[str] = []
    heard = tmp_path / "heard"

    def say(line: str) -> None:
        said.append(line)
        heard.touch()

    quiet = LoggedRunner(label="base", log=tmp_path / "log", say=say)
    quiet(["sh", "-c", f"until [ -e {heard} ]; do :; done"])
    assert said[0].startswith("base: still at it, ")


def test_its_environment_is_what_it_is_given(tmp_path: Path) -> None:
    runner(tmp_path, [])(["/bin/sh", "-c", "echo $COLOUR"], environment={"COLOUR": "green"})
    assert (tmp_path / "server.log").read_text().endswith("  green\n")
