"""`Flipping`: every pod stores active := candidate.

Entered only by a persisted status (the commit point), left only when every pod of the cohort has flipped, or back. Pods
without the revision at hand are late, and follow in the watch.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from segue.model.revision import short
from segue.model.scalars import format_duration
from segue.model.status import LastSwitch, Phase
from segue.rollout.action import Command
from segue.rollout.back import by_evidence, by_person, by_self_revert, by_withdrawal, fail, go_back
from segue.rollout.commands import Word, lead_to, point
from segue.rollout.letting_out import together_lead
from segue.rollout.progress import is_overdue
from segue.rollout.proof import is_proven
from segue.rollout.snapshot import PodView
from segue.rollout.spread import allowed_failures, commandable
from segue.rollout.step import Step, changed_rollout, enter, note
from segue.rollout.terms import watch_terms
from segue.rollout.view import View, cohort

LATE_AFTER = timedelta(seconds=3)
"""A pod refuses a flip that comes more than 2 s after its instant: one second later it is sent without one."""

ARMABLE_BEFORE = timedelta(milliseconds=200)
"""Closer than this to the instant, arming a pod is not worth the risk of missing it."""


def flip(view: View) -> Step:
    """Flip what has not flipped, until all have."""
    source, stable = view.rollout.source, view.stable
    back = (
        by_person(view, source=source, back_to=stable)
        or _superseded(view)
        or by_self_revert(view, source=source, back_to=stable)
        or by_evidence(view, source=source, back_to=stable)
        or by_withdrawal(view, source=source, back_to=stable)
    )
    if back is not None:
        return back
    pods = cohort(view, view.rollout.started_at)
    waiting = [pod for pod in pods if not _has_flipped(view, pod)]
    return (
        _complete(view, pods, waiting)
        or _give_up_late(view, pods, waiting)
        or _choose_instant_again(view, pods)
        or _go_on(view, pods, waiting)
    )


def _superseded(view: View) -> Step | None:
    """A newer spec in mid-flip: all back to stable, then it starts anew."""
    if view.wanted.revision == view.target or view.stable is None:
        return None
    message = "a newer spec replaces it in mid-flip"
    source = view.rollout.source
    return go_back(view, source=source, back_to=view.stable, reason="Superseded", message=message, failed=False)


def _has_flipped(view: View, pod: PodView) -> bool:
    return Word(active=view.target).is_on(pod)


def _complete(view: View, pods: Sequence[PodView], waiting: Sequence[PodView]) -> Step | None:
    if not pods or len(waiting) > view.rollout.late:
        return None
    flipped = len(pods) - len(waiting)
    switch = LastSwitch(from_revision=view.stable_revision, to_revision=view.target, at=view.now, pods=flipped)
    status = changed_rollout(view.status, flipped_at=view.now, flip_at=None, probe_round=0, topping_up=False)
    deadline = view.now + view.spec.watch.duration
    status = enter(status, Phase.WATCHING, view.now, last_switch=switch, deadline=deadline)
    text = f"{flipped} pods serve {short(view.target)}; watched for {format_duration(view.spec.watch.duration)}"
    return Step(reason="Watching", message=text, status=status, events=note("Watching", text))


def _give_up_late(view: View, pods: Sequence[PodView], waiting: Sequence[PodView]) -> Step | None:
    if not is_overdue(view) or not waiting:
        return None
    names = ", ".join(pod.name for pod in waiting[:5])
    text = f"{len(waiting)} of {len(pods)} pods did not flip in time: {names}"
    if len(waiting) > allowed_failures(view, len(pods)) and view.stable is not None:
        return fail(view, "ProgressDeadlineExceeded", text)
    if len(waiting) <= view.rollout.late or len(waiting) == len(pods):
        return None
    status = changed_rollout(view.status, late=len(waiting)).model_copy(update={"deadline": None})
    warning = note("PodsLate", text, warning=True)
    return Step(reason="PodsLate", message=text, status=status, clock_runs=True, events=warning)


def _choose_instant_again(view: View, pods: Sequence[PodView]) -> Step | None:
    """A together flip whose instant passed before anybody was armed (the operator was away)."""
    at = view.rollout.flip_at
    if at is None or view.now < at - ARMABLE_BEFORE:
        return None
    if any(pod.armed == view.target or _has_flipped(view, pod) for pod in pods) or not _able(view, pods):
        return None
    text = f"{short(view.target)} gets another instant to flip at: no pod was armed for the last one"
    status = changed_rollout(view.status, flip_at=view.now + together_lead(view))
    return Step(reason="Flipping", message=text, status=status, clock_runs=True)


def _able(view: View, pods: Sequence[PodView]) -> list[PodView]:
    """Pods that can flip now: the revision is proven there, and the way back is ready."""
    stable = view.stable_revision
    return [
        pod
        for pod in commandable(pods)
        if is_proven(view, pod, view.target)
        and (stable is None or pod.has_ready(stable))
        and not _has_flipped(view, pod)
    ]


def _go_on(view: View, pods: Sequence[PodView], waiting: Sequence[PodView]) -> Step:
    able = _able(view, pods)
    watch, stable = watch_terms(view.spec, view.stable_revision), view.stable_revision
    flippable = {pod.uid for pod in able}
    lost = [pod for pod in commandable(waiting) if pod.uid not in flippable]
    led = lead_to(view, lost, view.rollout.source, watch=watch, previous=stable)
    commands = (*led, *_flip_commands(view, able))
    text = f"flips to {short(view.target)}: {len(pods) - len(waiting)} of {len(pods)} pods"
    return Step(reason="Flipping", message=text, commands=commands, clock_runs=True, again_in=_instant_passes_in(view))


def _flip_commands(view: View, able: Sequence[PodView]) -> tuple[Command, ...]:
    word, watch = Word(active=view.target), watch_terms(view.spec, view.stable_revision)
    at = view.rollout.flip_at
    if at is not None and view.now < at - ARMABLE_BEFORE:
        return point(view, [pod for pod in able if pod.armed != view.target], word, watch=watch, at=at)
    if at is not None and view.now < at + LATE_AFTER:
        able = [pod for pod in able if pod.armed != view.target]
    return point(view, able, word, watch=watch)


def _instant_passes_in(view: View) -> timedelta | None:
    at = view.rollout.flip_at
    if at is None:
        return None
    later = at if view.now < at else at + LATE_AFTER
    return max(timedelta(milliseconds=50), later - view.now + timedelta(milliseconds=50))
