"""`Watching`: everybody hears the new revision, and the old one is a store away.

The watch ends by a clean stretch of live requests, not by the clock alone: it is extended while requests fail, and for
at most an hour. Joining and late pods follow meanwhile, with the way back resident first.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from segue.model.revision import short
from segue.model.scalars import format_duration
from segue.model.spec import InsufficientTraffic
from segue.model.status import HISTORY_KEPT, ConditionStatus, HistoryEntry, Phase, Status
from segue.rollout.action import Command
from segue.rollout.back import by_evidence, by_person, by_self_revert, by_withdrawal, doubt, fail
from segue.rollout.commands import Word, confirm, lead_to
from segue.rollout.conditions import set_condition
from segue.rollout.evidence import is_known, recent
from segue.rollout.proof import new_records, served_claim
from segue.rollout.snapshot import PodView, Verdict
from segue.rollout.spread import commandable, reachable
from segue.rollout.step import Step, handled, note
from segue.rollout.terms import watch_terms
from segue.rollout.tokens import promote_token
from segue.rollout.topping_up import ask_again, top_up
from segue.rollout.view import View, is_resident
from segue.wire import BUCKET_S, ProbePhase

LOOK_AGAIN = timedelta(seconds=BUCKET_S)
LONGEST_EXTENSION = timedelta(hours=1)


def watch(view: View) -> Step:
    """Judge, follow, confirm."""
    source, stable = view.rollout.source, view.stable
    back = (
        by_person(view, source=source, back_to=stable)
        or by_self_revert(view, source=source, back_to=stable)
        or by_evidence(view, source=source, back_to=stable)
        or by_withdrawal(view, source=source, back_to=stable)
    )
    if back is not None:
        return back
    step = _confirmed_by_person(view) or _not_needed(view) or _record(view) or _judge(view)
    stays = step.status is None or step.status.phase is Phase.WATCHING
    return step.also(_follow(view)) if stays else step


def _confirmed_by_person(view: View) -> Step | None:
    token = promote_token(view)
    if token is None:
        return None
    why = f"was promoted by segue.dev/promote={token}"
    return _confirm(view, why, watched=ConditionStatus.TRUE, status=handled(view.status, promote=token))


def _not_needed(view: View) -> Step | None:
    """A first revision has nothing to go back to: a newer spec does not wait for its watch."""
    if view.stable is not None or view.wanted.revision == view.target:
        return None
    return _confirm(view, "is the first one, and a newer spec waits", watched=ConditionStatus.UNKNOWN)


def _record(view: View) -> Step | None:
    """Remember what joining pods of another class verified in full: their siblings need a sentence only."""
    recorded = new_records(view, view.pods, served_claim(view.target))
    if recorded is None:
        return None
    return Step(reason="Watching", message="another class of pods has verified it", status=recorded)


def _judge(view: View) -> Step:
    over_in = _ends_at(view) - view.now
    if over_in > timedelta(0):
        return _wait(view, "Watching", f"watched for another {format_duration(over_in)}", again_in=over_in)
    tally = recent(view.pods, view.target, policy=view.spec.watch, now=view.now)
    if -over_in >= LONGEST_EXTENSION:
        why = f"was watched an hour longer than asked, without a clear answer: {tally}"
        return _confirm(view, why, watched=ConditionStatus.UNKNOWN)
    if not is_known(view.pods):
        return _wait(view, "WatchExtended", "requests could not be read from any pod")
    if doubt(view, view.target, previous=view.stable_revision) is not None:
        return _wait(view, "WatchExtended", f"is extended: {tally}")
    if tally.requests >= view.spec.watch.min_requests:
        if tally.rate <= view.spec.watch.max_error_rate:
            return _did_well(view, f"did well in its watch: {tally}")
        return _wait(view, "WatchExtended", f"is extended until {_stretch(view)} are clean: {tally}")
    if tally.errors:
        return _wait(view, "WatchExtended", f"is extended until {_stretch(view)} are clean: {tally}")
    return _quiet(view, tally.requests)


def _stretch(view: View) -> str:
    return f"the last {format_duration(view.spec.watch.sustained_for)}"


def _ends_at(view: View) -> datetime:
    began = view.rollout.flipped_at or view.status.phase_started_at or view.now
    return began + view.spec.watch.duration


def _quiet(view: View, requests: int) -> Step:
    """Nobody asked for the voice often enough to judge by."""
    few = f"{requests} of {view.spec.watch.min_requests} requests in {_stretch(view)}"
    match view.spec.watch.insufficient_traffic:
        case InsufficientTraffic.PROCEED:
            return _confirm(view, f"is confirmed on {few}, which is to proceed", watched=ConditionStatus.UNKNOWN)
        case InsufficientTraffic.HOLD:
            return _wait(view, "WatchHold", f"{few}: waits for requests or promote, at most an hour")
        case InsufficientTraffic.TOP_UP:
            return _top_up(view, few, missing=view.spec.watch.min_requests - requests)


def _top_up(view: View, few: str, *, missing: int) -> Step:
    at_hand = (pod for pod in commandable(view.pods) if pod.has_ready(view.target))
    serving = tuple(pod for pod in at_hand if pod.pointer.active == view.target)
    found = top_up(view, serving, "watch", missing=missing)
    match found.phase:
        case ProbePhase.PASSED:
            return _did_well(
                view, f"did well in its watch: {few}, {found.sentences} verification sentences beside them"
            )
        case ProbePhase.FAILED if view.stable is not None:
            return fail(view, "WatchFailed", f"a verification sentence failed in the watch: {found.message}")
        case ProbePhase.ERROR:
            again = ask_again(view, found)
            return again or _wait(view, "WatchExtended", f"{few}, and sentences cannot be spoken: {found.message}")
        case _:
            message = f"{few}: verification sentences make up the rest"
            return _wait(view, "ToppingUp", message).also(found.commands)


def _wait(view: View, reason: str, message: str, *, again_in: timedelta = LOOK_AGAIN) -> Step:
    if view.wanted.revision != view.target:
        reason, message = "WatchOpen", f"a newer spec waits for the end of the watch (or promote): {message}"
    message += _unanswered(view)
    found = doubt(view, view.target, previous=view.stable_revision)
    if found is None:
        return Step(reason=reason, message=f"{short(view.target)} {message}", again_in=min(again_in, LOOK_AGAIN))
    text = f"{short(view.target)}: {found.message}"
    is_news = view.status.reason != found.reason
    return Step(
        reason=found.reason,
        message=f"{text}; {message}",
        events=note(found.reason, text, warning=True) if is_news else (),
        again_in=LOOK_AGAIN,
    )


def _did_well(view: View, why: str) -> Step:
    """Confirmed, and said to be watched only if every query had an answer."""
    watched = ConditionStatus.UNKNOWN if _unanswered(view) else ConditionStatus.TRUE
    return _confirm(view, why, watched=watched)


def _unanswered(view: View) -> str:
    """Queries that say neither yes nor no, as the end of a sentence."""
    unclear = [query for query in view.snapshot.queries if query.verdict is Verdict.INCONCLUSIVE]
    return "".join(f"; query {query.name} is inconclusive: {query.message}" for query in unclear)


def _confirm(view: View, why: str, *, watched: ConditionStatus, status: Status | None = None) -> Step:
    """The target is the stable revision from now on; the one before stays warm."""
    source = view.rollout.source
    entry = HistoryEntry(
        revision=source.revision,
        weights=source.weights,
        reference=source.reference,
        options=source.options,
        since=view.now,
    )
    status = status or view.status
    older = tuple(each for each in status.history if each.revision != source.revision)
    forgiven = tuple(each for each in status.failed_revisions if each.revision != source.revision)
    text = f"{short(source.revision)} {why}{_unanswered(view)}"
    status = status.model_copy(
        update={
            "phase": Phase.IDLE,
            "phase_started_at": view.now,
            "deadline": None,
            "rollout": None,
            "target_revision": None,
            "active_revision": source.revision,
            "stable_revision": source.revision,
            "history": (entry, *older)[:HISTORY_KEPT],
            "failed_revisions": forgiven,
            "conditions": set_condition(view, status, "Watched", watched, "WatchClosed", text),
        }
    )
    serving = [pod for pod in view.pods if pod.pointer.active == source.revision]
    return Step(
        reason="Promoted", message=text, status=status, commands=confirm(serving), events=note("Promoted", text)
    )


def _follow(view: View) -> tuple[Command, ...]:
    """Late and joining pods come after, with the way back resident first."""
    word = Word(active=view.target)
    behind: list[PodView] = [pod for pod in reachable(view.pods) if is_resident(view, pod) and not word.is_on(pod)]
    watch = watch_terms(view.spec, view.stable_revision)
    return lead_to(view, behind, view.rollout.source, watch=watch, previous=view.stable_revision)
