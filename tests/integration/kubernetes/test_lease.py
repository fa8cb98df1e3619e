"""The election and the desired set against a real API server: what it accepts, and whom it lets win."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.cluster import TestCluster
from tests.support.voices import revision, voice_document

from segue.desired import LABEL_FLEET, DesiredEntry, config_map_name, data_key, shard_of
from segue.model import VoiceModel
from segue.model.revision import source_of
from segue_operator.fleet.records import FleetKey
from segue_operator.kubernetes.api import Api, connected
from segue_operator.kubernetes.desired import DesiredSets
from segue_operator.kubernetes.lease import Election, LeaseTerms
from segue_operator.kubernetes.lease_fences import LeaseFences
from segue_operator.kubernetes.lease_record import LeaseName

pytestmark = pytest.mark.cluster

TERMS = LeaseTerms(duration_s=4.0, renew_deadline_s=2.5, retry_s=0.5)
NAME = "segue-operator"
KEY_NAME = "narrator"


@dataclass
class Replica:
    """An operator that only leads."""

    election: Election
    tenures: list[LeaseFences] = field(default_factory=list)

    async def lead(self, fences: LeaseFences) -> None:
        self.tenures.append(fences)
        await asyncio.Event().wait()

    @property
    def leads(self) -> bool:
        return bool(self.tenures) and not self.tenures[-1].ended.is_set() and self.election.leading


@asynccontextmanager
async def replicas(cluster: TestCluster, namespace: str, count: int) -> AsyncIterator[list[Replica]]:
    """Candidates for one Lease, each with a client of its own."""
    async with AsyncExitStack() as stack:
        made = []
        for number in range(count):
            api = await stack.enter_async_context(connected(kubeconfig=cluster.kubeconfig, context=None))
            lease = LeaseName(namespace=namespace, name=NAME)
            made.append(Replica(Election(api=api, lease=lease, identity=f"replica-{number}", terms=TERMS)))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [group.create_task(each.election.run(each.lead)) for each in made]
        try:
            yield made
        finally:
            for each in made:
                each.election.stop()
            await asyncio.wait(tasks, timeout=10)


async def until(reached: Callable[[], Any], *, within_s: float = 15.0) -> float:
    """Wait until it is so; how long that took."""
    began_s = time.monotonic()
    while not reached():
        assert time.monotonic() - began_s < within_s
        await asyncio.sleep(0.02)
    return time.monotonic() - began_s


def leaders(candidates: Iterable[Replica]) -> list[Replica]:
    return [each for each in candidates if each.leads]


async def kubectl(cluster: TestCluster, *arguments: str) -> str:
    found = await asyncio.to_thread(lambda: cluster.kubectl(*arguments))
    return str(found.stdout)


async def lease_of(cluster: TestCluster, namespace: str) -> dict[str, Any]:
    return dict(json.loads(await kubectl(cluster, "get", "lease", NAME, "-n", namespace, "-o", "json")))


def test_of_five_candidates_one_leads_and_hands_over_in_less_than_two_seconds(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("election")

    async def scene() -> None:
        async with replicas(cluster, namespace, 5) as candidates:
            await until(lambda: leaders(candidates))
            await asyncio.sleep(2 * TERMS.retry_s)
            (first,) = leaders(candidates)
            found = await lease_of(cluster, namespace)
            assert found["spec"]["holderIdentity"] == first.election.identity
            assert found["metadata"]["annotations"]["segue.dev/term"] == str(first.tenures[0].term)
            renewed = datetime.fromisoformat(found["spec"]["renewTime"])
            assert abs(datetime.now(UTC) - renewed) < timedelta(seconds=5)
            others = [each for each in candidates if each is not first]
            first.election.stop()
            assert await until(lambda: leaders(others), within_s=2.0) < 2.0
            (second,) = leaders(others)
            assert second.tenures[0].term > first.tenures[0].term

    asyncio.run(scene())


def test_a_lease_that_people_delete_label_and_edit_stays_with_its_leader(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("edited")

    async def scene() -> None:
        async with replicas(cluster, namespace, 2) as candidates:
            await until(lambda: leaders(candidates))
            (first,) = leaders(candidates)
            holder = '{"spec": {"holderIdentity": ""}}'
            for deed in (
                ("label", "lease", NAME, "team=voices"),
                ("delete", "lease", NAME),
                ("patch", "lease", NAME, "--type=merge", "-p", holder),
            ):
                await kubectl(cluster, *deed, "-n", namespace)
                await asyncio.sleep(TERMS.duration_s + 1)
                assert leaders(candidates) == [first], deed
                found = await lease_of(cluster, namespace)
                assert found["spec"]["holderIdentity"] == first.election.identity
                assert found["metadata"]["annotations"]["segue.dev/term"] == str(first.tenures[0].term)
            assert len(first.tenures) == 1

    asyncio.run(scene())


def test_a_term_is_outrun_in_the_lease(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("outrun")

    async def scene() -> None:
        async with replicas(cluster, namespace, 1) as (only,):
            await until(lambda: only.leads)
            fences = only.tenures[0]
            await fences.outrun(fences.term + 500)
            found = await lease_of(cluster, namespace)
            assert found["metadata"]["annotations"]["segue.dev/term"] == str(fences.term)
            assert fences.next().term == fences.term

    asyncio.run(scene())


def stable_voice(namespace: str, version: str) -> VoiceModel:
    document = voice_document(version)
    document["metadata"] |= {"namespace": namespace, "name": KEY_NAME, "uid": "uid-1"}
    source = source_of(VoiceModel.parse(document).spec).model_dump(mode="json", by_alias=True)
    document["status"] = {"history": [{**source, "since": datetime.now(UTC).isoformat()}]}
    return VoiceModel.parse(document)


def test_the_desired_set_is_kept_in_config_maps_that_a_label_deletes(cluster: TestCluster) -> None:
    namespace = cluster.new_namespace("desired")
    key = f"{namespace}/{KEY_NAME}"
    name = config_map_name("default", shard_of(key))

    async def entry() -> DesiredEntry | None:
        found = await kubectl(
            cluster, "get", "configmap", "-n", namespace, "-l", f"{LABEL_FLEET}=default", "-o", "json"
        )
        data = {body["metadata"]["name"]: body.get("data") or {} for body in json.loads(found)["items"]}
        text = data.get(name, {}).get(data_key(key))
        return None if text is None else DesiredEntry.from_json(text)

    async def entry_says(version: str) -> None:
        for _ in range(100):
            found = await entry()
            if found is not None and found.revision == revision(version):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{version} is not in the desired set: {found}")

    async def work(api: Api) -> None:
        fences = LeaseFences(term=7, clock=time.monotonic, valid_until_s=1e12, write_term=_unused)
        sets = DesiredSets(
            api=api,
            fences=fences,
            select=lambda voice: FleetKey(namespace=namespace, name=voice.spec.fleet),
            read_voice=_nothing,
            tell=lambda voice, event: None,
        )
        running = asyncio.create_task(sets.run())
        sets.keep(stable_voice(namespace, "v1"))
        await entry_says("v1")
        await kubectl(cluster, "label", "configmap", name, "-n", namespace, "team=voices")  # the next write conflicts
        back = stable_voice(namespace, "v2")
        last = {"fromRevision": "a" * 64, "toRevision": revision("v2"), "reason": "ManualRollback"}
        document = back.dump()
        document["status"]["lastRollback"] = {**last, "at": (datetime.now(UTC) + timedelta(seconds=1)).isoformat()}
        sets.keep(VoiceModel.parse(document))
        await entry_says("v2")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(_connected(cluster, work))
    cluster.kubectl("delete", "configmap", "-n", namespace, "-l", "app.kubernetes.io/managed-by=segue-operator")
    assert asyncio.run(entry()) is None


async def _connected(cluster: TestCluster, work: Callable[[Api], Awaitable[None]]) -> None:
    async with connected(kubeconfig=cluster.kubeconfig, context=None) as api:
        await work(api)


async def _unused(fences: LeaseFences, term: int) -> None:
    raise AssertionError("no pod has seen a higher term")


async def _nothing(key: str) -> VoiceModel | None:
    return None
