"""Both ends of the wire: what pods say becomes a snapshot, what the engine decides becomes a request."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.rollouts import QUICK, run_until, serving_world, status_of
from tests.support.voices import revision, voice, voice_document

from segue.errors import InvalidVoiceModel
from segue.model import VoiceModel, source_of
from segue.rollout import (
    PodFacts,
    PodView,
    SetPointer,
    Sighting,
    needs,
    pointer_request,
    revision_request,
    spec_owner,
    view_pod,
)
from segue.rollout.terms import failure_key, probe_terms, watch_terms
from segue.wire import Fence, StateDocument, WindowsDocument

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
FACTS = PodFacts(uid="p", name="p", created_at=NOW)
V1 = revision("v1")


def narrator(**metadata: Any) -> VoiceModel:
    document = voice_document("v1")
    document["metadata"] |= {"uid": "u", **metadata}
    return VoiceModel.parse(document)


def state(**fields: Any) -> StateDocument:
    said = {"uid": "u", "fence": "2.5", "pointer": {"active": V1}, **fields}
    pod = {"uid": "p", "engineBuilds": {"demo": "b7"}, "deviceClass": "h200"}
    return StateDocument.model_validate({"pod": pod, "voices": {"default/narrator": said}})


def look(document: StateDocument | None, **sighting: Any) -> PodView:
    return view_pod(FACTS, Sighting(state=document, **sighting), narrator())


def test_a_pod_is_seen_with_its_build_and_its_word() -> None:
    view = look(state())
    assert (view.in_reach, view.engine_build, view.device_class, view.pointer.active) == (True, "b7", "h200", V1)


def test_no_answer_is_out_of_reach() -> None:
    assert not look(None).in_reach


def test_another_pod_at_the_same_address_is_out_of_reach() -> None:
    document = state().model_copy(update={"pod": state().pod.model_copy(update={"uid": "someone-else"})})
    assert not look(document).in_reach


@pytest.mark.parametrize(("sent", "in_reach"), [("2.5", True), ("2.6", False), ("3.0", False), ("1.9", True)])
def test_an_answer_from_before_our_last_command_does_not_count(sent: str, in_reach: bool) -> None:
    assert look(state(), last_fence=Fence.parse(sent)).in_reach is in_reach


def test_a_voice_of_another_uid_is_no_voice() -> None:
    view = look(state(uid="deleted-before"))
    assert view.in_reach
    assert view.pointer.active is None


def test_a_pod_that_forgot_a_voice_we_commanded_is_out_of_reach_until_it_knows_it() -> None:
    assert not look(state(uid="other"), last_fence=Fence(2, 5)).in_reach


def test_buckets_are_moved_to_our_clock() -> None:
    document = WindowsDocument.model_validate(
        {
            "voice": "default/narrator",
            "now_s": 130,
            "revisions": {V1: {"buckets": [{"startS": 100, "successes": 3, "errors": {"timeout": 2}}], "texts": "0f"}},
            "others": [{"startS": 100, "requests": 5, "errors": 1}],
        }
    )
    windows = look(state(), windows=document, clock_ahead_s=30.0).windows
    assert windows is not None
    bucket = windows.revisions[V1][0]
    assert (bucket.start_s, bucket.successes, bucket.errors) == (70.0, 3, 2)
    assert (windows.others[0].successes, windows.others[0].errors) == (4, 1)
    assert windows.texts[V1] == 15


def test_an_instant_is_sent_in_the_pods_clock() -> None:
    command = SetPointer(pods=("p",), active=V1, at=NOW)
    ahead = pointer_request(command, clock_ahead=timedelta(seconds=1.5))
    assert ahead.at_ns == int((NOW.timestamp() + 1.5) * 1e9)


def test_without_a_known_clock_a_flip_is_done_on_arrival() -> None:
    assert pointer_request(SetPointer(pods=("p",), active=V1, at=NOW)).at_ns is None


def test_the_body_for_many_pods_is_made_once() -> None:
    one, other = (SetPointer(pods=(pod,), active=V1) for pod in ("p", "q"))
    assert pointer_request(one) is pointer_request(other)
    assert pointer_request(one) != pointer_request(replace(one, candidate=V1, weight=500))


def test_a_revision_is_asked_for_with_all_it_needs() -> None:
    spec = voice("v1", reference={"uri": "r.wav", "sha256": "b" * 64, "text": "hi"}, options={"speed": 1.1}).spec
    request = revision_request(source_of(spec), spec)
    assert request.reference is not None
    assert (request.engine, request.options, request.reference.text) == ("demo", {"speed": 1.1}, "hi")


def test_a_revision_without_digests_cannot_be_asked_for() -> None:
    spec = voice("v1").spec
    weights = {name: file.model_copy(update={"sha256": None}) for name, file in spec.weights.items()}
    with pytest.raises(InvalidVoiceModel, match=r"spec\.weights\.acoustic\.sha256"):
        revision_request(source_of(spec).model_copy(update={"weights": weights}), spec)


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        ({}, None),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}, "Argo CD"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}, "Flux"),
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "Helm"),
        ({"labels": {"app.kubernetes.io/instance": "mine"}}, None),
        (
            {"managedFields": [{"operation": "Apply", "manager": "ci", "fieldsV1": {"f:spec": {"f:weights": {}}}}]},
            "server-side apply by ci",
        ),
        ({"managedFields": [{"operation": "Apply", "manager": "ci", "fieldsV1": {"f:spec": {"f:watch": {}}}}]}, None),
        ({"managedFields": [{"operation": "Update", "manager": "kubectl", "fieldsV1": {"f:spec": {}}}]}, None),
    ],
)
def test_who_owns_a_spec(metadata: dict[str, Any], owner: str | None) -> None:
    assert spec_owner(narrator(**metadata).metadata) == owner


def test_other_terms_are_another_failure_key_and_other_rollouts_are_not() -> None:
    plain = failure_key(voice().spec, V1)
    assert failure_key(voice(rollout={"paused": True, "maxFailedPods": 3}).spec, V1) == plain
    for changed in (
        {"watch": {"minRequests": 60}},
        {"verification": {"minSimilarity": 0.8}},
        {"rollout": {"canary": {"successes": 5}}},
    ):
        assert failure_key(voice(**changed).spec, V1) != plain


def test_a_report_against_another_baseline_proves_nothing() -> None:
    spec = voice(continuity={"maxPitchDelta": "1st"}).spec
    assert probe_terms(spec, baseline=V1).key != probe_terms(spec, baseline=revision("v2")).key


def test_an_auto_threshold_is_left_to_the_calibrated_voice() -> None:
    assert probe_terms(voice(verification={"minSimilarity": "auto"}).spec, baseline=None).min_similarity is None


def test_without_a_way_back_no_watch_is_handed_over() -> None:
    assert watch_terms(voice().spec, None) is None


def test_a_watch_holds_no_slot_and_a_quiet_voice_is_not_polled() -> None:
    world = serving_world()
    spec, status = voice("v1", **QUICK).spec, status_of(world)
    need = needs(spec, status, world.clock.now())
    assert (need.long_poll, need.evidence, need.holds_slot) == (False, False, False)
    world.cluster.apply(voice_document("v2", **QUICK))
    watching = run_until(world, lambda status: status.phase.value == "Watching")
    need = needs(spec, watching, world.clock.now())
    assert (need.long_poll, need.evidence, need.holds_slot) == (True, True, False)
