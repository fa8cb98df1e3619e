"""`Canary`: a part of the listeners hears the candidate, and its requests decide.

Every pod of the cohort gets the same word, so that a listener hears one version wherever the request lands. A request
that fails before its first byte is served again by the active revision on the same pod; the failure counts all the
same.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from segue.model.revision import short
from segue.model.spec import Canary, CanaryMode, InsufficientTraffic
from segue.model.status import Phase
from segue.rollout.action import Command
from segue.rollout.back import by_alert, by_person, by_self_revert, by_withdrawal, fail, go_back, guard
from segue.rollout.commands import Word, ensure, mode_of, point, weight_of
from segue.rollout.evidence import CanaryEvidence, canary_evidence, canary_fails, canary_passes, is_known
from segue.rollout.letting_out import commit_flip
from segue.rollout.proof import is_proven
from segue.rollout.snapshot import PodView
from segue.rollout.spread import commandable
from segue.rollout.statistics import rate_allowed_by
from segue.rollout.step import Step, changed_rollout, enter, note
from segue.rollout.tokens import promote_token
from segue.rollout.topping_up import ask_again, top_up
from segue.rollout.view import View, cohort
from segue.wire import BUCKET_S, ProbePhase

LOOK_AGAIN = timedelta(seconds=BUCKET_S)


def canary(view: View) -> Step:
    """Hold the word, gather evidence, judge it."""
    source, stable = view.rollout.source, view.stable
    back = (
        by_person(view, source=source, back_to=stable)
        or by_alert(view)
        or guard(view)
        or _superseded(view)
        or by_self_revert(view, source=source, back_to=stable)
        or by_withdrawal(view, source=source, back_to=stable)
    )
    if back is not None:
        return back
    evidence = _gather(view)
    return (
        _fails(view, evidence)
        or _candidate_lost(view)
        or _promoted(view)
        or _passes(view, evidence)
        or _times_out(view, evidence)
        or _wait(view, evidence)
    )


def _superseded(view: View) -> Step | None:
    """A newer spec. Asked before what pods were told: a crash may have kept the reason of that from being recorded."""
    if view.wanted.revision == view.target:
        return None
    source, message = view.rollout.source, "a newer spec replaces it"
    return go_back(view, source=source, back_to=view.stable, reason="Superseded", message=message, failed=False)


def _gather(view: View) -> CanaryEvidence:
    began = view.status.phase_started_at or view.now
    return canary_evidence(view.pods, view.target, began=began, step_began=_step_began(view))


def _policy(view: View) -> Canary:
    return view.spec.rollout.canary


def _step_began(view: View) -> datetime:
    return view.rollout.step_started_at or view.status.phase_started_at or view.now


def _share(view: View) -> float:
    steps = _policy(view).steps
    return steps[min(view.rollout.step, len(steps) - 1)]


def _listeners(view: View) -> tuple[PodView, ...]:
    """Pods that can take part: the cohort, as far as it serves stable and the candidate is proven there."""
    pods = commandable(cohort(view, view.rollout.started_at))
    return tuple(
        pod
        for pod in pods
        if pod.pointer.active == view.stable_revision
        and pod.has_ready(view.stable_revision)
        and is_proven(view, pod, view.target)
    )


def _woken(view: View) -> tuple[Command, ...]:
    """A canary needs both at hand: where the voice slept, the stable revision is brought up beside the candidate."""
    asleep = [
        pod
        for pod in commandable(cohort(view, view.rollout.started_at))
        if (held := pod.revisions.get(view.stable_revision or "")) is not None and held.rests
    ]
    return ensure(asleep, view.stable) if view.stable is not None else ()


def _candidate_lost(view: View) -> Step | None:
    """Every pod that had the candidate is gone or lost it: load it again, rather than wait for nobody."""
    pods = commandable(cohort(view, view.rollout.started_at))
    if not pods or any(view.target in pod.revisions for pod in pods):
        return None
    text = f"no pod holds {short(view.target)} any more; it is loaded again"
    status = changed_rollout(view.status, started_at=view.now, late=0, progress=0)
    deadline = view.now + view.spec.rollout.progress_deadline
    status = enter(status, Phase.PRELOADING, view.now, deadline=deadline)
    return Step(reason="CandidateLost", message=text, status=status, events=note("CandidateLost", text, warning=True))


def _word(view: View) -> tuple[Command, ...]:
    """The word of this step, where it is not said yet."""
    mode, weight = mode_of(_policy(view).mode), weight_of(_share(view))
    word = Word(active=view.stable_revision, candidate=view.target, mode=mode, weight=weight)
    return (*_woken(view), *point(view, [pod for pod in _listeners(view) if not word.is_on(pod)], word))


def _fails(view: View, evidence: CanaryEvidence) -> Step | None:
    why = canary_fails(evidence, _policy(view))
    return fail(view, "CanaryFailed", why) if why else None


def _promoted(view: View) -> Step | None:
    token = promote_token(view)
    if token is None:
        return None
    return commit_flip(view, f"{short(view.target)} was promoted by segue.dev/promote={token}", token=token)


def _passes(view: View, evidence: CanaryEvidence) -> Step | None:
    if view.spec.rollout.paused or not canary_passes(evidence, _policy(view)):
        return None
    return _next_step(view, f"{evidence.successes} requests in a row succeeded{_bound(evidence.successes)}")


def _bound(successes: int) -> str:
    return f" (an error rate up to {rate_allowed_by(successes):.1%} cannot be ruled out)"


def _next_step(view: View, why: str) -> Step:
    """The next share of the listeners, or all of them."""
    step = view.rollout.step + 1
    if step >= len(_policy(view).steps):
        return commit_flip(view, why)
    share = _policy(view).steps[step]
    status = changed_rollout(view.status, step=step, step_started_at=view.now)
    status = status.model_copy(update={"deadline": view.now + _policy(view).timeout})
    text = f"{why}: {share:.0%} of the listeners next"
    return Step(reason="CanaryStep", message=text, status=status, events=note("CanaryStep", text))


def _times_out(view: View, evidence: CanaryEvidence) -> Step | None:
    """Too few requests in the time given. Evidence that could not be read is not too few: then it waits."""
    policy = _policy(view)
    if view.spec.rollout.paused or view.now < _step_began(view) + policy.timeout or not is_known(view.pods):
        return None
    match policy.insufficient_traffic:
        case InsufficientTraffic.PROCEED:
            return _next_step(view, f"too few requests in the time given ({evidence.total}), which is to proceed")
        case InsufficientTraffic.HOLD:
            return _hold(view, f"{_so_far(view, evidence)}; too few in the time given")
        case InsufficientTraffic.TOP_UP:
            return _top_up(view, evidence)


def _top_up(view: View, evidence: CanaryEvidence) -> Step:
    """Verification sentences make up the rest; their share is said.

    Not mirrored texts: the word has one mode, and leaving Split would take listeners back to the old version and forth
    again at the flip.
    """
    text = f"{_so_far(view, evidence)}; verification sentences make up the rest"
    if not view.rollout.topping_up:
        status = changed_rollout(view.status, topping_up=True)
        return Step(reason="ToppingUp", message=text, status=status, events=note("ToppingUp", text))
    found = top_up(view, _listeners(view), "canary", missing=_policy(view).successes)
    match found.phase:
        case ProbePhase.PASSED:
            spoken = f"{evidence.successes} live requests and {found.sentences} verification sentences succeeded"
            return _next_step(view, spoken)
        case ProbePhase.FAILED:
            return fail(view, "CanaryFailed", f"a top-up sentence failed: {found.message}")
        case ProbePhase.ERROR:
            return ask_again(view, found) or _hold(view, f"{text}, which cannot be spoken: {found.message}")
        case ProbePhase.RUNNING | None:
            commands = (*_word(view), *found.commands)
            return Step(reason="ToppingUp", message=text, commands=commands, again_in=LOOK_AGAIN)


def _hold(view: View, text: str) -> Step:
    message = f"{text}; waits for promote"
    return Step(reason="CanaryHold", message=message, commands=_word(view), again_in=LOOK_AGAIN)


def _wait(view: View, evidence: CanaryEvidence) -> Step:
    paused = view.spec.rollout.paused
    return Step(
        reason="Paused" if paused else "Canary",
        message=_so_far(view, evidence) + ("; rollout.paused is true" if paused else ""),
        commands=_word(view),
        again_in=LOOK_AGAIN,
    )


def _so_far(view: View, evidence: CanaryEvidence) -> str:
    policy = _policy(view)
    copied = "copies of requests" if policy.mode is CanaryMode.MIRROR else "of the listeners"
    return (
        f"{short(view.target)} has {_share(view):.0%} {copied}: {evidence.successes} of {policy.successes} successes "
        f"in a row, {evidence.total.errors} errors, about {evidence.texts:.0f} texts"
    )
