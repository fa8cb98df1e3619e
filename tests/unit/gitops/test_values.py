"""The values that the snippets set are good for the chart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from ruamel.yaml import YAML
from tests.support.chart.helm import CHART

GITOPS = Path(__file__).parents[3] / "deploy" / "gitops"


def objects(path: str) -> dict[str, Any]:
    """Those of a file, by kind."""
    text = (GITOPS / path).read_text(encoding="utf-8")
    return {each["kind"]: each for each in YAML(typ="safe").load_all(text)}


def of_argo_cd() -> Any:
    return objects("argocd/segue.yaml")["Application"]["spec"]["source"]["helm"]["valuesObject"]


def of_flux() -> Any:
    return objects("flux/segue.yaml")["HelmRelease"]["spec"]["values"]


@pytest.mark.parametrize("values", [of_argo_cd, of_flux])
def test_values_hold(values: Any) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert [str(error) for error in jsonschema_rs.validator_for(schema).iter_errors(values())] == []


def test_argo_cd_which_looks_nothing_up_has_its_certificates_from_elsewhere() -> None:
    assert of_argo_cd()["tls"]["mode"] != "chart"


def test_what_people_write_is_left_alone_in_both_places() -> None:
    settings = YAML(typ="safe").load((GITOPS / "argocd" / "argocd-cm.yaml").read_text(encoding="utf-8"))["data"]
    everywhere = YAML(typ="safe").load(settings["resource.customizations.ignoreDifferences.segue.dev_VoiceModel"])
    (here,) = objects("argocd/voices.yaml")["Application"]["spec"]["ignoreDifferences"]
    assert everywhere["jqPathExpressions"] == here["jqPathExpressions"] == [".spec.rollout.paused"]


def test_both_follow_the_version_of_the_chart() -> None:
    chart = YAML(typ="safe").load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    version = f"v{chart['version']}"
    assert objects("argocd/segue.yaml")["Application"]["spec"]["source"]["targetRevision"] == version
    assert objects("flux/segue.yaml")["GitRepository"]["spec"]["ref"]["tag"] == version
