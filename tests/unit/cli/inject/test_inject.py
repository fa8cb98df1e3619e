"""A sidecar for somebody's own Deployment: what is added, what stays, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from segue.desired import SHARDS
from segue.errors import SegueError
from segue_cli.inject.manifest import FLEET_LABEL, INJECTED
from segue_cli.main import app
from segue_sidecar.config import Config, load_config

MANIFEST = """\
# The speech of the house.
apiVersion: v1
kind: Service
metadata: {name: speech}
spec:
  ports: [{port: 80}]   # in front
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: speech
  namespace: voices
spec:
  template:
    metadata:
      labels:
        app: speech
    spec:
      containers:
        - name: web
          image: house/speech:7   # built on Segue's server
          securityContext: {runAsUser: 2000}
          volumeMounts:
            - {name: scratch, mountPath: /tmp}
      volumes:
        - {name: scratch, emptyDir: {}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "deployment.yaml"
    path.write_text(MANIFEST, encoding="utf-8")
    return path


def inject(file: Path, *options: str) -> str:
    """What goes to stdout."""
    result = CliRunner().invoke(app, ["inject", str(file), *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def documents(text: str) -> dict[str, Any]:
    return {each["kind"]: each for each in YAML(typ="safe").load_all(text)}


def pod(text: str) -> Any:
    return documents(text)["Deployment"]["spec"]["template"]


def by_name(items: list[Any]) -> dict[str, Any]:
    return {each["name"]: each for each in items}


def config_in(text: str, folder: Path) -> Config:
    path = folder / "sidecar.yaml"
    path.write_text(documents(text)["ConfigMap"]["data"]["sidecar.yaml"], encoding="utf-8")
    return load_config(path, environment={"SEGUE_POD_UID": "uid-1"})


def test_the_pod_gets_a_native_sidecar_and_the_operator_finds_it(file: Path) -> None:
    template = pod(inject(file))
    (sidecar,) = template["spec"]["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert by_name(sidecar["ports"])["segue-control"]["containerPort"] == 8443
    assert template["metadata"]["labels"] == {"app": "speech", FLEET_LABEL: "default"}
    assert template["spec"]["automountServiceAccountToken"] is False


def test_every_mount_has_its_volume_and_the_server_cannot_write_the_socket(file: Path) -> None:
    spec = pod(inject(file))["spec"]
    volumes = by_name(spec["volumes"])
    for container in (*spec["initContainers"], *spec["containers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
    server = by_name(spec["containers"][0]["volumeMounts"])
    assert server["segue-handoff"] == {"name": "segue-handoff", "mountPath": "/run/segue", "readOnly": True}
    assert server["scratch"]["mountPath"] == "/tmp"
    sources = volumes["segue-desired"]["projected"]["sources"]
    assert len(sources) == SHARDS
    assert all(source["configMap"]["optional"] for source in sources)


def test_the_sidecar_understands_its_file(file: Path, tmp_path: Path) -> None:
    text = inject(file, "--fleet", "gold", "--source", "s3://a/", "--source", "s3://b/", "--budget", "3Gi")
    config = config_in(text, tmp_path)
    assert (config.pod.fleet, config.server_uids) == ("gold", (2000,))
    assert config.sources[0].uri_prefixes == ("s3://a/", "s3://b/")
    assert config.pool.budget_bytes == 3 << 30
    metadata = documents(text)["ConfigMap"]["metadata"]
    assert metadata["namespace"] == "voices"
    mounted = by_name(pod(text)["spec"]["volumes"])["segue-sidecar-config"]["configMap"]["name"]
    assert mounted == metadata["name"]


def test_memory_follows_from_the_budget(file: Path) -> None:
    (sidecar,) = pod(inject(file, "--budget", "2Gi", "--largest-file", "256Mi"))["spec"]["initContainers"]
    assert sidecar["resources"]["limits"]["memory"] == "3072Mi"


def test_what_is_somebodys_own_stays_as_it_was_written(file: Path) -> None:
    text = inject(file)
    service, _, _ = MANIFEST.partition("---")
    assert text.startswith(service)
    assert "image: house/speech:7   # built on Segue's server" in text
    assert "        - {name: scratch, emptyDir: {}}" in text


def test_done_again_it_is_the_same(file: Path) -> None:
    once = inject(file)
    file.write_text(once, encoding="utf-8")
    assert inject(file) == once


def test_other_options_replace_what_was_added_and_the_pods(file: Path, tmp_path: Path) -> None:
    before = inject(file)
    file.write_text(before, encoding="utf-8")
    after = inject(file, "--source", "s3://c/")
    assert len(pod(after)["spec"]["volumes"]) == len(pod(before)["spec"]["volumes"])
    assert after.count("kind: ConfigMap") == 1
    assert config_in(after, tmp_path).sources[0].uri_prefixes == ("s3://c/",)
    fingerprints = [pod(text)["metadata"]["annotations"][INJECTED] for text in (before, after)]
    assert fingerprints[0] != fingerprints[1]


def test_a_file_may_be_written_and_read_from_stdin(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.yaml"
    inject(file, "-o", str(out))
    piped = CliRunner().invoke(app, ["inject", "-"], input=MANIFEST)
    assert piped.stdout == out.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_other_workloads_are_taken_too(file: Path, kind: str) -> None:
    file.write_text(MANIFEST.replace("kind: Deployment", f"kind: {kind}"), encoding="utf-8")
    assert documents(inject(file))[kind]["spec"]["template"]["spec"]["initContainers"]


def test_settings_of_the_pod_go_before_ours(file: Path) -> None:
    own = "      terminationGracePeriodSeconds: 300\n      securityContext: {fsGroup: 7, runAsUser: 2000}\n"
    changed = MANIFEST.replace("      containers:\n", f"{own}      containers:\n")
    changed = changed.replace("          securityContext: {runAsUser: 2000}\n", "")
    file.write_text(changed, encoding="utf-8")
    spec = pod(inject(file))["spec"]
    assert spec["terminationGracePeriodSeconds"] == 300
    assert spec["securityContext"] == {"fsGroup": 7, "runAsUser": 2000}


TWO = "        - {name: proxy, image: proxy}\n        - name: web\n"


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda text: text.replace("kind: Deployment", "kind: Job"), (), "deployment.yaml holds no workload"),
        (lambda text: f"{text}---\n{text}", (), "holds 2 workloads"),
        (lambda text: text, ("-c", "other"), r"deployment.yaml:\d+: no container other; there are: web"),
        (lambda text: text.replace("        - name: web\n", TWO), (), "--container; there are: proxy, web"),
        (lambda text: text.replace("runAsUser: 2000", "runAsGroup: 1"), (), "web has no securityContext.runAsUser"),
        (lambda text: text, ("--uid", "2000"), "would both be user 2000"),
        (lambda text: text.replace("scratch", "segue-cache"), (), r"yaml:2\d: volumes has a segue-cache already"),
        (lambda text: text.replace("name: web", "name: sidecar"), (), "containers has a sidecar already"),
        (lambda text: text.replace("  template:", "  templates:"), (), "spec.template is missing"),
        (lambda text: text.replace("kind: Service", "kind: [Service"), (), "is no YAML"),
        (lambda text: text, ("--fleet", "Gold"), "--fleet is a name of lower-case letters"),
        (lambda text: text, ("--budget", "much"), "512Mi or 2Gi, not 'much'"),
    ],
    ids=[
        "kind",
        "two",
        "container",
        "which",
        "no user",
        "one user",
        "volume",
        "name",
        "shape",
        "yaml",
        "fleet",
        "size",
    ],
)
def test_what_cannot_be_done_is_said(
    file: Path, change: Callable[[str], str], options: tuple[str, ...], words: str
) -> None:
    file.write_text(change(MANIFEST), encoding="utf-8")
    with pytest.raises(SegueError, match=words):
        inject(file, *options)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match=r"nothing\.yaml cannot be read"):
        inject(tmp_path / "nothing.yaml")
