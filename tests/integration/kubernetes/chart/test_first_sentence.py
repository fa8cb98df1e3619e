"""From `helm install` to a spoken sentence: the chart's own commands, files, certificates and rights, but for a node.

The processes of the pods are real and are started from what lies in the API server (`tests/support/chart/kubelet.py`).
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ruamel.yaml import YAML
from tests.support.chart.helm import Helm
from tests.support.chart.kubelet import ChartPod, running
from tests.support.chart.release import Release
from tests.support.cluster import TestCluster
from tests.support.pods.kube import Kube
from tests.support.pods.versions import Wardrobe
from tests.support.pods.voice import Voice
from typer.testing import CliRunner

from segue_cli.main import app

pytestmark = [pytest.mark.cluster, pytest.mark.process, pytest.mark.timeout(240)]

OPERATOR = "segue-operator"
SMALL = "fleet.replicas=1,fleet.sidecar.budget=128Mi,fleet.sidecar.largestFile=32Mi"
_hosts = itertools.count(200)


class Installation:
    """A release, and the pods that its Deployments ask for."""

    def __init__(self, release: Release, folder: Path) -> None:
        self.release = release
        self.folder = folder

    @property
    def namespace(self) -> str:
        """Of all of it."""
        return self.release.namespace

    def install(self, *settings: str) -> None:
        """With an operator of this namespace alone: others of the suite live beside it."""
        mine = f"crds.enabled=false,rbac.userRole=false,operator.namespaces={{{self.namespace}}}"
        self.release.upgrade("--set", mine, "--set", SMALL, *settings)

    def pod(self, kube: Kube, deployment: str) -> ChartPod:
        """One of a Deployment, not running yet; the operator's acts as its service account."""
        body = self.release.deployment(deployment)
        account = body["spec"]["template"]["spec"].get("serviceAccountName", "default")
        token = self.release.cluster.kubeconfig_of_service_account(self.namespace, account)
        return ChartPod(
            kube=kube,
            deployment=body,
            name=f"{deployment}-0",
            address=f"127.0.0.{next(_hosts)}",
            directory=self.folder / deployment,
            environment={"KUBECONFIG": str(token)} if deployment == OPERATOR else {},
        )


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, since sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="segue-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def installation(helm: Helm, own_cluster: TestCluster, folder: Path) -> Iterator[Installation]:
    """Nothing is installed yet; whatever is, goes at the end."""
    release = Release(helm, own_cluster)
    yield Installation(release, folder)
    release.uninstall()


@pytest.fixture
def kube(own_cluster: TestCluster) -> Iterator[Kube]:
    with own_cluster.client() as api:
        yield Kube(api)


@pytest.fixture
def wardrobe(folder: Path) -> Wardrobe:
    """Voices in a folder that the sidecars may read."""
    (folder / "voices").mkdir()
    return Wardrobe(folder / "voices")


def sources(wardrobe: Wardrobe) -> tuple[str, str]:
    return "--set", f"fleet.sources[0].uriPrefixes[0]={wardrobe.folder.as_uri()}/"


def speak(pod: ChartPod, voice: str) -> httpx.Response:
    url = f"http://{pod.address}:{pod.port('http')}/v1/audio/speech"
    body = {"voice": voice, "input": "Hello.", "response_format": "wav"}
    return httpx.post(url, json=body, timeout=60, trust_env=False)


def let_a_voice_speak(installation: Installation, kube: Kube, wardrobe: Wardrobe, pod: ChartPod) -> None:
    """Apply a first version, wait until it is promoted, and hear it."""
    cluster, namespace = installation.release.cluster, installation.namespace
    voice = Voice(name="narrator", namespace=namespace, cluster=cluster, kube=kube)
    revision = voice.apply(wardrobe.narrator)
    voice.wait_promoted(revision)
    said = speak(pod, "narrator")
    assert said.status_code == 200, said.text
    assert said.content[:4] == b"RIFF"
    assert said.headers["Segue-Revision"] == revision
    assert "orbidden" not in (installation.folder / OPERATOR / "operator.log").read_text()


def test_what_helm_installs_speaks(installation: Installation, kube: Kube, wardrobe: Wardrobe) -> None:
    installation.install(*sources(wardrobe))
    with (
        running(installation.pod(kube, OPERATOR)),
        running(installation.pod(kube, "segue-default")) as pod,
    ):
        let_a_voice_speak(installation, kube, wardrobe, pod)


OWN = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: speech}
data:
  server.yaml: |
    listen: 0.0.0.0:8000
    statusListen: 0.0.0.0:8001
    socketDir: /run/segue
    workers: 1
    defaultNamespace: NAMESPACE
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: speech}
spec:
  selector: {matchLabels: {app: speech}}
  template:
    metadata: {labels: {app: speech}}
    spec:
      containers:
        - name: web
          image: house/speech:7
          command: [python, -m, segue_server, --config, /config/server.yaml]
          securityContext: {runAsUser: 2000}
          ports: [{name: http, containerPort: 8000}, {name: status, containerPort: 8001}]
          startupProbe: {httpGet: {path: /healthz, port: status}}
          readinessProbe: {httpGet: {path: /readyz, port: status}}
          volumeMounts: [{name: config, mountPath: /config}]
      volumes:
        - name: config
          configMap: {name: speech}
"""


def test_a_deployment_of_ones_own_speaks_with_an_injected_sidecar(
    installation: Installation, kube: Kube, wardrobe: Wardrobe
) -> None:
    installation.install("--set", "fleet.enabled=false,tls.fleets={mine}")
    file = installation.folder / "own.yaml"
    file.write_text(OWN.replace("NAMESPACE", installation.namespace), encoding="utf-8")
    sizes = ("--budget", "128Mi", "--largest-file", "32Mi")
    options = ("--fleet", "mine", "--source", f"{wardrobe.folder.as_uri()}/", *sizes)
    done = CliRunner().invoke(app, ["inject", str(file), *options])
    assert done.exit_code == 0, done.output
    bodies = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(YAML(typ="safe").load_all(done.stdout))})
    installation.release.cluster.kubectl("-n", installation.namespace, "apply", "-f", "-", input=bodies)
    with (
        running(installation.pod(kube, OPERATOR)),
        running(installation.pod(kube, "speech")) as pod,
    ):
        wardrobe.narrator = wardrobe.narrator.with_content("mine", fleet="mine")
        let_a_voice_speak(installation, kube, wardrobe, pod)
