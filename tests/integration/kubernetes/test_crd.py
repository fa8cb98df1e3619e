"""The CRD as the API server and kubectl take it: established, explained, with columns, status and conditions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML
from tests.support.cluster import TestCluster
from tests.support.cluster.cluster import CRD_PATH
from tests.support.voice_table import Document, changed, whole_document
from tests.support.voices import digest

from segue.model import Condition, ConditionStatus, Phase, RevisionSource, Status, VoiceModel, source_of
from segue.model.status import (
    FailedRevision,
    HandledTokens,
    HistoryEntry,
    LastRollback,
    LastSwitch,
    PodCounts,
    RollbackStatus,
    RolloutStatus,
    VerificationRecord,
)

pytestmark = pytest.mark.cluster

NOW = datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(scope="module")
def api(cluster: TestCluster) -> Iterator[httpx.Client]:
    with cluster.client() as client:
        yield client


@pytest.fixture(scope="module")
def stored(cluster: TestCluster, api: httpx.Client) -> Document:
    """A voice that is on the server."""
    document = changed(whole_document(), ("metadata", "namespace"), cluster.new_namespace("crd"))
    answer = api.post(_path(document, ""), json=document)
    assert answer.status_code == 201, answer.text
    created: Document = answer.json()
    return created


def test_the_crd_is_established_and_structural(api: httpx.Client) -> None:
    conditions = {each["type"]: each["status"] for each in api.get(CRD_PATH).json()["status"]["conditions"]}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions


def test_it_is_found_by_its_short_name_and_categories(cluster: TestCluster, stored: Document) -> None:
    namespace = stored["metadata"]["namespace"]
    for name in ("vmodel", "voicemodel", "voicemodels", "segue", "all"):
        assert "narrator" in cluster.kubectl("get", name, "-n", namespace, "-o", "name").stdout, name


def test_columns_say_what_matters_and_wide_ones_the_rest(cluster: TestCluster, stored: Document) -> None:
    _write_status(cluster, stored, _status(stored))
    namespace = stored["metadata"]["namespace"]
    header, row = cluster.kubectl("get", "vmodel", "-n", namespace).stdout.splitlines()
    assert header.split() == ["NAME", "PHASE", "ACTIVE", "TARGET", "PODS", "AGE"]
    assert row.split()[:5] == ["narrator", "Watching", digest("one")[:10], digest("two")[:10], "3/4"]
    wide = cluster.kubectl("get", "vmodel", "-n", namespace, "-o", "wide").stdout.splitlines()[0]
    assert wide.split()[6:] == ["READY", "PROMOTED", "STABLE", "FLEET", "REASON", "MESSAGE"]


def test_every_field_is_explained(api: httpx.Client) -> None:
    document = api.get("/openapi/v3/apis/segue.dev/v1alpha1").json()
    schema = document["components"]["schemas"]["dev.segue.v1alpha1.VoiceModel"]
    silent = [path for path, node in _fields(schema, "voicemodel") if not node.get("description")]
    assert silent == []


def test_kubectl_explain_reads_well(cluster: TestCluster) -> None:
    said = cluster.kubectl("explain", "vmodel.spec.rollout.canary.steps").stdout
    assert "Shares of the listeners" in said
    assert "Where the voice stands." in cluster.kubectl("explain", "vmodel.status.phase").stdout
    whole = cluster.kubectl("explain", "vmodel", "--recursive").stdout
    assert "sustainedFor\t<string>" in whole
    assert "minSimilarity" in whole


def test_a_status_is_stored_as_it_was_written(cluster: TestCluster, api: httpx.Client, stored: Document) -> None:
    status = _status(stored)
    _write_status(cluster, stored, status)
    found = api.get(_path(stored, "narrator")).json()
    assert found["status"] == status.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert VoiceModel.parse(found).status == status


def test_a_status_makes_no_generation_and_a_spec_carries_none(api: httpx.Client, stored: Document) -> None:
    before = api.get(_path(stored, "narrator")).json()
    before["status"] = {"phase": "Canary"}
    assert api.put(_path(stored, "narrator/status"), json=before).json()["metadata"]["generation"] == 1
    sneaked = api.get(_path(stored, "narrator")).json() | {"status": {"phase": "RollingBack"}}
    assert api.put(_path(stored, "narrator"), json=sneaked).json()["status"]["phase"] == "Canary"


def test_a_phase_that_does_not_exist_is_refused(api: httpx.Client, stored: Document) -> None:
    document = api.get(_path(stored, "narrator")).json() | {"status": {"phase": "Dreaming"}}
    answer = api.put(_path(stored, "narrator/status"), json=document)
    assert answer.status_code == 422
    assert "status.phase" in answer.json()["message"]


@pytest.mark.parametrize(("value", "passes"), [(ConditionStatus.TRUE, True), (ConditionStatus.FALSE, False)])
def test_kubectl_wait_reads_the_conditions(
    cluster: TestCluster, stored: Document, value: ConditionStatus, passes: bool
) -> None:
    _write_status(cluster, stored, _status(stored, promoted=value))
    wait = ("wait", "vmodel/narrator", "--for=condition=Promoted", "--timeout=1s")
    done = cluster.kubectl(*wait, "-n", stored["metadata"]["namespace"], check=False)
    assert (done.returncode == 0) is passes, done.stderr


def test_the_document_of_kubectl_get_is_one_that_segue_reads(cluster: TestCluster, stored: Document) -> None:
    text = cluster.kubectl("get", "vmodel", "narrator", "-n", stored["metadata"]["namespace"], "-o", "yaml").stdout
    voice = VoiceModel.parse(YAML(typ="safe", pure=True).load(text))
    assert voice.metadata.uid == stored["metadata"]["uid"]


def _status(stored: Document, *, promoted: ConditionStatus = ConditionStatus.TRUE) -> Status:
    """One in which every field says something."""
    source = source_of(VoiceModel.parse(stored).spec)
    told: dict[str, Any] = {"reason": "Reason", "message": "A message.", "at": NOW}
    return Status(
        observed_generation=1,
        phase=Phase.WATCHING,
        reason="WatchOpen",
        message="Watching until 10:10.",
        active_revision=digest("one"),
        stable_revision=digest("three"),
        target_revision=digest("two"),
        attempt=3,
        phase_started_at=NOW,
        deadline=NOW,
        rollout=_rollout(source),
        rollback=RollbackStatus(
            from_revision="b", to_revision="a", reason="R", message="M", failed=True, started_at=NOW
        ),
        history=(HistoryEntry(**dict(source), since=NOW),),
        failed_revisions=(FailedRevision(**dict(source), key="k", reverting=1, **told),),
        verifications=(_verification(),),
        handled_tokens=HandledTokens(retry="1", promote="2", rollback="3"),
        pods=PodCounts(total=4, ready=4, updated=3, loaded=4, verified=4, failed=0, summary="3/4", at=NOW),
        last_switch=LastSwitch(from_revision="a", to_revision="b", at=NOW, pods=4),
        last_rollback=LastRollback(from_revision="b", to_revision="a", reverted=True, **told),
        conditions=(
            Condition(
                type="Promoted",
                status=promoted,
                reason="Promoted",
                message="Done.",
                last_transition_time=NOW,
                observed_generation=1,
            ),
        ),
    )


def _rollout(source: RevisionSource) -> RolloutStatus:
    return RolloutStatus(
        source=source,
        key="k",
        started_at=NOW,
        late=1,
        approved=True,
        step=1,
        step_started_at=NOW,
        topping_up=True,
        probe_round=1,
        flip_at=NOW,
        flipped_at=NOW,
        progress=7,
    )


def _verification() -> VerificationRecord:
    return VerificationRecord(
        revision="r",
        key="k",
        engine_build="demo-1",
        device_class="cpu",
        similarity=0.93,
        pass_ratio=1.0,
        drift="2 LU",
        at=NOW,
    )


def _write_status(cluster: TestCluster, stored: Document, status: Status) -> None:
    patch = {"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}
    headers = {"Content-Type": "application/merge-patch+json"}
    with cluster.client() as api:
        answer = api.patch(_path(stored, "narrator/status"), json=patch, headers=headers)
        assert answer.is_success, answer.text


def _path(document: Document, name: str) -> str:
    collection = f"/apis/segue.dev/v1alpha1/namespaces/{document['metadata']['namespace']}/voicemodels"
    return f"{collection}/{name}" if name else collection


def _fields(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of the schema, with what is inside lists and maps."""
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from _fields(child, f"{path}.{name}")
    for inside in ("items", "additionalProperties"):
        if isinstance(node.get(inside), dict):
            yield from _fields(node[inside], path)
