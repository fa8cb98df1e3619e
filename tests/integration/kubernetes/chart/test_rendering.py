"""What the chart makes, looked at with the real helm; no cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.support.chart.helm import CASES, CHART, Helm, case_name
from tests.support.chart.rendering import Body, Rendering, containers
from tests.support.chart.snapshots import FOLDER, as_text, path_of
from tests.support.chart.wrong_values import BY_SCHEMA, BY_TEMPLATE, ids
from tests.support.pods.rights import ROLES, shipped

pytestmark = pytest.mark.cluster

DEPLOY = CHART.parents[1] / "deploy"
DEFAULT, TWO_FLEETS, NAMESPACED, OWN = (
    CHART / "ci" / f"{name}-values.yaml" for name in ("default", "two-fleets", "namespaced-operator", "own-everything")
)
RIGHTS = ROLES | {"RoleBinding", "ClusterRoleBinding", "ServiceAccount"}
ONLY_THE_SIDECARS = {f"segue-{name}" for name in ("journal", "cache", "tls", "desired", "sidecar-config")}


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_lint_has_nothing_to_say(helm: Helm, case: Path) -> None:
    assert "0 chart(s) failed" in helm.lint(case)


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_a_rendering_is_what_its_snapshot_says(helm: Helm, case: Path) -> None:
    """`make snapshots` renews them."""
    assert as_text(helm.render(case)) == path_of(case).read_text(encoding="utf-8")


def test_no_snapshot_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {path_of(case).name for case in CASES}


@pytest.mark.parametrize(("text", "words"), [*BY_SCHEMA, *BY_TEMPLATE], ids=ids((*BY_SCHEMA, *BY_TEMPLATE)))
def test_a_wrong_value_is_refused_by_name(helm: Helm, tmp_path: Path, text: str, words: str) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(text, encoding="utf-8")
    assert words in helm.refusal("--values", str(values))


# --- rights -----------------------------------------------------------------------------------------------------------


def without_labels(bodies: list[Body]) -> list[Body]:
    """To be compared with manifests that have none."""
    kept = [{**each, "metadata": {k: v for k, v in each["metadata"].items() if k != "labels"}} for each in bodies]
    return sorted(kept, key=lambda each: (each["kind"], each["metadata"]["name"]))


def of_operator(rendering: Rendering) -> list[Body]:
    return [each for each in rendering.of(*RIGHTS) if each["metadata"]["name"].startswith("segue-operator")]


def test_the_rights_are_those_of_the_plain_manifests(helm: Helm) -> None:
    plain = [each for each in shipped() if each["kind"] in RIGHTS]
    assert without_labels(of_operator(helm.render(DEFAULT))) == without_labels(plain)


def test_the_rights_in_one_namespace_are_those_of_the_plain_manifests(helm: Helm) -> None:
    plain = [each for each in shipped(DEPLOY / "namespaced" / "rights.yaml") if each["kind"] in RIGHTS]
    settings = ("--set", "operator.namespaces={voices},fleet.enabled=false")
    assert without_labels(of_operator(helm.render(DEFAULT, more=settings))) == without_labels(plain)


def test_the_role_for_people_is_that_of_the_plain_manifests(helm: Helm) -> None:
    (plain,) = shipped(DEPLOY / "user.yaml")
    rendered = helm.render(DEFAULT).one("ClusterRole", "segue-user")
    assert without_labels([rendered]) == without_labels([plain])


def test_an_operator_of_namespaces_asks_for_nothing_that_is_cluster_wide(helm: Helm) -> None:
    rendering = helm.render(NAMESPACED)
    assert [each["kind"] for each in rendering.objects if "namespace" not in each["metadata"]] == []
    roles = {each["metadata"]["namespace"]: each["rules"] for each in rendering.of("Role")}
    assert set(roles) == {"voices", "podcasts", "speech", "segue-system"}
    assert {rule["resources"][0] for rule in roles["speech"]} == {"pods", "configmaps"}, (
        "a fleet's, and no voices there"
    )


def test_nobody_else_has_rights(helm: Helm) -> None:
    rendering = helm.render(TWO_FLEETS)
    bound = {who["name"] for each in rendering.of("RoleBinding", "ClusterRoleBinding") for who in each["subjects"]}
    assert bound == {"segue-operator"}


# --- pods -------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=CASES, ids=case_name)
def rendering(request: pytest.FixtureRequest, helm: Helm) -> Rendering:
    """Each of those that are tested."""
    return helm.render(request.param)


def test_a_variant_is_a_suffix_of_the_charts_own_tag_and_the_operator_has_none(helm: Helm) -> None:
    settings = ("fleet.imageVariant=gpt-sovits", "fleet.sidecar.image.tag=mine", "fleets.plain.imageVariant=")
    rendering = helm.render(DEFAULT, more=[word for each in settings for word in ("--set", each)])
    images = {
        fleet: {name: each["image"] for name, each in containers(deployment).items()}
        for fleet, deployment in rendering.fleets()
    }
    server = next(each for each in images["plain"].values() if each.startswith("segue/server:"))
    assert images["default"] == {"server": f"{server}-gpt-sovits", "sidecar": "segue/sidecar:mine"}
    (operator,) = containers(rendering.operator()).values()
    assert not operator["image"].endswith("gpt-sovits")


def test_pods_of_fleets_have_no_token_and_two_users(rendering: Rendering) -> None:
    for _, deployment in rendering.fleets():
        spec = deployment["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False
        users = {name: each["securityContext"]["runAsUser"] for name, each in containers(deployment).items()}
        assert users["sidecar"] != users["server"]
        assert spec["securityContext"]["fsGroup"] not in users.values()


def test_no_root_file_system_can_be_written(rendering: Rendering) -> None:
    deployments = rendering.of("Deployment")
    assert deployments
    for deployment in deployments:
        for container in containers(deployment).values():
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_what_is_the_sidecars_alone_is_mounted_by_nobody_else(rendering: Rendering) -> None:
    for _, deployment in rendering.fleets():
        mounts = {
            name: {mount["name"]: mount.get("readOnly", False) for mount in each["volumeMounts"]}
            for name, each in containers(deployment).items()
        }
        assert mounts["sidecar"].keys() >= ONLY_THE_SIDECARS
        assert mounts["sidecar"]["segue-handoff"] is False
        assert mounts["server"]["segue-handoff"] is True
        assert mounts["sidecar"].keys() & mounts["server"].keys() == {"segue-handoff"}


def test_the_sidecar_is_a_native_one_that_comes_first(rendering: Rendering) -> None:
    for _, deployment in rendering.fleets():
        (sidecar,) = deployment["spec"]["template"]["spec"]["initContainers"]
        assert sidecar["restartPolicy"] == "Always"
        assert sidecar["startupProbe"]["httpGet"]["path"] == "/readyz"
        assert "segue-control" in {port["name"] for port in sidecar["ports"]}


def test_a_pod_has_time_to_say_what_it_began(rendering: Rendering) -> None:
    for _, deployment in rendering.fleets():
        spec = deployment["spec"]["template"]["spec"]
        pause = (
            containers(deployment)["server"].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        )
        assert spec["terminationGracePeriodSeconds"] > pause + 30


def mebibytes(text: str) -> int:
    amount, unit = int(text[:-2]), text[-2:]
    return amount * {"Mi": 1, "Gi": 1024}[unit]


@pytest.mark.parametrize(
    ("budget", "largest", "limit"), [("1Gi", "512Mi", 2560), ("24Gi", "1Gi", 27136), ("100Mi", "1Ki", 613)]
)
def test_the_memory_limit_follows_from_the_budget(helm: Helm, budget: str, largest: str, limit: int) -> None:
    sizes = ("--set", f"fleet.sidecar.budget={budget},fleet.sidecar.largestFile={largest}")
    ((_, deployment),) = helm.render(DEFAULT, more=sizes).fleets()
    resources = containers(deployment)["sidecar"]["resources"]
    assert mebibytes(resources["limits"]["memory"]) == limit
    assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_memory_that_is_given_stays(helm: Helm) -> None:
    ((_, deployment),) = helm.render(OWN).fleets()
    assert containers(deployment)["server"]["resources"]["limits"] == {"memory": "3Gi"}


def test_both_containers_share_one_device(helm: Helm) -> None:
    rendering = helm.render(TWO_FLEETS)
    gpu = dict(rendering.fleets())["gpu"]
    (claim,) = gpu["spec"]["template"]["spec"]["resourceClaims"]
    assert rendering.one("ResourceClaimTemplate", claim["resourceClaimTemplateName"])
    assert [each["resources"]["claims"] for each in containers(gpu).values()] == [[{"name": claim["name"]}]] * 2
    cpu = dict(rendering.fleets())["default"]
    assert all("claims" not in each["resources"] for each in containers(cpu).values())


def test_recreate_does_not_inherit_how_to_roll(helm: Helm) -> None:
    ((_, deployment),) = helm.render(DEFAULT, more=("--set", "fleet.strategy.type=Recreate")).fleets()
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_a_deployment_waits_longer_than_its_pods_may_take_to_start(rendering: Rendering) -> None:
    for _, deployment in rendering.fleets():
        probe = containers(deployment)["sidecar"]["startupProbe"]
        assert deployment["spec"]["progressDeadlineSeconds"] > probe["periodSeconds"] * probe["failureThreshold"]


def test_fleets_that_share_an_account_make_it_once(helm: Helm) -> None:
    rendering = helm.render(DEFAULT, more=("--set", "fleet.serviceAccount.name=voices,fleets.more.replicas=1"))
    names = [each["metadata"]["name"] for each in rendering.of("ServiceAccount")]
    assert sorted(names) == ["segue-operator", "voices"]
    assert {each["spec"]["template"]["spec"]["serviceAccountName"] for _, each in rendering.fleets()} == {"voices"}


def test_a_fleet_takes_from_the_first_what_it_does_not_say(helm: Helm) -> None:
    settings = ("--set", "fleet.fsGroup=7,fleet.server.workers=2,fleets.more.server.workers=5")
    fleets = dict(helm.render(DEFAULT, more=settings).fleets())
    assert fleets["more"]["spec"]["template"]["spec"]["securityContext"]["fsGroup"] == 7
    memory = {name: containers(each)["server"]["resources"]["limits"]["memory"] for name, each in fleets.items()}
    assert memory == {"default": "2560Mi", "more": "5632Mi"}


def test_another_cache_volume_replaces_the_first_fleets(helm: Helm, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    claim = "{persistentVolumeClaim: {claimName: cache}}"
    ephemeral = "{ephemeral: {volumeClaimTemplate: {spec: {}}}}"
    values.write_text(
        f"fleet: {{sidecar: {{cacheVolume: {claim}}}}}\nfleets: {{more: {{sidecar: {{cacheVolume: {ephemeral}}}}}}}\n",
        encoding="utf-8",
    )
    fleets = dict(helm.render(values).fleets())
    volumes = {each["name"]: each for each in fleets["more"]["spec"]["template"]["spec"]["volumes"]}
    assert volumes["segue-cache"].keys() == {"name", "ephemeral"}


def test_an_autoscaler_is_not_fought_by_a_number_of_replicas(helm: Helm) -> None:
    rendering = helm.render(TWO_FLEETS)
    targets = {
        each["spec"]["scaleTargetRef"]["name"] for each in rendering.of("HorizontalPodAutoscaler", "ScaledObject")
    }
    assert targets == {each["metadata"]["name"] for _, each in rendering.fleets()}
    assert all("replicas" not in each["spec"] for _, each in rendering.fleets())


def test_selectors_select_the_pods_they_are_for_and_no_others(helm: Helm) -> None:
    rendering = helm.render(TWO_FLEETS)
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"] for each in rendering.of("Deployment")
    }

    def selected(labels: dict[str, str]) -> set[str]:
        return {name for name, own in pods.items() if labels.items() <= own.items()}

    for kind, where in (
        ("Deployment", ("selector", "matchLabels")),
        ("Service", ("selector",)),
        ("PodDisruptionBudget", ("selector", "matchLabels")),
        ("NetworkPolicy", ("podSelector", "matchLabels")),
        ("PodMonitor", ("selector", "matchLabels")),
    ):
        found = rendering.of(kind)
        assert {each["metadata"]["name"] for each in found} == pods.keys(), kind
        for each in found:
            labels: Any = each["spec"]
            for key in where:
                labels = labels[key]
            assert selected(labels) == {each["metadata"]["name"]}, kind


# --- what is said at the end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_the_notes_name_three_commands_about_what_is_there(helm: Helm, case: Path) -> None:
    place = ("--namespace", "segue-system", "--values", str(case), "--dry-run=client")
    notes = helm.run("install", "segue", str(CHART), *place).stdout.partition("NOTES:")[2]
    commands = [line for line in notes.splitlines() if line.startswith(("  kubectl", "  segue"))]
    assert len(commands) == 3, notes
    services = {each["metadata"]["name"] for each in helm.render(case).of("Service")}
    forwarded = re.findall(r"service/(\S+)", notes)
    assert set(forwarded) <= services
    assert bool(forwarded) == bool(dict(helm.render(case).fleets()))


def test_the_notes_say_what_is_still_open(helm: Helm) -> None:
    place = ("--namespace", "segue-system", "--values", str(DEFAULT), "--dry-run=client")
    notes = helm.run("install", "segue", str(CHART), *place).stdout
    assert "set fleet.sources" in notes
    assert "set fleet.keysSecret" in notes


# --- what goes with what ----------------------------------------------------------------------------------------------


def test_another_chart_version_replaces_no_pod(helm: Helm, tmp_path: Path) -> None:
    """Voices are loaded anew in a pod that is replaced: only what the pod reads may replace it."""
    copy = tmp_path / "chart"
    helm.run("package", str(CHART), "--version", "9.9.9", "--destination", str(copy))
    before = {each["metadata"]["name"]: each["spec"]["template"] for each in helm.render(DEFAULT).of("Deployment")}
    text = helm.run("template", "segue", str(copy / "segue-9.9.9.tgz"), "--namespace", "segue-system").stdout
    after = {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in YAML(typ="safe").load_all(text)
        if each and each["kind"] == "Deployment"
    }
    assert "9.9.9" in text
    assert after == before


def test_another_configuration_replaces_the_pods_that_read_it(helm: Helm) -> None:
    before = {each["metadata"]["name"]: each["spec"]["template"] for each in helm.render(DEFAULT).of("Deployment")}
    changed = helm.render(DEFAULT, more=("--set", "fleet.server.config.queueLimit=7")).of("Deployment")
    differ = {
        each["metadata"]["name"] for each in changed if each["spec"]["template"] != before[each["metadata"]["name"]]
    }
    assert differ == {"segue-default"}


def test_the_crd_stays_unless_one_says_otherwise(helm: Helm) -> None:
    (kept,) = helm.render(DEFAULT).of("CustomResourceDefinition")
    assert kept["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    (let_go,) = helm.render(DEFAULT, more=("--set", "crds.keep=false")).of("CustomResourceDefinition")
    assert "annotations" not in let_go["metadata"]
    assert helm.render(DEFAULT, more=("--set", "crds.enabled=false")).of("CustomResourceDefinition") == []
