"""The Kubernetes adapter against a real API server: what it reads, writes and takes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import TestCluster
from tests.support.kubernetes_bodies import manifest, source, spec

from segue.model import Phase, Status, revision_of
from segue.rollout import Event, RevertSpec
from segue_operator.kubernetes.api import Api, ApiUnavailable, ObjectNotFound, connected, object_path, voice_path
from segue_operator.kubernetes.revert import LAST_APPLIED
from segue_operator.kubernetes.voices import KubernetesCluster
from segue_operator.ports import WriteConflict

pytestmark = pytest.mark.cluster

Work = Callable[[Api, KubernetesCluster], Awaitable[None]]


def with_adapter(cluster: TestCluster, work: Work, *, kubeconfig: Path | None = None) -> list[Event]:
    """Run `work` with an adapter; the Events that it told."""
    told: list[Event] = []

    async def main() -> None:
        async with connected(kubeconfig=kubeconfig or cluster.kubeconfig, context=None) as api:
            adapter = KubernetesCluster(
                api=api, require_allowed=lambda _: None, tell=lambda _key, event: told.append(event)
            )
            await work(api, adapter)

    asyncio.run(main())
    return told


def apply(cluster: TestCluster, body: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-f", "-", input=json.dumps(body))


def stored(cluster: TestCluster, key: str) -> dict[str, Any]:
    with cluster.client() as api:
        answer = api.get(voice_path(key))
        answer.raise_for_status()
        return dict(answer.json())


def revert_of(body: dict[str, Any], *, to: dict[str, Any]) -> RevertSpec:
    failed = source(body["spec"]).revision
    return RevertSpec(generation=body["metadata"]["generation"], failed=failed, to=source(to))


def test_a_status_is_written_and_nothing_else(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("status")
    key = f"{namespace}/narrator"
    apply(cluster, manifest("narrator", namespace, spec("a")))
    before = stored(cluster, key)

    async def work(_: Api, adapter: KubernetesCluster) -> None:
        voice = await adapter.read(key)
        assert voice is not None
        written = await adapter.write_status(voice, Status(reason="Paused", attempt=1))
        again = await adapter.read(key)
        assert again is not None
        assert again.status == written.status
        assert again.metadata.resource_version == written.metadata.resource_version
        await adapter.write_status(written, Status())  # builds on what was written, without another read

    with_adapter(cluster, work)
    after = stored(cluster, key)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["status"]["phase"] == "Idle"
    assert "finalizers" not in after["metadata"]


def test_a_status_is_not_written_over_an_edit(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("conflict")
    key = f"{namespace}/narrator"
    apply(cluster, manifest("narrator", namespace, spec("a")))

    async def work(_: Api, adapter: KubernetesCluster) -> None:
        voice = await adapter.read(key)
        assert voice is not None
        await asyncio.to_thread(apply, cluster, manifest("narrator", namespace, spec("b")))
        with pytest.raises(WriteConflict):
            await adapter.write_status(voice, Status(phase=Phase.FLIPPING))

    with_adapter(cluster, work)
    assert "status" not in stored(cluster, key)


def test_a_status_is_not_written_to_another_object_of_that_name(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("recreated")
    key = f"{namespace}/narrator"
    apply(cluster, manifest("narrator", namespace, spec("a")))

    async def work(_: Api, adapter: KubernetesCluster) -> None:
        voice = await adapter.read(key)
        assert voice is not None
        await asyncio.to_thread(cluster.kubectl, "-n", namespace, "delete", "voicemodel", "narrator")
        with pytest.raises(WriteConflict):
            await adapter.write_status(voice, Status(phase=Phase.FLIPPING))
        await asyncio.to_thread(apply, cluster, manifest("narrator", namespace, spec("a")))
        with pytest.raises(WriteConflict):
            await adapter.write_status(voice, Status(phase=Phase.FLIPPING))

    with_adapter(cluster, work)
    assert "status" not in stored(cluster, key)


def test_a_revert_takes_away_what_the_bad_version_added_and_kubectl_agrees(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("revert")
    key = f"{namespace}/narrator"
    good = spec("a")
    bad = spec("b", options={"speed": 1.2}, rollout={"paused": True})
    bad["weights"]["style"] = {"uri": "s3://voices/style.bin", "sha256": "c" * 64}
    apply(cluster, manifest("narrator", namespace, good))
    apply(cluster, manifest("narrator", namespace, bad))
    before = stored(cluster, key)

    async def work(_: Api, adapter: KubernetesCluster) -> None:
        voice = await adapter.read(key)
        assert voice is not None
        await adapter.revert_spec(voice, revert_of(before, to=good))
        again = await adapter.read(key)
        assert again is not None
        assert revision_of(again.spec) == source(good).revision

    with_adapter(cluster, work)
    after = stored(cluster, key)
    assert after["spec"]["weights"] == good["weights"]
    assert not after["spec"].get("options")
    assert after["spec"]["rollout"]["paused"] is True, "a policy is not taken back"
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    believed = json.loads(after["metadata"]["annotations"][LAST_APPLIED])["spec"]
    assert believed["weights"] == good["weights"]
    assert "options" not in believed
    unchanged = cluster.kubectl(
        "apply", "-f", "-", input=json.dumps(manifest("narrator", namespace, {**good, "rollout": {"paused": True}}))
    )
    assert "unchanged" in unchanged.stdout


def test_a_revert_brings_back_what_the_bad_version_removed(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("union")
    key = f"{namespace}/narrator"
    good, bad = spec("a", options={"speed": 0.9}), spec("b")
    bad["reference"] = {"uri": "s3://voices/other.wav", "sha256": "d" * 64}
    apply(cluster, manifest("narrator", namespace, good))
    apply(cluster, manifest("narrator", namespace, bad))
    before = stored(cluster, key)

    async def work(_: Api, adapter: KubernetesCluster) -> None:
        voice = await adapter.read(key)
        assert voice is not None
        await adapter.revert_spec(voice, revert_of(before, to=good))

    with_adapter(cluster, work)
    after = stored(cluster, key)["spec"]
    assert (after["options"], after["reference"]) == ({"speed": 0.9}, good["reference"])


def test_an_edit_that_races_a_revert_wins(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("race")
    key = f"{namespace}/narrator"
    apply(cluster, manifest("narrator", namespace, spec("b")))
    before = stored(cluster, key)

    async def work(_: Api, adapter: KubernetesCluster) -> None:
        voice = await adapter.read(key)
        assert voice is not None
        await asyncio.to_thread(apply, cluster, manifest("narrator", namespace, spec("c")))
        with pytest.raises(WriteConflict):
            await adapter.revert_spec(voice, revert_of(before, to=spec("a")))

    with_adapter(cluster, work)
    assert stored(cluster, key)["spec"]["weights"] == spec("c")["weights"]


def test_a_server_side_apply_owns_the_spec_and_a_client_side_one_does_not(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("owner")
    apply(cluster, manifest("edited", namespace, spec("a")))
    text = json.dumps(manifest("owned", namespace, spec("a")))
    cluster.kubectl("apply", "--server-side", "--field-manager", "flux", "-f", "-", input=text)

    async def work(_: Api, adapter: KubernetesCluster) -> None:
        edited, owned = await adapter.read(f"{namespace}/edited"), await adapter.read(f"{namespace}/owned")
        assert edited is not None
        assert owned is not None
        edited = await adapter.write_status(edited, Status(reason="Serving"))
        assert adapter.spec_owner(edited) is None
        assert adapter.spec_owner(owned) == "server-side apply by flux"

    with_adapter(cluster, work)


def test_a_deleted_voice_is_remembered_until_it_is_forgotten(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("deleted")
    key = f"{namespace}/narrator"
    apply(cluster, manifest("narrator", namespace, spec("a")))

    async def work(_: Api, adapter: KubernetesCluster) -> None:
        voice = await adapter.read(key)
        assert voice is not None
        await asyncio.to_thread(cluster.kubectl, "-n", namespace, "delete", "voicemodel", "narrator")
        assert await adapter.read(key) is None
        assert adapter.keys() == {key}
        gone = await adapter.deleted(key)
        assert gone is not None
        assert gone.metadata.uid == voice.metadata.uid
        await adapter.forget(key)
        assert adapter.keys() == frozenset()

    with_adapter(cluster, work)


def test_a_missing_object_is_told_from_a_kind_that_is_not_served(cluster: TestCluster) -> None:
    async def work(api: Api, _: KubernetesCluster) -> None:
        with pytest.raises(ObjectNotFound):
            await api.call("GET", voice_path("default/nobody"))
        with pytest.raises(ApiUnavailable, match="404"):
            await api.call("GET", object_path("segue.dev", "v9", "default", "voicemodels", "nobody"))

    with_adapter(cluster, work)


def test_lists_come_in_pages_and_without_contents_where_that_is_enough(
    cluster: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = cluster.new_namespace("pages")
    items = [manifest(f"voice-{number}", namespace, spec("a")) for number in range(5)]
    apply(cluster, {"apiVersion": "v1", "kind": "List", "items": items})
    monkeypatch.setattr("segue_operator.kubernetes.api.PAGE", 2)

    async def work(api: Api, _: KubernetesCluster) -> None:
        path = object_path("segue.dev", "v1alpha1", namespace, "voicemodels")
        whole, names = await api.list_all(path), await api.list_all(path, metadata_only=True)
        assert [each["metadata"]["uid"] for each in whole.items] == [each["metadata"]["uid"] for each in names.items]
        assert len(whole.items) == 5
        assert all("spec" in each for each in whole.items)
        assert not any("spec" in each for each in names.items)
        assert api.requests["GET", 200] == 6

    with_adapter(cluster, work)
