"""`kubectl segue` against a real API server: called by kubectl itself, and by somebody with its ClusterRole alone.

No operator runs here: a test writes the status in its stead, so that each command sees exactly what it is about.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.cluster import TestCluster, obtain
from tests.support.stored_voices import plain, rolled_back, rolling, serving
from tests.support.voices import digest, revision, voice_document
from typer.testing import CliRunner

from segue.model.status import Phase, Status
from segue_cli.main import app, plugin

pytestmark = pytest.mark.cluster

DEPLOY = Path(__file__).parents[3] / "deploy"


@dataclass
class Voice:
    """A VoiceModel in a namespace of its own, and the hand of an operator."""

    cluster: TestCluster
    api: httpx.Client
    namespace: str
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"/apis/segue.dev/v1alpha1/namespaces/{self.namespace}/voicemodels/narrator"

    def apply(self, version: str) -> None:
        """As a person does."""
        document = voice_document(version)
        document["metadata"]["namespace"] = self.namespace
        self.cluster.kubectl("apply", "-f", "-", input=json.dumps(document))

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(self.path).raise_for_status().json()
        return found

    def say(self, make: Callable[[int], Status], **more: Any) -> None:
        """Write a status about the present generation."""
        status = plain(make(int(self.read()["metadata"]["generation"]))) | more
        headers = {"Content-Type": "application/merge-patch+json"}
        answer = self.api.patch(f"{self.path}/status", content=json.dumps({"status": status}), headers=headers)
        assert answer.is_success, answer.text

    def later(self, act: Callable[[], None], *, after: Callable[[dict[str, Any]], bool]) -> None:
        """Do something once the voice looks so."""

        def run() -> None:
            for _ in range(600):
                if after(self.read()):
                    act()
                    return
                threading.Event().wait(0.05)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def tell(self, reason: str, message: str) -> None:
        """Write an Event as the operator does."""
        metadata = self.read()["metadata"]
        event = {
            "metadata": {"generateName": "narrator-", "namespace": self.namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "segue.dev/operator",
            "reportingInstance": "test",
            "action": reason,
            "reason": reason,
            "note": message,
            "type": "Warning",
            "regarding": {
                "apiVersion": "segue.dev/v1alpha1",
                "kind": "VoiceModel",
                "name": "narrator",
                "namespace": self.namespace,
                "uid": metadata["uid"],
            },
        }
        answer = self.api.post(f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events", json=event)
        assert answer.is_success, answer.text


@pytest.fixture
def voice(cluster: TestCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Voice]:
    """A voice that serves v2, with v1 before it; commands reach it as an administrator and find no other cluster."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SEGUE_CONTEXT", raising=False)
    with cluster.client() as api:
        made = Voice(cluster, api, cluster.new_namespace("plugin"))
        made.apply("v2")
        made.say(lambda generation: serving("v2", "v1", generation=generation))
        yield made
        for thread in made.threads:
            thread.join(30)


def run(voice: Voice, *arguments: str, code: int = 0, kubeconfig: Path | None = None) -> str:
    """Run a command of the plugin in the voice's namespace; stdout and stderr together."""
    flags = ["-n", voice.namespace, *(["--kubeconfig", str(kubeconfig)] if kubeconfig else [])]
    result = CliRunner().invoke(plugin, [*arguments, *flags])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def kubectl(voice: Voice, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """kubectl itself, with the plugin in its PATH as an installation puts it there."""
    program = tmp_path / "bin" / "kubectl-segue"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nfrom segue_cli.main import kubectl_main\n\nkubectl_main()\n", encoding="utf-8"
    )
    program.chmod(0o755)
    environment = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "KUBECONFIG": str(voice.cluster.kubeconfig),
    }

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(obtain("kubectl")), "segue", *arguments, "-n", voice.namespace],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


