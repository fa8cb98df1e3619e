"""What is read of pods, and how often: whole and seldom where nothing goes on, closely where something does."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.fleet import FLEET, UID, Fleets, ScriptedSidecar, holding, narrator, polled, record, until
from tests.support.voices import voice

from segue.model import Phase, Status, source_of
from segue.rollout import EnsureRevision, SetPointer
from segue.wire import RevisionPhase, RevisionState, VoiceState
from segue_operator.fleet.group import FEW_PODS
from segue_operator.fleet.records import FleetKey, Holding
from segue_operator.fleet.standings import Standings

KEY = "default/narrator"


async def begin(fleets: Fleets, count: int = 1) -> None:
    fleets.fleet.update([record(f"p{index}") for index in range(count)])
    await until(lambda: all(pod.identity is not None for pod in fleets.fleet.pods.values()))


def test_a_quiet_pod_is_read_once_a_period_and_as_a_whole() -> None:
    async def story(fleets: Fleets) -> None:
        quiet = fleets.pod("p0", narrator=holding())
        await begin(fleets)
        await until(lambda: len(quiet.asked) >= 3)
        assert quiet.asked[0] == "GET /v1/state?wait=0s"
        assert quiet.asked[1:3] == ["GET /v1/state?wait=0s&since=1"] * 2

    polled(story, idle_poll_s=0.1)


def test_nothing_more_is_asked_of_a_quiet_pod_in_between() -> None:
    async def story(fleets: Fleets) -> None:
        quiet = fleets.pod("p0", narrator=holding())
        await begin(fleets)
        for _ in range(5):
            await fleets.fleet.observe(narrator(), evidence=False)
        await asyncio.sleep(0.2)
        assert len(quiet.asked) == 1

    polled(story)


def test_a_pod_in_a_rollout_is_long_polled_for_that_voice_and_wakes_it_alone() -> None:
    async def story(fleets: Fleets) -> None:
        busy = fleets.pod("p0", narrator=holding(), other=holding(uid="uid-other"))
        await begin(fleets)
        fleets.fleet.follow(KEY, closely=True)
        await fleets.fleet.observe(narrator(), evidence=False)
        await until(lambda: busy.asked[-1] == "GET /v1/state?wait=20s&since=1&voice=default%2Fnarrator")
        fleets.woken.clear()
        busy.put("default/other", holding("c" * 64, uid="uid-other"))
        busy.put(KEY, holding("b" * 64))
        await until(lambda: fleets.woken)
        assert fleets.woken == [frozenset({KEY})]
        (view,) = await fleets.fleet.observe(narrator(), evidence=False)
        assert view.pointer.active == "b" * 64

    polled(story)


def test_a_voice_that_is_followed_later_is_not_missed_by_the_poll_that_waits_already() -> None:
    async def story(fleets: Fleets) -> None:
        busy = fleets.pod("p0", narrator=holding(), other=holding(uid="uid-other"))
        await begin(fleets)
        fleets.fleet.pods["p0"].follow("default/other", closely=True)
        await until(lambda: busy.asked[-1].endswith("voice=default%2Fother"))
        fleets.fleet.follow(KEY, closely=True)
        await fleets.fleet.observe(narrator(), evidence=False)
        busy.put(KEY, holding("b" * 64))
        await until(lambda: fleets.fleet.pods["p0"].voices[KEY].standing.pointer.active == "b" * 64)

    polled(story)


def test_when_nobody_follows_any_more_the_pod_is_quiet_again() -> None:
    async def story(fleets: Fleets) -> None:
        pod = fleets.pod("p0", narrator=holding())
        await begin(fleets)
        fleets.fleet.follow(KEY, closely=True)
        await fleets.fleet.observe(narrator(), evidence=False)
        await until(lambda: "wait=20s" in pod.asked[-1])
        fleets.fleet.follow(KEY, closely=False)
        pod.put(KEY, holding("b" * 64))
        await until(lambda: fleets.fleet.pods["p0"].voices[KEY].standing.pointer.active == "b" * 64)
        asked = len(pod.asked)
        await asyncio.sleep(0.2)
        assert len(pod.asked) <= asked + 1

    polled(story)


def test_what_is_seen_is_never_older_than_our_last_command() -> None:
    async def story(fleets: Fleets) -> None:
        fleets.pod("p0", narrator=holding())
        await begin(fleets)
        command = SetPointer(pods=("p0",), active="b" * 64)
        await fleets.fleet.send(command, "p0", voice=narrator(), next_fence=fleets.next_fence)
        (view,) = await fleets.fleet.observe(narrator(), evidence=False)
        assert (view.in_reach, view.pointer.active) == (True, "b" * 64)

    polled(story)


def test_a_pod_that_fell_silent_after_our_command_is_out_of_reach_rather_than_old() -> None:
    async def story(fleets: Fleets) -> None:
        pod = fleets.pod("p0", narrator=holding())
        await begin(fleets)
        command = SetPointer(pods=("p0",), active="b" * 64)
        await fleets.fleet.send(command, "p0", voice=narrator(), next_fence=fleets.next_fence)
        pod.silent = True
        (view,) = await fleets.fleet.observe(narrator(), evidence=False)
        assert not view.in_reach

    polled(story)


def test_a_voice_that_does_not_live_everywhere_looks_only_at_the_pods_that_hold_it() -> None:
    async def story(fleets: Fleets) -> None:
        fleets.pod("p0", narrator=holding())
        fleets.pod("p2", narrator=holding())
        for number in (1, *range(3, 2 + FEW_PODS)):
            fleets.pod(f"p{number}")
        await begin(fleets, 2 + FEW_PODS)
        warm = await fleets.fleet.observe(narrator(tier="warm"), evidence=False)
        hot = await fleets.fleet.observe(narrator(tier="hot"), evidence=False)
        assert [view.uid for view in warm] == ["p0", "p2"]
        assert len(hot) == 2 + FEW_PODS

    polled(story)


def test_in_a_small_fleet_every_pod_is_told_of_every_voice() -> None:
    async def story(fleets: Fleets) -> None:
        fleets.pod("p0", narrator=holding())
        fleets.pod("p1")
        await begin(fleets, 2)
        warm = await fleets.fleet.observe(narrator(tier="warm"), evidence=False)
        assert [view.uid for view in warm] == ["p0", "p1"]

    polled(story)


def test_a_voice_that_nobody_serves_yet_may_go_to_any_pod() -> None:
    async def story(fleets: Fleets) -> None:
        fleets.pod("p0")
        fleets.pod("p1")
        await begin(fleets, 2)
        assert len(await fleets.fleet.observe(narrator(tier="warm"), evidence=False)) == 2

    polled(story)


def test_what_pods_hold_is_told_with_uid_and_fleet() -> None:
    async def story(fleets: Fleets) -> None:
        fleets.pod("p0", narrator=holding(), gone=holding(uid="uid-gone"))
        fleets.pod("p1", narrator=holding())
        other = FleetKey(namespace="voices", name="other")
        fleets.fleet.update([record("p0"), record("p1", fleet=other)])
        await until(lambda: all(pod.identity is not None for pod in fleets.fleet.pods.values()))
        assert fleets.fleet.held() == {
            Holding(voice=KEY, uid="uid-narrator", fleet=FLEET),
            Holding(voice=KEY, uid="uid-narrator", fleet=other),
            Holding(voice="default/gone", uid="uid-gone", fleet=FLEET),
        }

    polled(story)


def test_evidence_is_read_of_pods_that_hold_the_voice_only() -> None:
    async def story(fleets: Fleets) -> None:
        has, has_not = fleets.pod("p0", narrator=holding()), fleets.pod("p1")
        await begin(fleets, 2)
        seen = await fleets.fleet.observe(narrator(), evidence=True)
        assert [view.windows is not None for view in seen] == [True, False]
        assert any("/v1/windows" in each for each in has.asked)
        assert not any("/v1/windows" in each for each in has_not.asked)

    polled(story)


def test_in_mid_flip_only_pods_that_have_flipped_are_asked_for_evidence() -> None:
    async def story(fleets: Fleets) -> None:
        flipped, waiting = fleets.pod("p0", narrator=holding("b" * 64)), fleets.pod("p1", narrator=holding("a" * 64))
        await begin(fleets, 2)
        flipping = Status(phase=Phase.FLIPPING, target_revision="b" * 64)
        voice = narrator().model_copy(update={"status": flipping})
        views = await fleets.fleet.observe(voice, evidence=True)
        assert [view.windows is not None for view in views] == [True, False]
        assert any("/v1/windows" in each for each in flipped.asked)
        assert not any("/v1/windows" in each for each in waiting.asked)

        voice = narrator().model_copy(update={"status": flipping.model_copy(update={"phase": Phase.WATCHING})})
        views = await fleets.fleet.observe(voice, evidence=True)
        assert all(view.windows is not None for view in views), "in the watch every pod has its say"

    polled(story)


def test_where_connections_are_shared_no_long_poll_begins_while_commands_are_under_way() -> None:
    async def story(fleets: Fleets) -> None:
        shared, busy = fleets.pod("p0", narrator=holding()), fleets.pod("p1", narrator=holding())
        await begin(fleets, 2)
        fleets.fleet.follow(KEY, closely=True)
        await fleets.fleet.observe(narrator(), evidence=False)
        await until(lambda: polls(shared) == 1)
        shared.cut_short()
        await until(lambda: polls(shared) == 2)

        busy.holds_up = asyncio.Event()
        command = SetPointer(pods=("p1",), active="b" * 64)
        sending = asyncio.create_task(fleets.fleet.send(command, "p1", voice=narrator(), next_fence=fleets.next_fence))
        await until(lambda: busy.under_way)
        shared.put(KEY, holding("b" * 64))
        known = fleets.fleet.pods["p0"]
        await until(lambda: known.standing(KEY, UID).pointer.active == "b" * 64)
        await asyncio.sleep(0.1)
        assert polls(shared) == 2, "the next command would only end it"
        busy.holds_up.set()
        await sending
        await until(lambda: polls(shared) == 3)

    polled(story)


def polls(pod: ScriptedSidecar) -> int:
    """Long-polls so far."""
    return sum("wait=20s" in each for each in pod.asked)


def test_voices_that_stand_alike_share_what_is_known_of_them() -> None:
    standings = Standings()
    one = standings.of(holding(fence="1.1", slot=1))
    other = standings.of(holding(fence="1.2", slot=2))
    different = standings.of(holding("b" * 64, fence="1.2"))
    assert one.standing is other.standing
    assert one.fence < other.fence
    assert one.standing is not different.standing


def loading(phase: RevisionPhase) -> VoiceState:
    """The narrator speaks one revision, and has another on its way."""
    known = holding()
    coming = RevisionState(revision="b" * 64, phase=phase)
    return known.model_copy(update={"revisions": {**known.revisions, coming.revision: coming}})


def phases_of(fleets: Fleets) -> set[RevisionPhase]:
    """Those of the revisions that are known of the narrator on the pod."""
    return {each.phase for each in fleets.fleet.pods["p0"].voices[KEY].standing.revisions.values()}


async def tell(fleets: Fleets) -> None:
    """A quiet voice has a revision loaded on a pod: one that has just joined."""
    command = EnsureRevision(pods=("p0",), source=source_of(voice("v2").spec))
    await fleets.fleet.send(command, "p0", voice=narrator(), next_fence=fleets.next_fence)


def test_a_pod_that_was_told_something_of_a_quiet_voice_is_read_closely_until_it_is_done() -> None:
    async def story(fleets: Fleets) -> None:
        pod = fleets.pod("p0", narrator=holding())
        await begin(fleets)
        await tell(fleets)
        await fleets.fleet.observe(narrator(), evidence=False)
        await until(lambda: "wait=20s" in pod.asked[-1])
        fleets.woken.clear()
        pod.put(KEY, pod.voices[KEY].model_copy(update={"revisions": holding("b" * 64).revisions}))
        await until(lambda: fleets.woken)
        await fleets.fleet.observe(narrator(), evidence=False)
        assert not fleets.fleet.pods["p0"].followed, "it is done"

    polled(story)


@pytest.mark.parametrize("phase", [RevisionPhase.QUEUED, RevisionPhase.FETCHING, RevisionPhase.OFFERING])
def test_while_it_is_on_its_way_it_is_read_closely(phase: RevisionPhase) -> None:
    async def story(fleets: Fleets) -> None:
        pod = fleets.pod("p0", narrator=holding())
        await begin(fleets)
        await tell(fleets)
        pod.put(KEY, loading(phase).model_copy(update={"fence": pod.voices[KEY].fence}))
        await until(lambda: phase in phases_of(fleets))
        await fleets.fleet.observe(narrator(), evidence=False)
        assert fleets.fleet.pods["p0"].followed == {KEY}

    polled(story)


def test_a_rollout_of_a_voice_that_sleeps_elsewhere_follows_the_pods_where_it_is_awake() -> None:
    async def story(fleets: Fleets) -> None:
        resting = RevisionState(revision="a" * 64, phase=RevisionPhase.COLD)
        fleets.pod("p0", narrator=holding())
        fleets.pod("p1", narrator=holding().model_copy(update={"revisions": {"a" * 64: resting}}))
        await begin(fleets, 2)
        fleets.fleet.follow(KEY, closely=True)
        await fleets.fleet.observe(narrator(tier="cold"), evidence=False)
        assert [pod.followed for pod in fleets.fleet.pods.values()] == [{KEY}, frozenset()]

    polled(story)


def test_a_rollout_that_ends_leaves_the_pods_that_are_on_their_way() -> None:
    async def story(fleets: Fleets) -> None:
        fleets.pod("p0", narrator=holding())
        fleets.pod("p1", narrator=holding())
        await begin(fleets, 2)
        await tell(fleets)
        fleets.fleet.follow(KEY, closely=True)
        await fleets.fleet.observe(narrator(), evidence=False)
        fleets.fleet.follow(KEY, closely=False)
        assert [pod.followed for pod in fleets.fleet.pods.values()] == [{KEY}, frozenset()]

    polled(story)


def test_a_pod_that_goes_is_not_waited_for() -> None:
    async def story(fleets: Fleets) -> None:
        fleets.pod("p0", narrator=holding())
        await begin(fleets)
        await tell(fleets)
        fleets.fleet.update([])
        await fleets.fleet.observe(narrator(), evidence=False)
        fleets.pod("p0", narrator=holding())
        await begin(fleets)
        assert not fleets.fleet.pods["p0"].followed

    polled(story)


def test_a_sidecar_that_was_started_again_is_read_closely_while_it_hands_out_what_it_has() -> None:
    async def story(fleets: Fleets) -> None:
        pod = fleets.pod("p0", narrator=loading(RevisionPhase.OFFERING))
        await begin(fleets)
        await fleets.fleet.observe(narrator(), evidence=False)
        assert fleets.fleet.pods["p0"].followed == {KEY}
        fleets.woken.clear()
        pod.put(KEY, loading(RevisionPhase.READY))
        await until(lambda: frozenset({KEY}) in fleets.woken)
        await fleets.fleet.observe(narrator(), evidence=False)
        assert not fleets.fleet.pods["p0"].followed

    polled(story)
