"""The real helm, apart from whatever configuration of it lies on the machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from tests.support.chart.rendering import Rendering

CHART = Path(__file__).parents[3] / "charts" / "segue"
CASES = tuple(sorted((CHART / "ci").glob("*-values.yaml")))
"""The installations that are tested."""

RELEASE, NAMESPACE = "segue", "segue-system"
LIMIT_S = 60


def case_name(path: Path) -> str:
    """`two-fleets` of `ci/two-fleets-values.yaml`."""
    return path.name.removesuffix("-values.yaml")


@dataclass(frozen=True, slots=True)
class Helm:
    """helm with a home of its own.

    Attributes
    ----------
    home
        An empty folder.
    kubeconfig
        Of the cluster that it may change; None: it reaches none.
    """

    program: Path
    home: Path
    kubeconfig: Path | None = None

    def run(self, *arguments: str, check: bool = True, within_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
        """Run it; a failure fails the test, unless it is not to be checked."""
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.home),
            "KUBECONFIG": str(self.kubeconfig or self.home / "no-cluster"),
        }
        command = [str(self.program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=within_s, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"helm {' '.join(arguments)}: code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def lint(self, values: Path) -> str:
        """What it says of the chart with these values; the strict way."""
        return self.run("lint", "--strict", str(CHART), "--values", str(values)).stdout

    def render(
        self, values: Path, *, namespace: str = NAMESPACE, release: str = RELEASE, more: Sequence[str] = ()
    ) -> Rendering:
        """All objects that an installation with these values is made of."""
        place = ("--namespace", namespace, "--values", str(values))
        text = self.run("template", release, str(CHART), *place, *more).stdout
        return Rendering(tuple(each for each in YAML(typ="safe").load_all(text) if each))

    def refusal(self, *settings: str) -> str:
        """What it says when it refuses values; fails when it takes them."""
        done = self.run("template", RELEASE, str(CHART), "--namespace", NAMESPACE, *settings, check=False)
        assert done.returncode != 0, f"{settings} are taken"
        return done.stderr