def test_kubectl_finds_the_plugin(kubectl: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = kubectl("get")
    assert done.returncode == 0, done.stderr
    assert re.search(rf"narrator +yes +Idle +{revision('v2')[:10]}", done.stdout), done.stdout


def test_kubectl_hands_over_exit_codes(voice: Voice, kubectl: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    voice.say(lambda generation: rolled_back("v3", "v2", generation=generation))
    done = kubectl("wait", "narrator", "--for=condition=Promoted")
    assert done.returncode == 3
    assert "6 of 80 failed" in done.stderr


def test_segue_reaches_the_same_cluster(voice: Voice) -> None:
    arguments = ["get", "narrator", "-o", "name", "-n", voice.namespace, "--kubeconfig", str(voice.cluster.kubeconfig)]
    assert CliRunner().invoke(app, arguments).output == "voicemodel.segue.dev/narrator\n"


# --- with the ClusterRole alone ---------------------------------------------------------------------------------------


@pytest.fixture
def jane(voice: Voice) -> Path:
    """Somebody who may use the plugin in the voice's namespace, and nothing else."""
    voice.cluster.kubectl("apply", "-f", str(DEPLOY / "user.yaml"))
    binding = ["create", "rolebinding", "jane", "--clusterrole=segue-user", "--user=jane", "-n", voice.namespace]
    voice.cluster.kubectl(*binding)
    return voice.cluster.kubeconfig_of("jane")


def test_the_cluster_role_is_enough_for_every_command(voice: Voice, jane: Path) -> None:
    voice.tell("Held", "louder by 3.1 LU")
    assert "narrator" in run(voice, "get", kubeconfig=jane)
    assert "Held: louder by 3.1 LU" in run(voice, "describe", "narrator", kubeconfig=jane)
    assert "is Promoted=True" in run(voice, "wait", "narrator", "--for", "Promoted", kubeconfig=jane)
    for command in ("pause", "resume", "promote", "retry", "rollback"):
        assert f"{voice.namespace}/narrator in context " in run(voice, command, "narrator", kubeconfig=jane)
    new = f"acoustic=s3://voices/v3.npz@{digest('v3')}"
    run(voice, "roll", "narrator", "-w", new, kubeconfig=jane)
    managers = {each["manager"]: each["operation"] for each in voice.read()["metadata"]["managedFields"]}
    assert managers["segue-cli"] == "Update"


def test_without_a_permission_it_is_said_which_one(voice: Voice, jane: Path) -> None:
    with pytest.raises(Exception, match=r"needed: list on voicemodels\.segue\.dev in all namespaces"):
        run(voice, "get", "-A", kubeconfig=jane)
    joe = voice.cluster.kubeconfig_of("joe")
    with pytest.raises(Exception, match=f'(?s)User "joe" cannot get .*needed: get .* in namespace {voice.namespace}'):
        run(voice, "promote", "narrator", kubeconfig=joe)


def test_a_service_account_is_somebody_too(voice: Voice, jane: Path) -> None:
    account = f"{voice.namespace}:default"
    voice.cluster.kubectl(
        "create",
        "rolebinding",
        "robot",
        "--clusterrole=segue-user",
        f"--serviceaccount={account}",
        "-n",
        voice.namespace,
    )
    robot = voice.cluster.kubeconfig_of_service_account(voice.namespace, "default")
    assert "narrator" in run(voice, "get", kubeconfig=robot)


# --- asking and following ---------------------------------------------------------------------------------------------


def test_intents_are_annotations_and_one_field(voice: Voice) -> None:
    run(voice, "promote", "narrator")
    run(voice, "pause", "narrator")
    found = voice.read()
    assert found["metadata"]["annotations"]["segue.dev/promote"]
    assert found["spec"]["rollout"]["paused"] is True
    assert "(paused)" in run(voice, "get")


def test_a_rollback_to_an_older_version_leaves_nothing_of_the_newer_one(voice: Voice) -> None:
    document = voice_document("v2", options={"speed": 1.5})
    document["metadata"]["namespace"] = voice.namespace
    voice.cluster.kubectl("apply", "-f", "-", input=json.dumps(document))
    voice.say(lambda generation: serving("v2", "v1", generation=generation))
    run(voice, "rollback", "narrator", "--to", revision("v1")[:6])
    spec = voice.read()["spec"]
    assert spec["weights"] == {"acoustic": {"uri": "file:///voices/v1.npz", "sha256": digest("v1")}}
    assert not spec.get("options")


def test_what_the_schema_refuses_is_told_in_its_words(voice: Voice) -> None:
    with pytest.raises(Exception, match=r"answered 422: .*spec\.weights\.acoustic\.uri"):
        run(voice, "roll", "narrator", "-w", f"acoustic=s3://{'v' * 2100}@{digest('v3')}")


def test_a_roll_that_is_taken_back_is_no_success(voice: Voice) -> None:
    def operate() -> None:
        voice.say(lambda generation: rolling("v3", "v2", phase=Phase.CANARY, generation=generation))
        voice.apply("v2")  # the revert
        voice.say(lambda generation: rolled_back("v3", "v2", generation=generation))

    voice.later(operate, after=lambda found: "v3" in found["spec"]["weights"]["acoustic"]["uri"])
    new = f"acoustic=file:///voices/v3.npz@{digest('v3')}"
    said = run(voice, "roll", "narrator", "-w", new, "--wait", "--timeout", "30s", code=3)
    assert "6 of 80 failed" in said


def test_wait_does_not_believe_what_was_said_of_the_spec_before(voice: Voice) -> None:
    voice.apply("v3")
    said = run(voice, "wait", "narrator", "--for", "Promoted", "--timeout", "0s", code=4)
    assert re.search(r"the operator has not looked at generation \d+", said)


def test_rollback_waits_for_the_operator(voice: Voice) -> None:
    def operate() -> None:
        token = voice.read()["metadata"]["annotations"]["segue.dev/rollback"]
        voice.say(lambda generation: rolled_back("v2", "v1", generation=generation), handledTokens={"rollback": token})

    voice.later(operate, after=lambda found: "segue.dev/rollback" in found["metadata"].get("annotations", {}))
    said = run(voice, "rollback", "narrator", "--wait", "--timeout", "30s")
    assert f"is back on {revision('v1')[:10]}" in said


def test_watch_shows_changes_and_events_and_ends_with_the_voice(voice: Voice) -> None:
    def preload() -> None:
        voice.say(lambda generation: rolling("v3", "v2", phase=Phase.PRELOADING, generation=generation))
        voice.tell("Preloading", "v3 is to replace v2")

    lines: list[str] = []
    program = [sys.executable, "-c", "from segue_cli.main import kubectl_main; kubectl_main()"]
    process = subprocess.Popen(
        [*program, "watch", "narrator", "-n", voice.namespace],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if len(lines) == 1:
                preload()
            if "v3 is to replace v2" in line:
                voice.api.delete(voice.path).raise_for_status()
        assert "was deleted" in process.stderr.read()
    assert process.returncode == 1
    assert "Idle" in lines[0]
    assert any("Preloading" in line and "loaded 3/4" in line for line in lines)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_cluster_without_the_definition(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segue_cli.cluster.api.GROUP", "elsewhere.segue.dev")
    for command in (["get"], ["describe", "narrator"]):
        with pytest.raises(Exception, match="the CustomResourceDefinition is not installed"):
            run(voice, *command)


def test_an_unknown_voice_is_answered_with_those_there_are(voice: Voice) -> None:
    with pytest.raises(Exception, match=rf"in {voice.namespace} there are: narrator"):
        run(voice, "describe", "nobody")


def test_wait_outlives_an_api_server_that_is_started_again(voice: Voice, own_cluster: TestCluster) -> None:
    voice.say(lambda generation: rolling("v3", "v2", phase=Phase.WATCHING, generation=generation))
    program = [sys.executable, "-c", "from segue_cli.main import kubectl_main; kubectl_main()"]
    arguments = ["wait", "narrator", "--for", "Promoted", "--timeout", "60s", "-n", voice.namespace]
    with subprocess.Popen([*program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "Watching" in process.stderr.readline()
        own_cluster.stop_api_server()
        with pytest.raises(Exception, match="does not answer at https://"):
            run(voice, "get")
        own_cluster.start_api_server()
        voice.say(lambda generation: serving("v3", "v2", generation=generation))
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert "is Promoted=True" in process.stdout.read()
