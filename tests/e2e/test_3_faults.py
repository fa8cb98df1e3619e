"""What breaks on a node and around it, in the middle of rollouts, while listeners ask the Service."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.cluster.processes import wait_for
from tests.support.e2e.installation import FLEET, LEASE_S, OPERATOR, OPERATOR_PODS, Installation, Pod
from tests.support.e2e.place import Place
from tests.support.e2e.scene import Scene, Theatre, playing
from tests.support.e2e.shipped import LIVELIER, shipped
from tests.support.e2e.surgeon import Surgeon
from tests.support.pods.versions import SPLIT
from tests.support.pods.voice import Voice

from segue.model import Phase

SLOW_CANARY: Mapping[str, Any] = {"rollout": {"canary": {"successes": 80}}}
OPERATOR_AWAY_S = 120.0
CONTROL_PLANE_AWAY_S = 60.0
LOST_WITH_A_SERVER = 30
"""Under way in the container, and sent to it before its node and the other nodes knew: two seconds at this rate."""
SIDECAR_STATUS = 8081
CHARGED_TWICE = 1.25


def in_canary(scene: Scene) -> tuple[Voice, str]:
    """Half of the listeners hear the second version, and it takes a while; the voice and that version's revision."""
    voice, _ = scene.speaking(SPLIT, SLOW_CANARY)
    second = voice.apply(shipped(LIVELIER))
    voice.wait_phase(Phase.CANARY, target=second)
    return voice, second


def finishes(scene: Scene, voice: Voice, revision: str) -> None:
    """The rollout goes on to its end."""
    voice.wait_promoted(revision, within_s=240)
    scene.heard(voice, revision, more=30)


def test_a_pod_is_deleted_in_mid_rollout(installed: Installation, theatre: Theatre) -> None:
    with playing(theatre, "pod-deleted") as scene:
        voice, second = in_canary(scene)
        gone = installed.pods()[0]
        installed.kubectl("delete", "pod", gone.name, "--wait=false")
        wait_for(
            lambda: gone.name not in {pod.name for pod in installed.pods()} or None, within_s=90, what="it is gone"
        )
        installed.wait_ready()
        finishes(scene, voice, second)


def test_a_sidecar_is_killed(installed: Installation, theatre: Theatre, surgeon: Surgeon) -> None:
    with playing(theatre, "sidecar-killed") as scene:
        voice, second = in_canary(scene)
        pod = installed.pods()[0]
        surgeon.kill(pod.container_id("sidecar"))
        after = adopted(installed, pod)
        scene.note(f"{pod.name} ready again after {after:.1f} s")
        finishes(scene, voice, second)


def test_a_sidecar_runs_out_of_memory(installed: Installation, theatre: Theatre, surgeon: Surgeon) -> None:
    with playing(theatre, "sidecar-out-of-memory") as scene:
        voice, second = in_canary(scene)
        finishes(scene, voice, second)
        pod = installed.pods()[0]
        before = surgeon.shared_bytes(pod.container_id("server"))
        place = {"namespace": installed.namespace, "pod": pod.name, "container": "sidecar"}
        surgeon.exhaust(pod.container_id("sidecar"), **place)
        adopted(installed, pod)
        ended = installed.pod(pod.name).container("sidecar")["lastState"]["terminated"]
        assert ended["reason"] == "OOMKilled", ended
        after = surgeon.shared_bytes(pod.container_id("server"))
        scene.note(f"shared memory of the pod: {before} bytes before, {after} after")
        assert after <= before * CHARGED_TWICE, "memory of the dead sidecar is charged beside that of the new one"
        voice.wait_promoted(voice.apply(shipped("voices/narrator/v1")))


def adopted(installation: Installation, pod: Pod) -> float:
    """Wait until a pod's sidecar is back, with what the server held all the time; seconds that it took."""
    began_s = time.monotonic()
    restarts = pod.restarts("sidecar")
    back = installation.wait_pod(
        pod.name, lambda now: now.ready and now.restarts("sidecar") > restarts, what="its sidecar is back"
    )
    took_s = time.monotonic() - began_s
    assert back.container_id("server") == pod.container_id("server"), "the server was ended too"
    assert back.restarts("server") == pod.restarts("server")
    fetched = [
        series
        for series, value in installation.figures(pod.name, SIDECAR_STATUS).items()
        if series.startswith("segue_sidecar_children_total") and "fetch" in series and value
    ]
    assert not fetched, f"what the server still held was loaded again: {fetched}"
    return took_s


def test_a_server_is_killed(installed: Installation, theatre: Theatre, surgeon: Surgeon) -> None:
    with playing(theatre, "server-killed", lost=LOST_WITH_A_SERVER) as scene:
        voice, second = in_canary(scene)
        pod = installed.pods()[0]
        restarts = pod.restarts("server")
        surgeon.kill(pod.container_id("server"))
        installed.wait_pod(
            pod.name, lambda now: now.ready and now.restarts("server") > restarts, what="its server is back"
        )
        finishes(scene, voice, second)


def test_the_operator_is_away_for_two_minutes(installed: Installation, theatre: Theatre) -> None:
    with playing(theatre, "operator-away") as scene:
        voice, second = in_canary(scene)
        replicas = len(installed.pods(OPERATOR_PODS))
        installed.scale(OPERATOR, 0)
        wait_for(lambda: not installed.pods(OPERATOR_PODS) or None, within_s=60, what="there is no operator")
        away_until_s = time.monotonic() + OPERATOR_AWAY_S
        while time.monotonic() < away_until_s:
            scene.heard(voice, None)
        installed.scale(OPERATOR, replicas)
        finishes(scene, voice, second)
        installed.wait_ready(pods=replicas, selector=OPERATOR_PODS, within_s=60 + LEASE_S)


def test_the_control_plane_is_away_for_a_minute(installed: Installation, theatre: Theatre, place: Place) -> None:
    if place.node is None:
        pytest.skip("the control plane of this cluster is not ours to stop")
    with playing(theatre, "control-plane-away") as scene:
        voice, second = in_canary(scene)
        with place.node.without_control_plane():
            away_until_s = time.monotonic() + CONTROL_PLANE_AWAY_S
            while time.monotonic() < away_until_s:
                scene.heard(voice, None)
        finishes(scene, voice, second)
        installed.wait_ready()


def test_all_pods_are_replaced(installed: Installation, theatre: Theatre) -> None:
    with playing(theatre, "pods-replaced") as scene:
        voice, second = in_canary(scene)
        finishes(scene, voice, second)
        before = {pod.uid for pod in installed.pods()}
        installed.restart(FLEET)
        assert not before & {pod.uid for pod in installed.wait_ready()}
        scene.heard(voice, second, more=30)
