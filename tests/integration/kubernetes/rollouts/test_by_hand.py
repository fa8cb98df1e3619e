"""What a person does with `kubectl segue`, with the rights of its ClusterRole alone, while listeners listen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.pods.case import Case
from tests.support.pods.stage import Stage
from tests.support.pods.versions import Version
from tests.support.pods.voice import Voice
from typer.testing import CliRunner

from segue_cli.main import plugin

pytestmark = [pytest.mark.cluster, pytest.mark.process, pytest.mark.timeout(600)]

ROLE = Path(__file__).parents[4] / "deploy" / "user.yaml"

Segue = Callable[..., str]


@pytest.fixture
def segue(stage: Stage) -> Segue:
    """The plugin as somebody who may use it in the namespace of the case, and nothing else."""
    namespace, cluster = stage.namespace, stage.cluster
    cluster.kubectl("apply", "-f", str(ROLE))
    binding = [
        "create",
        "rolebinding",
        "jane",
        "--clusterrole=segue-user",
        "--user=jane",
        "--dry-run=client",
        "-o",
        "yaml",
    ]
    cluster.kubectl("apply", "-f", "-", input=cluster.kubectl("-n", namespace, *binding).stdout)
    kubeconfig = cluster.kubeconfig_of("jane")

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(plugin, [*arguments, "-n", namespace, "--kubeconfig", str(kubeconfig)])
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        return result.output

    return run


def files(voice: Voice, version: Version) -> list[str]:
    """The options of `roll` that name a version."""
    voice.on_version(voice.name, version)
    weights = version.spec["weights"].items()
    return [part for name, source in weights for part in ("-w", f"{name}={source['uri']}@{source['sha256']}")]


def test_rolled_and_taken_back_by_hand(case: Case, segue: Segue) -> None:
    voice, first = case.speaking()
    second = case.fresh()
    said = segue("roll", voice.name, *files(voice, second), "--wait", "--timeout", "90s")
    assert f"{voice.key} is Promoted=True" in said
    case.heard(voice, second.revision)
    said = segue("rollback", voice.name, "--wait", "--timeout", "60s")
    assert f"{second.revision[:10]} goes back to {first[:10]}" in said
    assert f"is back on {first[:10]}" in said
    case.heard(voice, first)
    assert "ManualRollback" in segue("describe", voice.name)
    assert "segue.dev/rollback" in segue("wait", voice.name, "--for", "Promoted", code=3)


def test_a_bad_version_rolled_by_hand_is_no_success(case: Case, segue: Segue) -> None:
    voice, first = case.speaking()
    bad = case.stage.wardrobe.wrong_words
    said = segue("roll", voice.name, *files(voice, bad), "--wait", "--timeout", "90s", code=3)
    assert "textMatch" in said
    assert voice.wait_rolled_back(bad.revision).status.active_revision == first
    assert "textMatch" in segue("wait", voice.name, code=3)
    assert "failed" in segue("describe", voice.name)


def test_promoted_by_hand(case: Case, segue: Segue) -> None:
    voice, _ = case.speaking()
    voice.patch({"rollout": {"approval": "Manual"}})
    second = case.fresh()
    segue("roll", voice.name, *files(voice, second))
    waiting = voice.wait_reason("AwaitingApproval").status
    assert f"Why:       AwaitingApproval: {waiting.message}" in segue("describe", voice.name)
    segue("promote", voice.name)
    assert "is Ready=True" in segue("wait", voice.name, "--for", "Ready", "--timeout", "60s")
    assert "is Promoted=True" in segue("wait", voice.name, "--for", "Promoted", "--timeout", "60s")
    case.heard(voice, second.revision)
