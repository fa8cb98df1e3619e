"""From Pod objects to the pods of fleets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from tests.support.kubernetes_bodies import Body, pod_body

from segue_operator.config import ClusterFleet
from segue_operator.fleet.records import FleetKey, PodRecord
from segue_operator.kubernetes.fleets import Fleets
from segue_operator.kubernetes.pods import PodBook, record_of

DEFAULT = FleetKey(namespace="voices", name="default")
WATCH = "pods"


def record(body: Body) -> PodRecord:
    return record_of(body, fleet=DEFAULT, control_port=8443)


def book(**fleets: ClusterFleet) -> PodBook:
    return PodBook(fleet_of=Fleets(fleets).of_pod, control_port=8443, settle_s=0.0)


def names(records: Sequence[PodRecord]) -> set[str]:
    return {each.facts.name for each in records}


def told_by(change: Callable[[PodBook], None], *before: Body) -> list[set[str]]:
    """What the fleet is told of a change, where these pods were there before."""
    told: list[set[str]] = []

    async def settled() -> None:
        for _ in range(5):  # timers of no length run in the loop's next rounds
            await asyncio.sleep(0)

    async def main() -> None:
        pods = book()
        for body in before:
            pods.take(WATCH, None, body)
        await settled()
        pods.tell(lambda records: told.append(names(records)))
        change(pods)
        await settled()

    asyncio.run(main())
    assert told[0] == {body["metadata"]["name"] for body in before}
    return told[1:]


def taken(*bodies: Body, into: PodBook | None = None) -> PodBook:
    into = into or book()

    async def main() -> None:
        for body in bodies:
            into.take(WATCH, None, body)

    asyncio.run(main())
    return into


def test_a_running_pod() -> None:
    found = record(pod_body())
    assert found.url == "https://10.0.0.7:8443"
    assert found.facts.ready
    assert found.facts.created_at == datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
    assert found.facts.ready_since == datetime(2026, 11, 20, 10, 1, tzinfo=UTC)
    assert not found.facts.terminating


@pytest.mark.parametrize("native_sidecar", [False, True])
def test_a_port_of_the_right_name_wins(native_sidecar: bool) -> None:
    ports = ({"name": "http", "containerPort": 80}, {"name": "segue-control", "containerPort": 9443})
    assert record(pod_body(ports=ports, native_sidecar=native_sidecar)).url == "https://10.0.0.7:9443"


def test_an_address_of_the_new_kind_is_bracketed() -> None:
    assert record(pod_body(ip="fd00::7")).url == "https://[fd00::7]:8443"


@pytest.mark.parametrize("body", [pod_body(ip=None), pod_body(phase="Pending"), pod_body(ip="")])
def test_a_pod_that_cannot_be_reached_yet_is_there_and_not_asked(body: Body) -> None:
    assert (record(body).url, record(body).facts.ready) == ("", False)


def test_a_pod_that_is_not_ready_is_asked_all_the_same() -> None:
    found = record(pod_body(ready=False))
    assert (found.url, found.facts.ready) == ("https://10.0.0.7:8443", False)


def test_a_terminating_pod_says_so() -> None:
    assert record(pod_body(deletionTimestamp="2026-11-20T11:00:00Z")).facts.terminating


def test_an_evicted_pod_is_no_pod() -> None:
    assert taken(pod_body(phase="Failed")).records() == ()


def test_a_label_elsewhere_cannot_take_a_configured_name() -> None:
    pods = book(gold=ClusterFleet(namespace="fleets", pod_selector={"app": "tts"}))
    taken(
        pod_body("one", namespace="fleets", labels={"app": "tts", "more": "labels"}),
        pod_body("two", namespace="tenant", labels={"app": "tts"}),
        pod_body("three", namespace="tenant", labels={"segue.dev/fleet": "gold"}),
        pod_body("four", namespace="tenant", labels={"segue.dev/fleet": "silver"}),
        into=pods,
    )
    assert {each.facts.name: str(each.fleet) for each in pods.records()} == {
        "one": "fleets/gold",
        "four": "tenant/silver",
    }


def test_changes_that_come_together_are_told_once() -> None:
    def change(to: PodBook) -> None:
        for number in range(100):
            to.take(WATCH, None, pod_body(f"pod-{number}"))

    assert [len(each) for each in told_by(change)] == [100]


def test_a_change_that_matters_to_nobody_is_not_told() -> None:
    assert told_by(lambda to: to.take(WATCH, "MODIFIED", pod_body(version=2, annotations={"a": "b"})), pod_body()) == []


def test_a_deleted_pod_goes() -> None:
    assert told_by(lambda to: to.take(WATCH, "DELETED", pod_body(version=2)), pod_body(), pod_body("other")) == [
        {"other"}
    ]


def test_a_pod_that_loses_its_label_goes() -> None:
    assert told_by(lambda to: to.take(WATCH, "MODIFIED", pod_body(version=2, labels={})), pod_body()) == [set()]


def test_an_event_that_comes_late_changes_nothing() -> None:
    assert told_by(lambda to: to.take(WATCH, "MODIFIED", pod_body(version=9, ready=False)), pod_body(version=10)) == []


def test_a_list_takes_away_what_a_watch_missed_and_nothing_that_came_after_it() -> None:
    before = (pod_body("gone", version=5), pod_body("there", version=6), pod_body("new", version=20))
    other = pod_body("elsewhere", version=5)

    def change(to: PodBook) -> None:
        to.take("pods of fleet gold", None, other)
        to.keep_only(WATCH, ["uid-there"], resource_version="10")

    assert told_by(change, *before) == [{"there", "new", "elsewhere"}]


def configured(name: str, config_map: str | None) -> Body:
    body = pod_body(name=name, uid=name)
    volume = {"name": "segue-sidecar-config", "configMap": {"name": config_map}}
    body["spec"]["volumes"] = [{"name": "tmp", "emptyDir": {}}, *([volume] if config_map else [])]
    return body


def test_a_fleet_is_configured_by_what_its_pods_mount() -> None:
    pods = taken(configured("by-hand", None), configured("installed", "segue-default"))
    assert pods.config_map(DEFAULT) == "segue-default"


def test_pods_without_a_configuration_that_we_know_tell_none() -> None:
    assert taken(configured("by-hand", None)).config_map(DEFAULT) == ""
    assert taken().config_map(DEFAULT) == ""
