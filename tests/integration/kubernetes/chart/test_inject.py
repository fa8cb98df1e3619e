"""`segue inject` makes of a bare Deployment what the chart makes of its own, and a real API server takes it."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.support.chart.helm import CHART, Helm
from tests.support.chart.rendering import Body, containers
from tests.support.cluster import TestCluster
from typer.testing import CliRunner

from segue_cli.main import app

pytestmark = pytest.mark.cluster

DEFAULT = CHART / "ci" / "default-values.yaml"
OWN_VOLUMES = ("segue-server-config", "segue-server-tmp")
SOURCES = ("--set", "fleet.sources[0].uriPrefixes={s3://voices/}")


@pytest.fixture
def of_chart(helm: Helm) -> tuple[Body, Body]:
    """A fleet's Deployment, and the sidecar's configuration."""
    rendering = helm.render(DEFAULT, more=SOURCES)
    ((_, deployment),) = rendering.fleets()
    config: Body = YAML(typ="safe").load(rendering.files_of(deployment)["sidecar.yaml"])
    return deployment, config


def bare(deployment: Body) -> Body:
    """What somebody has who knows nothing of sidecars: the server alone."""
    left = copy.deepcopy(deployment)
    template = left["spec"]["template"]
    del template["metadata"]["labels"]["segue.dev/fleet"]
    spec = template["spec"]
    for field in ("initContainers", "automountServiceAccountToken"):
        del spec[field]
    spec["volumes"] = [each for each in spec["volumes"] if each["name"] in OWN_VOLUMES]
    for container in spec["containers"]:
        container["volumeMounts"] = [each for each in container["volumeMounts"] if each["name"] in OWN_VOLUMES]
    return left


def injected(deployment: Body, folder: Path) -> tuple[Body, Body]:
    """The Deployment and the configuration that inject makes."""
    file = folder / "deployment.yaml"
    stream = io.StringIO()
    YAML(typ="safe").dump(deployment, stream)
    file.write_text(stream.getvalue(), encoding="utf-8")
    done = CliRunner().invoke(app, ["inject", str(file), "--source", "s3://voices/"])
    assert done.exit_code == 0, done.output
    made, config_map = YAML(typ="safe").load_all(done.stdout)
    return made, YAML(typ="safe").load(config_map["data"]["sidecar.yaml"])


def by_name(items: list[Any]) -> dict[str, Any]:
    return {each["name"]: each for each in items}


def test_the_sidecar_is_the_same_container(of_chart: tuple[Body, Body], tmp_path: Path) -> None:
    deployment, _ = of_chart
    made, _ = injected(bare(deployment), tmp_path)
    assert containers(made)["sidecar"] == containers(deployment)["sidecar"]


def test_the_server_has_the_same_mounts(of_chart: tuple[Body, Body], tmp_path: Path) -> None:
    deployment, _ = of_chart
    made, _ = injected(bare(deployment), tmp_path)
    ours, theirs = (by_name(containers(each)["server"]["volumeMounts"]) for each in (made, deployment))
    assert ours == theirs


def test_volumes_labels_and_the_rest_of_the_pod_are_the_same(of_chart: tuple[Body, Body], tmp_path: Path) -> None:
    deployment, _ = of_chart
    made, _ = injected(bare(deployment), tmp_path)
    ours, theirs = (each["spec"]["template"] for each in (made, deployment))
    assert ours["metadata"]["labels"] == theirs["metadata"]["labels"]
    volumes, expected = by_name(ours["spec"]["volumes"]), by_name(theirs["spec"]["volumes"])
    assert volumes["segue-sidecar-config"]["configMap"].pop("name") == "segue-default-segue"
    assert expected["segue-sidecar-config"]["configMap"].pop("name") == "segue-default"
    assert volumes == expected
    differ = {"initContainers", "containers", "volumes"}
    assert {k: v for k, v in ours["spec"].items() if k not in differ} == {
        k: v for k, v in theirs["spec"].items() if k not in differ
    }


def test_the_configuration_is_the_same(of_chart: tuple[Body, Body], tmp_path: Path) -> None:
    deployment, expected = of_chart
    _, config = injected(bare(deployment), tmp_path)
    sizes = {
        "pool": {"budgetBytes": 1 << 30},
        "limits": {"fileBytes": 512 << 20, "cacheBytes": 20 << 30},
        "tiers": {"diskBytes": 10 << 30, "waitS": 5},
    }
    assert config == {**expected, **sizes}
    assert (expected["pool"], expected["limits"], expected["tiers"]) == (
        {"budgetBytes": "1Gi"},
        {"fileBytes": "512Mi", "cacheBytes": "20Gi"},
        {"diskBytes": "10Gi", "waitS": 5},
    )


def test_an_api_server_takes_it(of_chart: tuple[Body, Body], cluster: TestCluster, tmp_path: Path) -> None:
    made, _ = injected(bare(of_chart[0]), tmp_path)
    made["metadata"]["namespace"] = cluster.new_namespace("inject")
    dry = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    assert "serverside-applied" in cluster.kubectl(*dry, input=json.dumps(made)).stdout
