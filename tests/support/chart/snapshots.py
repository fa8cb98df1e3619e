"""Renderings as files that a person reads in a review: one line for what is small, no secrets, no versions, sorted.

Dashboards, which have files of their own, are named and not shown.

`make snapshots` writes them anew; a test compares.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter
from tests.support.chart.helm import CASES, CHART, Helm, case_name
from tests.support.chart.release import MADE
from tests.support.chart.rendering import Body, Rendering
from tests.support.cluster import obtain
from tests.support.cluster.binaries import HELM

FOLDER = Path(__file__).parents[2] / "integration" / "kubernetes" / "chart" / "snapshots"
VERSIONS = ("app.kubernetes.io/version", "helm.sh/chart")


def path_of(case: Path) -> Path:
    """Where the snapshot of a values file is."""
    return FOLDER / f"{case_name(case)}.yaml"


def as_text(rendering: Rendering) -> str:
    """The file."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.width = 160
    yaml.Representer = _Representer
    stream = StringIO()
    yaml.dump_all(sorted(_steady(rendering), key=_order), stream)
    return stream.getvalue()


class _Representer(SafeRepresenter):
    """Shows files in ConfigMaps as the lines that they are."""

    def text(self, text: str) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Representer.add_representer(str, _Representer.text)


def _steady(rendering: Rendering) -> Iterator[Body]:
    """What is the same each time: keys and certificates are made anew, and the CRD has a file of its own."""
    for each in rendering.objects:
        if each["kind"] == "CustomResourceDefinition":
            yield {"kind": each["kind"], "metadata": {"name": each["metadata"]["name"]}}
            continue
        body = copy.deepcopy(each)
        body["metadata"]["labels"] = {k: v for k, v in body["metadata"]["labels"].items() if k not in VERSIONS}
        if body["kind"] == "ConfigMap":
            body["data"] = {name: _named(text) for name, text in body["data"].items()}
        if body["kind"] == "Secret":
            body["data"] = dict.fromkeys(body["data"], "made anew each time")
            if MADE in body["metadata"].get("annotations", {}):
                body["metadata"]["annotations"][MADE] = "now"
        yield body


def _named(text: str) -> str:
    """The name of the chart's file that a text is, or the text; dashboards are thousands of lines."""
    same = (path for path in CHART.glob("dashboards/*.json") if path.read_text(encoding="utf-8") == text)
    return next((f"the file {path.relative_to(CHART)}" for path in same), text)


def _order(body: Body) -> tuple[str, str, str]:
    metadata = body["metadata"]
    return body["kind"], metadata.get("namespace", ""), metadata["name"]


def main() -> None:
    """Write all of them."""
    with tempfile.TemporaryDirectory() as home:
        helm = Helm(obtain(HELM, say=print), Path(home))
        for case in CASES:
            path_of(case).write_text(as_text(helm.render(case)), encoding="utf-8")
            print(path_of(case).relative_to(Path.cwd()))


if __name__ == "__main__":
    main()
