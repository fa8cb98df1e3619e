"""From nothing to a spoken sentence, typing what the README says and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.cluster.binaries import HELM, obtain
from tests.support.e2e.installation import Installation
from tests.support.e2e.place import Place
from tests.support.e2e.report import StepReport

ROOT = Path(__file__).parents[2]
SECTION = "On Kubernetes"
FORWARDING = "Forwarding from"
LIMIT_S = 300


def commands(section: str) -> list[str]:
    """The lines after `$ ` of a section of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {section}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the README has no section {section}"
    return re.findall(r"^\$ (.+?)(?:\s+#.*)?$", found[1], re.MULTILINE)


class Terminal:
    """A shell's place in the checkout, with helm and kubectl at hand and one cluster to reach."""

    def __init__(self, place: Place, folder: Path) -> None:
        tools = folder / "bin"
        tools.mkdir()
        (tools / "helm").symlink_to(obtain(HELM))
        (tools / "kubectl").symlink_to(obtain("kubectl"))
        (folder / "work").mkdir()
        for name in ("charts", "examples", "deploy"):
            (folder / "work" / name).symlink_to(ROOT / name)
        self.folder = folder / "work"
        self._environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(folder),
            "KUBECONFIG": str(place.cluster.kubeconfig),
        }

    def type(self, line: str) -> str:
        """Run a line to its end; fails where it fails."""
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, line: str) -> subprocess.Popen[str]:
        """Run a line that goes on while others are typed, as far as its first line of output."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        assert FORWARDING in first, f"$ {line}\n{first}"
        return process


def test_a_sentence_is_heard_after_what_the_readme_says(
    place: Place, installation: Installation, report: StepReport, tmp_path: Path
) -> None:
    if installation.exists():
        pytest.skip("a release is there already: this is about the first one")
    assert shutil.which("curl"), "the README uses curl"
    terminal = Terminal(place, tmp_path)
    forwarding: subprocess.Popen[str] | None = None
    typed = commands(SECTION)
    try:
        with report.step("helm install to the first sentence"):
            for line in typed:
                if "port-forward" in line:
                    forwarding = terminal.start(line)
                elif "update" not in line:
                    terminal.type(line)
    finally:
        if forwarding is not None:
            forwarding.terminate()
            with forwarding:
                forwarding.wait(10)
    assert forwarding is not None, typed
    heard = terminal.folder / "hello.mp3"
    assert seconds_of(heard) > 0.3
    installation.wait_ready()


def seconds_of(recording: Path) -> float:
    """Length of an mp3 that is not silence."""
    import numpy as np
    import soundfile

    samples, rate_hz = soundfile.read(recording)
    assert float(np.sqrt(np.mean(samples**2))) > 0.01, "it is silence"
    return len(samples) / float(rate_hz)
