"""The configuration files that the chart writes are read by the processes that they are for, and fit their pods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.support.chart.helm import CASES, CHART, Helm, case_name
from tests.support.chart.rendering import Body, Rendering, containers

import segue_operator.config
import segue_server.config
import segue_sidecar.config
from segue_operator.config import KubernetesConfig
from segue_server.config import ServerConfig
from segue_sidecar.config import POD_VARIABLES
from segue_sidecar.config import Config as SidecarConfig

pytestmark = pytest.mark.cluster

TWO_FLEETS = CHART / "ci" / "two-fleets-values.yaml"
ENVIRONMENT = {"SEGUE_POD_UID": "uid-1", "SEGUE_POD_NAME": "pod-1", "SEGUE_POD_NAMESPACE": "segue-system"}


@pytest.fixture(params=CASES, ids=case_name)
def rendering(request: pytest.FixtureRequest, helm: Helm) -> Rendering:
    """Each of those that are tested."""
    return helm.render(request.param)


def written(rendering: Rendering, deployment: Body, name: str, folder: Path) -> Path:
    path = folder / name
    path.write_text(rendering.files_of(deployment)[name], encoding="utf-8")
    return path


def sidecar_of(rendering: Rendering, deployment: Body, folder: Path) -> SidecarConfig:
    path = written(rendering, deployment, "sidecar.yaml", folder)
    return segue_sidecar.config.load_config(path, environment=ENVIRONMENT)


def server_of(rendering: Rendering, deployment: Body, folder: Path) -> ServerConfig:
    return segue_server.config.load_config(written(rendering, deployment, "server.yaml", folder))


def operator_of(rendering: Rendering, folder: Path) -> KubernetesConfig:
    path = written(rendering, rendering.operator(), "operator.yaml", folder)
    config = segue_operator.config.load_config(path)
    assert isinstance(config, KubernetesConfig)
    return config


def mounts(container: Body) -> dict[str, bool]:
    """Where something is mounted, and whether it may be written."""
    return {each["mountPath"]: not each.get("readOnly", False) for each in container["volumeMounts"]}


def paths(node: Any) -> Iterator[str]:
    """Every absolute path in a file."""
    if isinstance(node, dict):
        for value in node.values():
            yield from paths(value)
    elif isinstance(node, list):
        for value in node:
            yield from paths(value)
    elif isinstance(node, str) and node.startswith("/"):
        yield node


def test_the_operator_reads_its_file(rendering: Rendering, tmp_path: Path) -> None:
    config = operator_of(rendering, tmp_path)
    name = rendering.operator()["metadata"]["name"]
    assert (config.lease.name, config.lease.namespace) == (name, "segue-system")
    assert config.tls is not None
    assert config.listen == "0.0.0.0:8080"


def test_the_sidecar_reads_its_file(rendering: Rendering, tmp_path: Path) -> None:
    for fleet, deployment in rendering.fleets():
        config = sidecar_of(rendering, deployment, tmp_path)
        server = containers(deployment)["server"]
        assert (config.pod.fleet, config.pod.uid) == (fleet, "uid-1")
        assert config.server_uids == (server["securityContext"]["runAsUser"],)


def test_the_server_reads_its_file(rendering: Rendering, tmp_path: Path) -> None:
    for _, deployment in rendering.fleets():
        config = server_of(rendering, deployment, tmp_path)
        sidecar = sidecar_of(rendering, deployment, tmp_path)
        assert config.socket_dir == sidecar.handoff_directory
        assert config.default_namespace == "segue-system"


def test_every_path_in_a_file_is_mounted(rendering: Rendering) -> None:
    for deployment in rendering.of("Deployment"):
        for name, container in containers(deployment).items():
            file = YAML(typ="safe").load(rendering.files_of(deployment)[f"{name}.yaml"])
            mounted = mounts(container)
            for path in paths(file):
                assert any(PurePosixPath(path).is_relative_to(place) for place in mounted), (name, path)


def test_what_the_sidecar_writes_to_it_may_write_to(rendering: Rendering, tmp_path: Path) -> None:
    for _, deployment in rendering.fleets():
        config, mounted = sidecar_of(rendering, deployment, tmp_path), mounts(containers(deployment)["sidecar"])
        for folder in (config.handoff_directory, config.journal_directory, config.cache_directory):
            assert mounted[str(folder)], folder


def test_ports_are_where_they_are_looked_for(rendering: Rendering, tmp_path: Path) -> None:
    for _, deployment in rendering.fleets():
        sidecar, server = sidecar_of(rendering, deployment, tmp_path), server_of(rendering, deployment, tmp_path)
        open_ports = {
            port["name"]: port["containerPort"] for each in containers(deployment).values() for port in each["ports"]
        }
        assert open_ports == {
            "segue-control": sidecar.control_listen.port,
            "sidecar-status": sidecar.status_listen.port,
            "http": int(server.listen.rpartition(":")[2]),
            "status": int(server.status_listen.rpartition(":")[2]),
        }


def test_the_pod_says_who_it_is(rendering: Rendering) -> None:
    for _, deployment in rendering.fleets():
        variables = {each["name"]: each for each in containers(deployment)["sidecar"]["env"]}
        fields = {
            POD_VARIABLES[name]: variables[name]["valueFrom"]["fieldRef"]["fieldPath"].removeprefix("metadata.")
            for name in POD_VARIABLES
        }
        assert fields == {"uid": "uid", "name": "name", "namespace": "namespace"}


def test_the_sidecar_refuses_what_its_limits_are_not_made_for(helm: Helm, tmp_path: Path) -> None:
    gpu = dict(helm.render(TWO_FLEETS).fleets())["gpu"]
    config = sidecar_of(helm.render(TWO_FLEETS), gpu, tmp_path)
    assert (config.limits.file_bytes, config.pool.budget_bytes) == (1 << 30, 26 << 30), "24Gi, and the shared models"
    assert config.limits.voice_bytes == 2 << 30, "what `fleet` says of its file, other fleets take over"


def test_shared_models_are_mounted_or_fetched_and_their_memory_is_beside_the_budget(helm: Helm, tmp_path: Path) -> None:
    rendering = helm.render(TWO_FLEETS)
    fleets = dict(rendering.fleets())
    mounted, fetched = (sidecar_of(rendering, fleets[name], tmp_path) for name in ("gpu", "default"))
    models = mounted.shared_models["gpt-sovits"]
    assert (models.directory, models.hub, models.options) == (Path("/models/GPT-SoVITS"), None, {"dtype": "bf16"})
    assert "/models" in mounts(containers(fleets["gpu"])["sidecar"])
    assert "/models" not in mounts(containers(fleets["gpu"])["server"])
    assert (hub := fetched.shared_models["gpt-sovits"].hub) is not None
    assert (hub.repository, hub.revision[:6]) == ("somebody/GPT-SoVITS", "012345")
    assert "/models" not in mounts(containers(fleets["default"])["sidecar"])
    limits = {name: containers(each)["sidecar"]["resources"]["limits"]["memory"] for name, each in fleets.items()}
    gib = 1024
    assert limits["default"] == f"{gib + 2 * gib + 2 * gib + 512 + 512}Mi", "while all of them are held twice"
    assert limits["gpu"] == f"{24 * gib + 2 * gib + 2 * gib + gib + 512}Mi"


def test_a_cluster_with_ipv6_only_is_listened_in(helm: Helm, tmp_path: Path) -> None:
    rendering = helm.render(TWO_FLEETS, more=("--set-string", "listenAddress=[::]"))
    assert operator_of(rendering, tmp_path).listen == "[::]:8080"
    for _, deployment in rendering.fleets():
        config = sidecar_of(rendering, deployment, tmp_path)
        assert (config.control_listen.host, config.status_listen.host) == ("::", "::")
        assert server_of(rendering, deployment, tmp_path).listen == "[::]:8000"


def test_the_operator_is_told_of_shared_fleets_only(helm: Helm, tmp_path: Path) -> None:
    rendering = helm.render(TWO_FLEETS)
    config = operator_of(rendering, tmp_path)
    assert list(config.fleets) == ["gpu"]
    fleet = config.fleets["gpu"]
    assert fleet.allowed_namespaces == ("team-a", "team-b")
    pods = {name: each["spec"]["template"]["metadata"]["labels"] for name, each in rendering.fleets()}
    assert fleet.pod_selector.items() <= pods["gpu"].items()
    assert not fleet.pod_selector.items() <= pods["default"].items()


def test_the_operator_mounts_the_secrets_that_its_file_names(helm: Helm, tmp_path: Path) -> None:
    config = operator_of(helm.render(TWO_FLEETS), tmp_path)
    assert config.hooks is not None
    assert config.prometheus is not None
    assert str(config.hooks.token_file) == "/hooks/token"
    assert (str(config.prometheus.token_file), str(config.prometheus.ca_file)) == (
        "/prometheus-token/token",
        "/prometheus-ca/ca.crt",
    )
    volumes = {each["name"]: each for each in helm.render(TWO_FLEETS).operator()["spec"]["template"]["spec"]["volumes"]}
    assert volumes["hooks"]["secret"]["secretName"] == "alertmanager-token"
