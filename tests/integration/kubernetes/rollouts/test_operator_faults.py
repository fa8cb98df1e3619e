"""The operator dies, freezes, loses the API server: each rollout ends in the right revision, the way back kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_never

import httpx
import pytest
from tests.support.pods.case import Case
from tests.support.pods.operator_process import OperatorProcess, holder_of, lease, wait_for_other_holder
from tests.support.pods.pod import Container
from tests.support.pods.rights import operator_kubeconfig
from tests.support.pods.traffic import MIXED_TEXTS, QUESTIONS
from tests.support.pods.versions import SPLIT, Version
from tests.support.pods.voice import Voice, has_failed
from tests.support.running import eventually

from segue.model import Phase, VoiceModel, revision_of
from segue.wire import VoiceState

pytestmark = [pytest.mark.cluster, pytest.mark.process, pytest.mark.timeout(600)]

OUTAGE_S = 60.0
HANDOVER_S = 2.0
OPEN_WATCH: Mapping[str, Any] = {"watch": {"duration": "20s", "sustainedFor": "5s"}}
MANUAL: Mapping[str, Any] = {"rollout": {"approval": "Manual"}}

PodStates = Mapping[str, VoiceState | None]


@dataclass(frozen=True, slots=True)
class Write:
    """Something that the operator has written to the API server, as a watch tells of it."""

    name: str
    is_there: Callable[[VoiceModel], bool]


@dataclass(frozen=True, slots=True)
class Order:
    """Something that the operator has commanded, as the pods show it."""

    name: str
    is_obeyed: Callable[[PodStates], bool]


def known(states: PodStates) -> list[VoiceState]:
    """Those in reach."""
    return [state for state in states.values() if state is not None]


def good_points(target: str) -> Sequence[Write | Order]:
    """On the way of a good version, in order; each stays true from then on."""
    order = list(Phase)

    def reached(phase: Phase) -> Callable[[VoiceModel], bool]:
        def check(voice: VoiceModel) -> bool:
            status = voice.status
            is_under_way = status.target_revision == target and order.index(status.phase) >= order.index(phase)
            return is_under_way or status.stable_revision == target

        return check

    def on_a_pod(sign: Callable[[VoiceState], bool]) -> Callable[[PodStates], bool]:
        return lambda states: any(map(sign, known(states)))

    return (
        Write("Preloading", reached(Phase.PRELOADING)),
        Order("load", on_a_pod(lambda state: target in state.revisions)),
        Write("Verifying", reached(Phase.VERIFYING)),
        Order("probe", on_a_pod(lambda state: _probed(state, target))),
        Write("verified", lambda voice: any(each.revision == target for each in voice.status.verifications)),
        Write("Canary", reached(Phase.CANARY)),
        Order("candidate", on_a_pod(lambda state: target in (state.pointer.candidate, state.pointer.active))),
        Write("Flipping", reached(Phase.FLIPPING)),
        Order("flip", on_a_pod(lambda state: state.pointer.active == target)),
        Write("Watching", reached(Phase.WATCHING)),
        Write("Promoted", lambda voice: voice.status.stable_revision == target),
        Order("close the watch", lambda states: all(state.watch is None for state in known(states))),
    )


def _probed(state: VoiceState, revision: str) -> bool:
    found = state.revisions.get(revision)
    return found is not None and found.report is not None


def bad_points(bad: str, good: str) -> Sequence[Write | Order]:
    """On the way of a version that fails live, there and back."""
    return (
        Write("Watching", lambda voice: voice.status.phase is Phase.WATCHING or has_failed(voice.status, bad)),
        Write("RollingBack", lambda voice: has_failed(voice.status, bad)),
        Order("back", lambda states: any(state.pointer.active == good for state in known(states))),
        Write("revert announced", lambda voice: any(each.reverting for each in voice.status.failed_revisions)),
        Write("spec reverted", lambda voice: revision_of(voice.spec) == good),
        Write("RolledBack", lambda voice: voice.status.phase is Phase.IDLE and has_failed(voice.status, bad)),
    )


def kill_at_each(case: Case, voice: Voice, points: Sequence[Write | Order]) -> None:
    """SIGKILL to the operator right after each point, and another one in its place."""
    for point in points:
        match point:
            case Write():
                voice.wait(point.is_there, what=f"write: {point.name}")
            case Order():
                case.stage.wait_states(voice.key, point.is_obeyed, what=f"command: {point.name}")
            case _:
                assert_never(point)
        case.stage.operator.kill()
        case.note(f"killed after {type(point).__name__.lower()} {point.name}: stood in {voice.status.phase}")
        case.stage.operator.start_leading(case.stage.kube)


def test_killed_after_each_step_of_a_good_version(case: Case) -> None:
    voice, first = case.speaking(SPLIT)
    second = voice.edit(case.fresh())
    kill_at_each(case, voice, good_points(second))
    done = voice.wait_promoted(second)
    assert [entry.revision for entry in done.status.history] == [second, first]
    assert done.status.attempt == 2, "no attempt was begun twice"
    case.stage.wait_serving(voice.key, second)
    _way_back_is_kept(case, voice, first, second)
    case.heard(voice, second)


def test_killed_after_each_step_of_a_rollback(case: Case) -> None:
    voice, first = case.speaking(OPEN_WATCH, first=case.stage.wardrobe.narrator)
    case.listen(voice, texts=MIXED_TEXTS)
    bad = voice.apply(case.stage.wardrobe.fails_on_questions)
    kill_at_each(case, voice, bad_points(bad, first))
    done = voice.wait_rolled_back(bad)
    assert revision_of(voice.read().spec) == first
    assert done.status.stable_revision == first
    case.stage.wait_serving(voice.key, first)
    case.heard(voice, first)


def _way_back_is_kept(case: Case, voice: Voice, *revisions: str) -> None:
    case.stage.wait_states(
        voice.key,
        lambda states: all(set(revisions) <= state.revisions.keys() for state in known(states)),
        what="both versions are resident",
    )


def test_edited_while_the_operator_is_down(case: Case) -> None:
    voice, first = case.speaking()
    case.stage.operator.kill()
    skipped = voice.edit(case.fresh())
    second = voice.edit(case.fresh())
    case.heard(voice, first)
    case.stage.operator.start_leading(case.stage.kube)
    done = voice.wait_promoted(second)
    assert [entry.revision for entry in done.status.history] == [second, first]
    assert not case.answers(voice, skipped)
    case.heard(voice, second)


def test_pods_go_back_by_themselves(case: Case) -> None:
    """The dead-man rule: the operator is away, and the version fails."""
    voice, first = case.speaking(OPEN_WATCH, first=case.stage.wardrobe.narrator)
    bad = voice.apply(case.stage.wardrobe.fails_on_questions)
    voice.wait_phase(Phase.WATCHING, target=bad)
    case.stage.operator.kill()
    case.listen(voice, texts=QUESTIONS)
    case.stage.wait_states(
        voice.key,
        lambda states: all(state is not None and state.self_reverted is not None for state in states.values()),
        what="every pod went back by itself",
        within_s=90,
    )
    assert set(case.stage.actives(voice.key).values()) == {first}
    assert revision_of(voice.read().spec) == bad, "the spec is the operator's to write back"
    case.heard(voice, first)
    case.stage.operator.start_leading(case.stage.kube)
    done = voice.wait_rolled_back(bad)
    failure = next(each for each in done.status.failed_revisions if each.revision == bad)
    assert failure.reason == "SelfReverted"
    voice.wait(lambda seen: revision_of(seen.spec) == first, what="the spec is written back")
    case.stage.wait_serving(voice.key, first)
    case.heard(voice, first)


HELD_IN: Mapping[Phase, Mapping[str, Any]] = {
    Phase.PRELOADING: {"rollout": {"preloadWaves": ["100%"]}},
    Phase.VERIFYING: MANUAL,
    Phase.CANARY: {"rollout": {"canary": {"mode": "Split", "successes": 400, "insufficientTraffic": "Hold"}}},
    Phase.FLIPPING: MANUAL,
    Phase.WATCHING: {"watch": {"duration": "60s"}},
    Phase.ROLLING_BACK: {"watch": {"duration": "120s", "sustainedFor": "5s"}},
}
"""What keeps a voice in a phase, for two of them together with a sidecar that hangs."""


def test_the_api_server_is_away_for_a_minute_in_each_phase(case: Case) -> None:
    """One outage, and a voice in each phase when it begins."""
    stage = case.stage
    voices = {phase: case.voice() for phase in HELD_IN}
    versions = {phase: case.fresh() for phase in HELD_IN}
    firsts = {phase: case.fresh() for phase in HELD_IN}
    firsts[Phase.ROLLING_BACK] = stage.wardrobe.narrator
    versions[Phase.ROLLING_BACK] = stage.wardrobe.fails_on_questions
    for phase, voice in voices.items():
        voice.apply(firsts[phase])
    for phase, voice in voices.items():
        voice.wait_promoted(firsts[phase].revision)
        voice.follow(HELD_IN[phase])
        case.listen(voice, rate_per_s=1.0)
    with _pod_hanging_from(case, voices, versions):
        case.listen(voices[Phase.ROLLING_BACK], texts=MIXED_TEXTS)
        bad = versions[Phase.ROLLING_BACK].revision
        voices[Phase.ROLLING_BACK].wait(lambda seen: has_failed(seen.status, bad), what="its rollback begins")
        stage.cluster.stop_api_server()
    _outage(case, voices)
    for phase in (Phase.VERIFYING, Phase.CANARY):
        voices[phase].annotate(promote="go")
    failed = voices.pop(Phase.ROLLING_BACK)
    failed.wait_rolled_back(bad, within_s=180)
    failed.wait(lambda seen: revision_of(seen.spec) == firsts[Phase.ROLLING_BACK].revision, what="the spec is reverted")
    stage.wait_serving(failed.key, firsts[Phase.ROLLING_BACK].revision)
    for phase, voice in voices.items():
        voice.wait_promoted(versions[phase].revision, within_s=180)
        stage.wait_serving(voice.key, versions[phase].revision)
        case.heard(voice, versions[phase].revision, more=4)


@contextmanager
def _pod_hanging_from(case: Case, voices: Mapping[Phase, Voice], versions: Mapping[Phase, Version]) -> Iterator[None]:
    """Bring each voice to its phase; from then on, and while in the context, a sidecar hangs that keeps it there."""
    for phase in (Phase.VERIFYING, Phase.FLIPPING, Phase.CANARY):
        voices[phase].edit(versions[phase])
    for phase in (Phase.VERIFYING, Phase.FLIPPING):
        voices[phase].wait_reason("AwaitingApproval")
    voices[Phase.CANARY].wait_phase(Phase.CANARY)
    for phase in (Phase.WATCHING, Phase.ROLLING_BACK):
        voices[phase].edit(versions[phase])
        voices[phase].wait_phase(Phase.WATCHING)
    pod = case.stage.pods["pod-1"]
    pod.hang(Container.SIDECAR)
    try:
        voices[Phase.PRELOADING].edit(versions[Phase.PRELOADING])
        voices[Phase.FLIPPING].annotate(promote="go")
        for phase in (Phase.PRELOADING, Phase.FLIPPING):
            voices[phase].wait_phase(phase)
        yield
    finally:
        pod.resume()


def _outage(case: Case, voices: Mapping[Phase, Voice]) -> None:
    """A minute without an API server; listeners go on all the while."""
    began_s = time.monotonic()
    answered = {phase: case.answers(voice) for phase, voice in voices.items()}
    try:
        eventually(lambda: time.monotonic() - began_s > OUTAGE_S, within_s=OUTAGE_S + 10, what="a minute is over")
        for phase, voice in voices.items():
            assert case.answers(voice) > answered[phase] + OUTAGE_S, f"the listeners of {voice.key} were answered"
    finally:
        case.stage.cluster.start_api_server()
    for phase, voice in voices.items():
        case.note(f"API server away for {time.monotonic() - began_s:.0f} s; meant {phase}, found {voice.status.phase}")


# --- two replicas ---------------------------------------------------------------------------------------------------


def second_replica(case: Case) -> OperatorProcess:
    """Another operator, with a token of its own so that the audit log tells them apart; it waits for its turn."""
    found = case.stage.operators.get("operator-1") or case.stage.add_operator("operator-1")
    found.kubeconfig = operator_kubeconfig(case.stage.cluster)
    if not found.is_running:
        found.start()
    eventually(lambda: _is_healthy(found), within_s=60, what=f"operator-1 is up: {found.tail()}")
    return found


def _is_healthy(operator: OperatorProcess) -> bool:
    return httpx.get(f"http://127.0.0.1:{operator.port}/healthz", timeout=2, trust_env=False).is_success


def test_a_frozen_leader_changes_nothing_afterwards(case: Case) -> None:
    stage = case.stage
    standby = second_replica(case)
    try:
        voice, first = case.speaking(SPLIT)
        second = voice.edit(case.fresh())
        voice.wait_phase(Phase.CANARY, target=second)
        before = holder_of(stage.kube)
        stage.operator.freeze()
        took_s = wait_for_other_holder(stage.kube, before, within_s=60)
        voice.wait_promoted(second)
        voice.follow({"rollout": {"canary": {"mode": "Skip"}}})
        third = voice.edit(case.fresh())
        done = voice.wait_promoted(third)
        stage.wait_serving(voice.key, third)
        fences = {name: state.fence for name, state in stage.voice_states(voice.key).items() if state is not None}
        thawed = datetime.now(UTC)
        stage.operator.thaw()
        _renewals(case, 6)
        assert holder_of(stage.kube) != before
        after = voice.read()
        assert (after.metadata.generation, after.status.history) == (done.metadata.generation, done.status.history)
        same = {name: state.fence for name, state in stage.voice_states(voice.key).items() if state is not None}
        assert {name: fence.partition(".")[0] for name, fence in same.items()} == {
            name: fence.partition(".")[0] for name, fence in fences.items()
        }, "a pod obeyed another leader"
        assert not _writes_of(stage.operator, case, since=thawed), "the frozen leader wrote something"
        case.note(f"another replica led {took_s:.1f} s after the freeze; {first[:10]} -> {second[:10]} -> {third[:10]}")
        case.heard(voice, third)
    finally:
        stage.operator.thaw()
        _back_to_one(case, standby)


def test_handover_on_sigterm(case: Case) -> None:
    stage = case.stage
    standby = second_replica(case)
    try:
        voice, first = case.speaking(SPLIT)
        second = voice.edit(case.fresh())
        voice.wait_phase(Phase.CANARY, target=second)
        before = holder_of(stage.kube)
        began_s = time.monotonic()
        code = stage.operator.stop()
        wait_for_other_holder(stage.kube, before, within_s=30)
        took_s = time.monotonic() - began_s
        assert code == 0, stage.operator.tail()
        assert took_s < HANDOVER_S, f"the handover took {took_s:.1f} s"
        case.note(f"handed over within {took_s:.2f} s")
        done = voice.wait_promoted(second)
        assert [entry.revision for entry in done.status.history] == [second, first]
        case.heard(voice, second)
    finally:
        _back_to_one(case, standby)


def _renewals(case: Case, count: int) -> None:
    """Until the Lease was renewed so often."""
    seen: set[str] = set()

    def renewed() -> bool:
        found = lease(case.stage.kube) or {}
        seen.add(str(found.get("spec", {}).get("renewTime")))
        return len(seen) > count

    eventually(renewed, within_s=60, what=f"{count} renewals of the Lease")


def _writes_of(operator: OperatorProcess, case: Case, *, since: datetime) -> list[str]:
    """Successful writes by this replica's token, from the API server's audit log."""
    token = operator.token_id()
    found = []
    for event in case.stage.cluster.plane.audit():
        extra = event["user"].get("extra", {})
        by_us = token in extra.get("authentication.kubernetes.io/credential-id", [])
        is_write = event["verb"] in ("create", "update", "patch", "delete") and event["responseStatus"]["code"] < 300
        if by_us and is_write and datetime.fromisoformat(event["requestReceivedTimestamp"]) > since:
            found.append(f"{event['verb']} {event['requestURI']}")
    return found


def _back_to_one(case: Case, standby: OperatorProcess) -> None:
    """The first replica leads alone, as the other cases expect."""
    standby.end()
    case.stage.operator.end()
    case.stage.operator.start_leading(case.stage.kube)
