"""From verified to heard: approval, continuity, the switch window, and the commit point.

Separate from loading because this is the one gate between a revision nobody hears and one that somebody does.
"""

from __future__ import annotations

from datetime import timedelta

from segue.model.revision import short
from segue.model.spec import Approval, CanaryMode, ContinuityAction
from segue.model.status import Phase
from segue.model.window import is_open, next_opening
from segue.rollout.spread import Spread, drift
from segue.rollout.step import Step, changed_rollout, enter, handled, note
from segue.rollout.tokens import promote_token
from segue.rollout.view import View

TOGETHER_LEAD = timedelta(seconds=2)
PODS_ARMED_PER_SECOND = 1000


def let_out(view: View, spread: Spread) -> Step:
    """All pods are ready and proven: approval, continuity and window are asked once, here."""
    token = promote_token(view)
    held = None if view.rollout.approved else _held(view, spread)
    if held is not None and token is not None:
        status = handled(changed_rollout(view.status, approved=True), promote=token)
        text = f"{short(view.target)} was promoted by segue.dev/promote={token}"
        return Step(reason="Approved", message=text, status=status, events=note("Approved", text))
    if held is not None:
        return held
    window = view.spec.rollout.switch_window
    if view.stable is not None and window is not None and not is_open(window, view.now):
        opening = next_opening(window, view.now)
        text = f"{short(view.target)} is verified and waits for switchWindow, which opens {opening or 'never'}"
        return Step(reason="WindowClosed", message=text, again_in=opening - view.now if opening else None)
    return _switch(view)


def _held(view: View, spread: Spread) -> Step | None:
    differs = drift(view, spread)
    if differs and view.spec.continuity.action is ContinuityAction.HOLD:
        text = f"{short(view.target)} differs from the active revision and waits for promote: {differs}"
        return Step(reason="ContinuityHold", message=text)
    if view.spec.rollout.approval is Approval.MANUAL:
        return Step(reason="AwaitingApproval", message=f"{short(view.target)} is verified and waits for promote")
    return None


def _switch(view: View) -> Step:
    """The first listeners: a canary, or at once where there is no choice to make."""
    if view.stable is None or view.spec.rollout.canary.mode is CanaryMode.SKIP:
        return commit_flip(view, f"{short(view.target)} is verified")
    status = changed_rollout(view.status, step=0, step_started_at=view.now, topping_up=False)
    status = enter(status, Phase.CANARY, view.now, deadline=view.now + view.spec.rollout.canary.timeout)
    text = f"{short(view.target)} gets its first listeners"
    return Step(reason="Canary", message=text, status=status, events=note("Canary", text))


def commit_flip(view: View, why: str, *, token: str | None = None) -> Step:
    """The commit point: `Flipping` is persisted alone, before any pod is told."""
    at = view.now + together_lead(view) if view.spec.rollout.together else None
    status = changed_rollout(view.status, flip_at=at)
    if token is not None:
        status = handled(status, promote=token)
    deadline = view.now + view.spec.rollout.progress_deadline
    status = enter(status, Phase.FLIPPING, view.now, active_revision=view.target, deadline=deadline)
    text = f"{why}: every pod is flipped to {short(view.target)}"
    return Step(reason="Flipping", message=text, status=status, clock_runs=True, events=note("Flipping", text))


def together_lead(view: View) -> timedelta:
    """How far ahead a together flip is set, so that every pod can be armed before it."""
    return TOGETHER_LEAD + timedelta(seconds=len(view.pods) / PODS_ARMED_PER_SECOND)
