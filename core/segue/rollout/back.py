"""Reasons to go back, and the first step of going back.

Separate from the phases because a person's rollback, a spec that returned to stable, a pod that reverted itself, an
alert or the error rate count in several of them. The first step commands the pods before anything is written: flipping
back waits for no API server. The phase `RollingBack` itself is in `rolling_back.py`.
"""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from segue.model.revision import short
from segue.model.status import FAILURES_KEPT, FailedRevision, Phase, RevisionSource, Status
from segue.rollout.action import Command, Event
from segue.rollout.commands import Word, ensure, point, redirect
from segue.rollout.evidence import Trip, find_trip
from segue.rollout.needs import settled_at
from segue.rollout.snapshot import Alert, PodView, Verdict
from segue.rollout.step import Step, enter, handled, note, withdrawal
from segue.rollout.terms import failure_key
from segue.rollout.tokens import rollback_token
from segue.rollout.view import View, is_redirectable


def go_back(
    view: View,
    *,
    source: RevisionSource,
    back_to: RevisionSource | None,
    reason: str,
    message: str,
    failed: bool,
    status: Status | None = None,
) -> Step:
    """Withdraw a revision: pods first, the record of it in the same action, the spec later.

    Parameters
    ----------
    failed
        Whether the revision is remembered as failed; a superseded one is not.
    status
        The status to go on from, with tokens that led here marked as handled.
    """
    bad, good = source.revision, back_to.revision if back_to else None
    record = withdrawal(back_from=bad, back_to=good, reason=reason, message=message, failed=failed, now=view.now)
    changed = enter(
        status or view.status,
        Phase.ROLLING_BACK,
        view.now,
        rollback=record,
        rollout=None,
        target_revision=bad,
        active_revision=good,
        deadline=view.now + view.spec.rollout.progress_deadline,
    )
    if failed:
        changed = remember_failure(view, changed, source, reason=reason, message=message)
    text = f"{short(bad)} is taken back to {short(good)}: {message}"
    return Step(
        reason=reason,
        message=text,
        commands=back_commands(view, bad=bad, good=back_to),
        status=changed,
        events=(Event(reason="RollingBack", message=text, warning=failed),),
    )


def fail(view: View, reason: str, message: str) -> Step:
    """The open rollout's revision goes back for its own fault."""
    return go_back(view, source=view.rollout.source, back_to=view.stable, reason=reason, message=message, failed=True)


def back_commands(view: View, *, bad: str, good: RevisionSource | None) -> tuple[Command, ...]:
    """What still has to be done on the pods so that nobody hears the withdrawn revision."""
    if good is None:
        return ()
    affected = [pod for pod in view.pods if needs_way_back(pod, bad=bad, good=good.revision)]
    able = [pod for pod in affected if pod.has_ready(good.revision)]
    asleep = [pod for pod in affected if is_redirectable(view, pod)]
    lost = [pod for pod in affected if not pod.has_ready(good.revision) and pod not in asleep]
    redirected = redirect(view, asleep, good, withdrawn=bad)
    return (*point(view, able, Word(active=good.revision), withdrawn=bad), *redirected, *ensure(lost, good))


def needs_way_back(pod: PodView, *, bad: str, good: str) -> bool:
    """Whether a pod still serves, tries, awaits or has by itself withdrawn a revision that is taken back."""
    named = bad in (pod.pointer.active, pod.pointer.candidate, pod.armed)
    return named or pod.self_reverted is not None or (pod.watching is not None and pod.pointer.active == good)


def remember_failure(view: View, status: Status, source: RevisionSource, *, reason: str, message: str) -> Status:
    """The status with the failure in its memory, latest first, one entry a key."""
    key = failure_key(view.spec, source.revision)
    reverted = next((each.reverting for each in status.failed_revisions if each.revision == source.revision), None)
    entry = FailedRevision(
        revision=source.revision,
        weights=source.weights,
        reference=source.reference,
        options=source.options,
        key=key,
        reason=reason,
        message=message,
        at=view.now,
        reverting=reverted,
    )
    others = tuple(each for each in status.failed_revisions if each.key != key)
    return status.model_copy(update={"failed_revisions": (entry, *others)[:FAILURES_KEPT]})


def by_person(view: View, *, source: RevisionSource, back_to: RevisionSource | None) -> Step | None:
    """A rollback token, or a spec that says the stable revision again."""
    token = rollback_token(view)
    if token is not None and back_to is None and view.status.phase in (Phase.FLIPPING, Phase.WATCHING):
        return nothing_to_go_back_to(view, token)
    if token is not None:
        return go_back(
            view,
            source=source,
            back_to=back_to,
            reason="ManualRollback",
            message=f"asked for by segue.dev/rollback={token}",
            failed=True,
            status=handled(view.status, rollback=token),
        )
    if back_to is not None and view.wanted.revision == back_to.revision != source.revision:
        message = "the spec says the stable revision again"
        return go_back(view, source=source, back_to=back_to, reason="SpecReverted", message=message, failed=False)
    return None


