"""`Idle`: nothing is rolled out. Keep pods on the stable revision, guard it, and begin what the spec asks for.

A revision that failed is not begun again without another policy or a retry token; everything else waits only for what
it says: pause, window, slot, pods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from segue.model.revision import short
from segue.model.status import FailedRevision, HistoryEntry, Phase, RolloutStatus
from segue.model.window import is_open, next_opening
from segue.rollout.action import Command, EnsureRevision
from segue.rollout.back import doubt, go_back, guard, nothing_to_go_back_to
from segue.rollout.commands import Word, confirm, drop, lead_to, point, redirect, uids
from segue.rollout.proof import new_records, served_claim
from segue.rollout.snapshot import PodView, RevisionView
from segue.rollout.spread import reachable
from segue.rollout.step import Step, enter, handled, note
from segue.rollout.terms import failure_key
from segue.rollout.tokens import retry_token, rollback_token
from segue.rollout.view import View, is_redirectable, is_resident
from segue.wire import Tier

LOOK_AGAIN = timedelta(seconds=60)
FOLLOWING = timedelta(seconds=2)
"""How often pods on their way to the stable revision are looked at."""


def idle(view: View) -> Step:
    """Guard, tidy up, begin."""
    back = _back_by_person(view) or guard(view)
    if back is not None:
        return back
    step = _record(view) or _begin(view) or _steady(view)
    step = step.also(_tidy(view))
    return replace(step, again_in=FOLLOWING) if _behind(view) or _asleep_behind(view) else step


def _back_by_person(view: View) -> Step | None:
    token = rollback_token(view)
    if token is None:
        return None
    status = handled(view.status, rollback=token)
    history = view.status.history
    if len(history) < 2:
        return nothing_to_go_back_to(view, token)
    message = f"asked for by segue.dev/rollback={token}"
    return go_back(
        view,
        source=history[0],
        back_to=history[1],
        reason="ManualRollback",
        message=message,
        failed=True,
        status=status,
    )


def _record(view: View) -> Step | None:
    if view.stable is None:
        return None
    recorded = new_records(view, view.pods, served_claim(view.stable.revision))
    if recorded is None:
        return None
    return Step(reason="Verified", message="another class of pods has verified the stable revision", status=recorded)


def _begin(view: View) -> Step | None:
    """Why the wanted revision does not begin yet, or its beginning; None when it is served already."""
    if view.wanted.revision == view.stable_revision:
        return None
    failure = view.failure
    if failure is not None and retry_token(view) is None:
        return _stalled(view, failure)
    return _held_up(view) or _start(view, failure)


def _stalled(view: View, failure: FailedRevision) -> Step:
    text = (
        f"{short(failure.revision)} failed and is not tried again: {failure.message}; "
        "change the spec, or set segue.dev/retry to a new value"
    )
    return Step(reason="RolledBack", message=text, again_in=LOOK_AGAIN)


def _held_up(view: View) -> Step | None:
    """What the start waits for."""
    wanted = short(view.wanted.revision)
    if view.spec.rollout.paused:
        return Step(reason="Paused", message=f"{wanted} waits: rollout.paused is true")
    if not any(pod.ready for pod in view.pods):
        return Step(reason="NoPods", message=f"{wanted} waits for a ready pod in fleet {view.spec.fleet}")
    if (dirty := _dirty(view)) is not None:
        return Step(reason="Clearing", message=f"{wanted} waits for pod {dirty.name} to let go of an earlier attempt")
    window = view.spec.rollout.preload_window
    if view.stable is not None and window is not None and not is_open(window, view.now):
        opening = next_opening(window, view.now)
        text = f"{wanted} waits for preloadWindow, which opens {opening or 'never'}"
        return Step(reason="WindowClosed", message=text, again_in=opening - view.now if opening else None)
    slots = view.snapshot.slots
    if slots.taken >= slots.limit:
        text = (
            f"{wanted} waits: {slots.taken} of {slots.limit} rollouts of the fleet are open, {slots.ahead} wait longer"
        )
        return Step(reason="Queued", message=text)
    return None


def _dirty(view: View) -> PodView | None:
    """A pod that still holds a failed copy or a mark of an earlier attempt, which would be taken for this one's."""
    revision = view.wanted.revision
    for pod in view.pods:
        lingering = pod.revisions.get(revision)
        if lingering is not None and not lingering.ready and not lingering.rests:
            return pod
        if pod.withdrawn == revision or (pod.self_reverted and pod.self_reverted.from_revision == revision):
            return pod
    return None


