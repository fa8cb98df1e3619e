"""What the console writes into objects of an API server, and what it says to whom does not reach the leader."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.kubernetes_bodies import voice_body
from tests.unit.operator_kubernetes.test_voices import KEY, World

from segue.rollout import Event
from segue_operator.clock import SystemClock
from segue_operator.kubernetes.api import ObjectConflict
from segue_operator.kubernetes.console import EVENTS_KEPT, ClusterConsole, EventRing, merge_patch
from segue_operator.ports import WriteConflict


class Shown:
    """A console over an API server that answers by `answers` first."""

    def __init__(self) -> None:
        self.world = World(voice_body())
        self.world.cluster.seen.remember(self.world.objects[KEY])
        self.told: list[Event] = []
        self.console = ClusterConsole(
            api=self.world.api,
            cluster=self.world.cluster,
            fleet=lambda: None,
            leader=lambda: "segue-operator-0_1",
            select=lambda _: None,
            ring=EventRing(SystemClock().now),
            publish=lambda _, event: self.told.append(event),
        )

    def edit(self, changes: Any) -> str:
        seen = self.console.document(KEY)
        assert seen is not None
        return asyncio.run(self.console.edit(KEY, changes, seen=seen))

    def patches(self) -> list[Any]:
        return [body for verb, _, body in self.world.api.calls if verb == "PATCH"]


def test_a_wish_is_a_patch_of_exactly_the_object_that_was_read() -> None:
    shown = Shown()
    shown.edit({("metadata", "annotations", "segue.dev/promote"): "t"})
    metadata = shown.world.objects[KEY]["metadata"]
    assert shown.patches() == [
        {
            "metadata": {
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
                "annotations": {"segue.dev/promote": "t"},
            }
        }
    ]


def test_a_status_that_was_written_meanwhile_is_no_conflict() -> None:
    shown, failures = Shown(), [ObjectConflict("409")]
    answer = shown.world.api.answer

    def sometimes(verb: str, path: str, body: Any) -> Any:
        if verb == "PATCH" and failures:
            shown.world.bump()
            raise failures.pop()
        return answer(verb, path, body)

    shown.world.api.answer = sometimes
    shown.edit({"spec.rollout.paused": True})
    versions = [patch["metadata"]["resourceVersion"] for patch in shown.patches()]
    assert len(set(versions)) == 2


def test_a_spec_that_somebody_changed_meanwhile_is_left_alone() -> None:
    shown = Shown()
    shown.world.bump(spec=shown.world.objects[KEY]["spec"])
    with pytest.raises(WriteConflict, match="changed by somebody else"):
        shown.edit({"spec.rollout.paused": True})
    assert shown.patches() == []


def test_fields_and_annotations_go_into_one_patch() -> None:
    metadata = {"uid": "u", "resourceVersion": "7"}
    patch = merge_patch({"spec.rollout.paused": True, ("metadata", "annotations", "a.b/c"): "x"}, metadata)
    assert patch == {"metadata": {**metadata, "annotations": {"a.b/c": "x"}}, "spec": {"rollout": {"paused": True}}}


def test_a_replica_that_does_not_lead_says_who_does() -> None:
    where = Shown().console.whereabouts()
    assert (where.leading, where.leader) == (False, "segue-operator-0_1")


def test_only_the_latest_lines_are_kept_and_each_once() -> None:
    ring = EventRing(SystemClock().now)
    for number in range(EVENTS_KEPT + 10):
        ring.note(KEY, Event(reason="Canary", message=f"line {number}"))
        ring.note(KEY, Event(reason="Canary", message=f"line {number}"))
    lines = ring.of(KEY)
    assert len(lines) == EVENTS_KEPT
    assert lines[-1].message == f"line {EVENTS_KEPT + 9}"
