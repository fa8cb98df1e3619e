"""Pods that join, leave, restart or hang while a version is rolled out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.pods.case import Case
from tests.support.pods.pod import Container
from tests.support.pods.versions import SPLIT
from tests.support.pods.voice import Voice
from tests.support.running import eventually

from segue.model import Phase

pytestmark = [pytest.mark.cluster, pytest.mark.process, pytest.mark.timeout(600)]

ALL_AT_ONCE: Mapping[str, Any] = {"rollout": {"preloadWaves": ["100%"]}}
ONE_MAY_BE_LATE: Mapping[str, Any] = {"rollout": {"maxFailedPods": "50%", "progressDeadline": "8s"}}
"""With all pods in the first wave: a first wave that is late as a whole fails the version."""


def in_canary(case: Case) -> tuple[Voice, str, str]:
    """Half of the listeners hear the second version, and it takes a while."""
    voice, first = case.speaking(SPLIT, {"rollout": {"canary": {"successes": 60}}})
    second = voice.edit(case.fresh())
    voice.wait_phase(Phase.CANARY, target=second)
    return voice, first, second


def test_a_pod_joins_in_mid_rollout(case: Case) -> None:
    voice, first, second = in_canary(case)
    wait_desired(case, voice, first)
    case.stage.add_pods("joiner")
    assert case.stage.actives(voice.key)["joiner"] == first, "it starts on the stable version"
    voice.wait_promoted(second, within_s=120)
    case.stage.wait_serving(voice.key, second, pods=3)
    case.heard(voice, second)
    case.stage.delete_pod("joiner")


def wait_desired(case: Case, voice: Voice, revision: str) -> None:
    """Until the desired set that pods mount names the revision: it is written at most every 30 s."""
    mounted = next(iter(case.stage.pods.values())).desired / "..data"
    eventually(
        lambda: any(revision in path.read_text() for path in mounted.iterdir()),
        within_s=60,
        what=f"{revision[:10]} is in the desired set of {voice.key}",
    )


def test_a_pod_leaves_in_mid_rollout(case: Case) -> None:
    case.stage.add_pods("leaver")
    voice, _, second = in_canary(case)
    case.stage.delete_pod("leaver")
    done = voice.wait_promoted(second, within_s=120)
    assert done.status.pods.summary == "2/2"
    case.stage.wait_serving(voice.key, second)
    case.heard(voice, second)


def test_a_sidecar_dies_in_mid_preload(case: Case) -> None:
    voice, _ = case.speaking(ALL_AT_ONCE)
    second = voice.edit(case.fresh())
    voice.wait_phase(Phase.PRELOADING, target=second)
    case.stage.kill_sidecar("pod-0")
    voice.wait_promoted(second)
    case.stage.wait_serving(voice.key, second)
    case.heard(voice, second)


def test_a_sidecar_dies_in_the_canary(case: Case) -> None:
    voice, _, second = in_canary(case)
    case.stage.kill_sidecar("pod-1")
    voice.wait_promoted(second, within_s=120)
    case.stage.wait_serving(voice.key, second)
    case.heard(voice, second)


def test_a_pod_restarts_in_mid_rollout(case: Case) -> None:
    voice, _, second = in_canary(case)
    case.stage.restart_pod("pod-1")
    voice.wait_promoted(second, within_s=120)
    case.stage.wait_serving(voice.key, second)
    case.heard(voice, second)


def test_a_hanging_sidecar_is_late_and_follows(case: Case) -> None:
    voice, first = case.speaking(ALL_AT_ONCE, ONE_MAY_BE_LATE)
    pod = case.stage.pods["pod-1"]
    pod.hang(Container.SIDECAR)
    try:
        second = voice.edit(case.fresh())
        voice.wait_phase(Phase.WATCHING, target=second, within_s=120)
        case.heard(voice, second)
        case.heard(voice, first)
    finally:
        pod.resume()
    voice.wait_promoted(second)
    case.stage.wait_serving(voice.key, second)
    case.heard(voice, second)


def test_a_whole_pod_hangs_for_a_while(case: Case) -> None:
    voice, _, second = in_canary(case)
    pod = case.stage.pods["pod-1"]
    pod.hang(Container.SIDECAR, Container.SERVER)
    try:
        eventually(lambda: not case.stage.node.is_ready("pod-1"), within_s=20, what="the pod is not Ready")
        case.heard(voice, second)
    finally:
        pod.resume()
    voice.wait_promoted(second, within_s=120)
    case.stage.wait_serving(voice.key, second)
    case.heard(voice, second)