def _start(view: View, failure: FailedRevision | None) -> Step:
    revision = view.wanted.revision
    status = view.status
    token = retry_token(view)
    if failure is not None and token is not None:
        kept = tuple(each for each in status.failed_revisions if each is not failure)
        status = handled(status.model_copy(update={"failed_revisions": kept}), retry=token)
    rollout = RolloutStatus(source=view.wanted, key=failure_key(view.spec, revision), started_at=view.now)
    status = enter(
        status,
        Phase.PRELOADING,
        view.now,
        rollout=rollout,
        target_revision=revision,
        attempt=status.attempt + 1,
        deadline=view.now + view.spec.rollout.progress_deadline,
    )
    text = f"{short(revision)} is to replace {short(view.stable_revision)}"
    return Step(reason="Preloading", message=text, status=status, events=note("Preloading", text))


def _steady(view: View) -> Step:
    stable = view.stable
    if stable is None:
        return Step(reason="NoRevision", message="no revision is served")
    found = doubt(view, stable.revision, previous=view.previous.revision if view.previous else None)
    if found is not None:
        text = f"{short(stable.revision)}: {found.message}"
        is_news = view.status.reason != found.reason
        events = note(found.reason, text, warning=True) if is_news else ()
        return Step(reason=found.reason, message=text, events=events, again_in=LOOK_AGAIN)
    return Step(reason="Serving", message=f"serves {short(stable.revision)}", again_in=LOOK_AGAIN)


def _tidy(view: View) -> tuple[Command, ...]:
    """Stragglers follow, watches are closed, what nobody needs is let go."""
    return (*_follow(view), *_clear_marks(view), *_let_go(view))


def _follow(view: View) -> tuple[Command, ...]:
    stable = view.stable
    if stable is None:
        return ()
    led = lead_to(view, _behind(view), stable, watch=None, previous=None)
    watched = confirm(pod for pod in view.pods if pod.pointer.active == stable.revision)
    return (*led, *redirect(view, _asleep_behind(view), stable), *watched, *_move(view, stable))


def _asleep_behind(view: View) -> Sequence[PodView]:
    """Pods whose next request would bring up something else than the stable revision, or nothing."""
    word = Word(active=view.stable_revision)
    return [pod for pod in reachable(view.pods) if is_redirectable(view, pod) and not word.is_on(pod)]


def _move(view: View, stable: HistoryEntry) -> tuple[Command, ...]:
    """Pods that keep the voice in another tier than the spec says: that makes no revision, so no rollout tells them."""
    tier = Tier(view.spec.residency.tier.value)
    moved = [
        pod
        for pod in view.pods
        if (held := pod.revisions.get(stable.revision)) is not None and _lives_elsewhere(held, tier)
    ]
    return (EnsureRevision(pods=uids(moved), source=stable, resident=tier is Tier.HOT),) if moved else ()


def _lives_elsewhere(held: RevisionView, tier: Tier) -> bool:
    return held.tier is not None and (held.tier is not tier or (tier is Tier.HOT and held.rests))


def _behind(view: View) -> Sequence[PodView]:
    """Pods that do not serve the stable revision, or not it alone; those that have just begun among them."""
    word = Word(active=view.stable_revision)
    pods = reachable(view.pods) if view.stable is not None else ()
    return [pod for pod in pods if is_resident(view, pod) and not word.is_on(pod)]


def _clear_marks(view: View) -> tuple[Command, ...]:
    """Marks of a rollback that is over would end the next attempt; a pointer command takes them off."""
    stable = view.stable
    if stable is None:
        return ()
    word = Word(active=stable.revision)
    marked = [pod for pod in view.pods if word.is_on(pod) and (pod.withdrawn or pod.self_reverted or pod.armed)]
    return point(view, marked, word)


def _let_go(view: View) -> tuple[Command, ...]:
    keep = {entry.revision for entry in (view.stable, view.previous) if entry is not None}
    held = {revision for pod in view.pods for revision in pod.revisions}
    return tuple(command for revision in sorted(held - keep) for command in drop(view.pods, revision))
