"""The layout for a repository of voices builds, means what its comments say, and is taken by an API server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.support.chart.helm import CHART
from tests.support.cluster import TestCluster

from segue.model import VoiceModel

pytestmark = pytest.mark.cluster

VOICES = CHART.parents[1] / "deploy" / "gitops" / "voices"


def built(cluster: TestCluster, stage: str) -> list[dict[str, Any]]:
    text = cluster.kubectl("kustomize", str(VOICES / stage)).stdout
    return list(YAML(typ="safe").load_all(text))


@pytest.mark.parametrize("stage", [path.name for path in sorted(VOICES.iterdir()) if path.name != "base"])
def test_a_stage_is_taken(cluster: TestCluster, stage: str) -> None:
    (body,) = built(cluster, stage)
    body["metadata"]["namespace"] = cluster.new_namespace(stage)
    dry = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    assert "serverside-applied" in cluster.kubectl(*dry, input=json.dumps(body)).stdout


def test_stages_differ_as_they_say(cluster: TestCluster) -> None:
    staging, production = (VoiceModel.model_validate(built(cluster, stage)[0]) for stage in ("staging", "production"))
    assert staging.spec.weights["prosody"].uri.endswith("/v2/prosody.pth")
    assert staging.spec.weights["timbre"] == production.spec.weights["timbre"]
    assert production.spec.weights["prosody"].uri.endswith("/v1/prosody.pth")
    assert production.spec.rollout.approval.value == "Manual"
    assert staging.spec.rollout.canary.mode.value == "Skip"
