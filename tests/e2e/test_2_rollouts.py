"""Versions that come, that are refused, and that go back, while listeners ask the Service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.support.e2e.installation import Installation, Pod
from tests.support.e2e.scene import Theatre, playing
from tests.support.e2e.shipped import FAILS_ON_QUESTIONS, LIVELIER, WRONG_WORDS, shipped
from tests.support.pods.traffic import MIXED_TEXTS
from tests.support.pods.versions import SPLIT
from tests.support.pods.voice import Voice, has_failed

from segue.model.revision import short
from segue.model.status import ConditionStatus

OPEN_WATCH: Mapping[str, Any] = {"watch": {"duration": "20s", "sustainedFor": "5s"}}
SPEECH_STATUS, SIDECAR_STATUS = 8001, 8081


def active_shown(voice: Voice) -> str:
    """The column of `kubectl get vmodel`."""
    lines = voice.kubectl("get", "vmodel", voice.name).splitlines()
    columns = lines[0].split()
    return dict(zip(columns, lines[1].split(), strict=False))["ACTIVE"]


def requests_of(installation: Installation, pod: Pod, *, revision: str) -> float:
    """How many requests a pod answered by a revision, by its own account."""
    figures = installation.figures(pod.name, SPEECH_STATUS)
    label = f'revision="{short(revision)}"'
    return sum(
        value for series, value in figures.items() if series.startswith("segue_requests_total") and label in series
    )


def stores_of(installation: Installation, pod: Pod) -> float:
    return installation.figures(pod.name, SIDECAR_STATUS)["segue_sidecar_stores_total"]


def test_a_second_version_is_let_out_and_everybody_can_see_it(installed: Installation, theatre: Theatre) -> None:
    with playing(theatre, "update") as scene:
        voice, first = scene.speaking(SPLIT)
        pods = installed.pods()
        stores = {pod.name: stores_of(installed, pod) for pod in pods}
        assert first.startswith(active_shown(voice))
        second = voice.apply(shipped(LIVELIER))
        voice.wait_promoted(second)
        scene.heard(voice, second, more=40)
        assert second.startswith(active_shown(voice))
        described = voice.kubectl("describe", "vmodel", voice.name)
        assert second[:10] in described
        assert {"Canary", "Flipping", "Promoted"} <= events_of(voice)
        for pod in pods:
            assert stores_of(installed, pod) > stores[pod.name], f"{pod.name} tells of no flip"
        assert sum(requests_of(installed, pod, revision=second) for pod in pods) > 0


def events_of(voice: Voice) -> set[str]:
    """Reasons of the Events that regard a voice, as `kubectl describe` lists them."""
    chosen = f"involvedObject.name={voice.name},involvedObject.kind=VoiceModel"
    found = json.loads(voice.kubectl("get", "events", "--field-selector", chosen, "-o", "json"))
    return {str(each["reason"]) for each in found["items"]}


def test_a_version_that_says_the_wrong_words_is_refused(installed: Installation, theatre: Theatre) -> None:
    with playing(theatre, "refused") as scene:
        voice, first = scene.speaking({"verification": {"minSimilarity": 0.5}})
        bad = voice.apply(shipped(WRONG_WORDS))
        done = voice.wait(lambda now: has_failed(now.status, bad), what="it is refused")
        assert done.status.stable_revision == first
        promoted = done.status.condition("Promoted")
        assert promoted is None or promoted.status is not ConditionStatus.TRUE
        scene.heard(voice, first)
        assert not scene.traffic.answers(voice.name, bad), "nobody heard it"


def test_a_version_that_fails_live_goes_back_and_the_resource_with_it(
    installed: Installation, theatre: Theatre
) -> None:
    with playing(theatre, "goes-back") as scene:
        voice, first = scene.speaking(OPEN_WATCH)
        scene.listen(voice, texts=MIXED_TEXTS)
        before = weights_of(voice)
        bad = voice.apply(shipped(FAILS_ON_QUESTIONS))
        done = voice.wait_rolled_back(bad, within_s=150)
        failure = next(each for each in done.status.failed_revisions if each.revision == bad)
        assert failure.reason == "ErrorRateExceeded", failure
        voice.wait(lambda _: weights_of(voice) == before, what="the spec is written back")
        scene.heard(voice, first)
        assert {"RollingBack", "RolledBack"} <= events_of(voice)


def weights_of(voice: Voice) -> dict[str, Any]:
    return dict(voice.object()["spec"]["weights"])