def nothing_to_go_back_to(view: View, token: str) -> Step:
    """A rollback that would leave listeners without a voice is refused; the token is used up."""
    text = f"segue.dev/rollback={token} does nothing: there is no earlier revision"
    status = handled(view.status, rollback=token)
    return Step(reason="NothingToGoBackTo", message=text, status=status, events=note("TokenUnused", text, warning=True))


def by_self_revert(view: View, *, source: RevisionSource, back_to: RevisionSource | None) -> Step | None:
    """A pod that went back by itself. Told before the same figures are judged here: it is what listeners heard."""
    if back_to is None:
        return None
    for pod in view.pods:
        reverted = pod.self_reverted
        if reverted is not None and reverted.from_revision == source.revision:
            message = f"pod {pod.name} went back by itself while the operator was out of reach: {reverted.message}"
            return go_back(view, source=source, back_to=back_to, reason="SelfReverted", message=message, failed=True)
    return None


def by_withdrawal(view: View, *, source: RevisionSource, back_to: RevisionSource | None) -> Step | None:
    """A pod that an earlier leader took back before it could write so. What led to it is told first, if it is known."""
    if back_to is None:
        return None
    for pod in view.pods:
        if pod.withdrawn == source.revision and pod.pointer.active != source.revision:
            message = f"pod {pod.name} was told to go back before this was recorded"
            return go_back(view, source=source, back_to=back_to, reason="Withdrawn", message=message, failed=True)
    return None


def by_evidence(view: View, *, source: RevisionSource, back_to: RevisionSource | None) -> Step | None:
    """An alert, a query or the error rate. Without a way back they only report (see `doubt`)."""
    if back_to is None:
        return None
    found = external_trip(view) or live_trip(view, source.revision, previous=back_to.revision)
    if found is None or not found.blamed:
        return None
    return go_back(view, source=source, back_to=back_to, reason=found.reason, message=found.message, failed=True)


def by_alert(view: View) -> Step | None:
    """What came up while a candidate is tried out is held against the candidate, not against what was there before."""
    found = external_trip(view)
    return None if found is None else fail(view, found.reason, found.message)


def guard(view: View) -> Step | None:
    """After its watch the stable revision stays under the same rule while the one before it is warm.

    Also while the next one is being prepared: that rollout is given up, and begins anew after the way back.
    """
    stable, previous = view.stable, view.previous
    if stable is None or previous is None:
        return None
    return (
        by_self_revert(view, source=stable, back_to=previous)
        or by_evidence(view, source=stable, back_to=previous)
        or by_withdrawal(view, source=stable, back_to=previous)
    )


def doubt(view: View, revision: str, *, previous: str | None) -> Trip | None:
    """A trip that does not lead back: not blamed on the revision, or nothing to go back to."""
    return external_trip(view) or live_trip(view, revision, previous=previous)


def live_trip(view: View, revision: str, *, previous: str | None) -> Trip | None:
    """What the buckets say since the flip."""
    return find_trip(
        view.pods,
        revision,
        previous=previous,
        flipped_at=flipped_at(view),
        policy=view.spec.watch,
        now=view.now,
    )


def external_trip(view: View) -> Trip | None:
    """What alerts and queries say."""
    for query in view.snapshot.queries:
        if query.verdict is Verdict.FAILING:
            return Trip(reason="QueryFailed", message=f"query {query.name}: {query.message}", blamed=True)
    for alert in view.snapshot.alerts:
        if _alert_counts(view, alert):
            return Trip(reason="AlertFiring", message=f"alert {alert.name} fires", blamed=True)
    return None


def flipped_at(view: View) -> datetime:
    """When the revision under watch or guard came to the listeners."""
    rollout, switch = view.status.rollout, view.status.last_switch
    if rollout is not None and view.status.phase in (Phase.FLIPPING, Phase.WATCHING):
        return rollout.flipped_at or view.status.phase_started_at or view.now
    return switch.at if switch is not None else view.now


def _alert_counts(view: View, alert: Alert) -> bool:
    metadata = view.voice.metadata
    labels = (alert.labels.get("segue_namespace"), alert.labels.get("segue_voice"))
    return labels == (metadata.namespace, metadata.name) and alert.starts_at > _blamed_since(view)


def _blamed_since(view: View) -> datetime:
    """Since when an alert may speak about the revision that it would be held against."""
    match view.status.phase:
        case Phase.FLIPPING | Phase.WATCHING:
            return flipped_at(view)
        case Phase.CANARY:
            return view.status.phase_started_at or view.now
        case Phase.IDLE | Phase.PRELOADING | Phase.VERIFYING | Phase.ROLLING_BACK:
            return max(flipped_at(view), settled_at(view.spec, view.status) or flipped_at(view))
        case _:
            assert_never(view.status.phase)
