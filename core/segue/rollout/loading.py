"""`Preloading` and `Verifying`: the revision reaches the pods and proves itself there, unheard.

Preloading loads the first wave. Verifying proves it there in full, then spreads it wave by wave, one sentence a pod:
nothing is spread before it is proven, and no wave begins before the one before it is well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from segue.model.revision import short
from segue.model.scalars import format_duration
from segue.model.spec import ContinuityAction
from segue.model.status import Phase, VerificationRecord
from segue.rollout.action import Command
from segue.rollout.back import by_person, fail, guard
from segue.rollout.commands import ensure, probe
from segue.rollout.letting_out import let_out
from segue.rollout.progress import is_overdue
from segue.rollout.proof import PROBE_ROUNDS, Proof, new_records
from segue.rollout.snapshot import PodView
from segue.rollout.spread import (
    Spread,
    allowed_failures,
    commandable,
    current_wave,
    details,
    drift,
    failed_pods,
    queued,
    reasons,
    survey,
    unloaded,
    unproven,
)
from segue.rollout.step import Step, changed_rollout, enter, note
from segue.rollout.view import View
from segue.wire import ProbeKind


def preload(view: View) -> Step:
    """`Preloading`: load the first wave."""
    early = _leave_early(view)
    if early is not None:
        return early
    spread = survey(view)
    first = spread.reach(0) if spread.pods else ()
    return (
        _no_pods(spread)
        or _too_many_failed(view, spread, first)
        or _paused(view)
        or _verify_when_loaded(view, spread, first)
        or _give_up_late(view, spread, first, unloaded(spread, first, view.target))
        or _load(view, spread, first)
    )


def verify(view: View) -> Step:
    """`Verifying`: prove it in full on the first wave, then spread it."""
    early = _leave_early(view)
    if early is not None:
        return early
    spread = survey(view)
    if not spread.pods:
        return _no_pods_yet()
    recorded = new_records(view, spread.pods, spread.claim)
    if recorded is not None:
        text = f"{short(view.target)} is verified: {_figures(recorded.verifications[0])}"
        return Step(reason="Verified", message=text, status=recorded, events=note("Verified", text), clock_runs=True)
    wave = current_wave(view, spread)
    reached = spread.reach(min(wave, len(spread.sizes) - 1))
    return (
        _refused(view, spread)
        or _too_many_failed(view, spread, spread.reach(0))
        or _paused(view)
        or _probe_again(view, spread)
        or (let_out(view, spread) if wave == len(spread.sizes) else None)
        or _give_up_late(view, spread, reached, unproven(spread, reached))
        or _prove(view, spread, reached, wave)
    )


def supersede(view: View) -> Step:
    """A newer spec before anybody heard this one: drop the shadow, begin anew from Idle."""
    text = f"{short(view.target)} is replaced by a newer spec before anybody heard it"
    status = enter(view.status, Phase.IDLE, view.now, rollout=None, target_revision=None)
    return Step(reason="Superseded", message=text, status=status, events=note("Superseded", text))


def _leave_early(view: View) -> Step | None:
    back = by_person(view, source=view.rollout.source, back_to=view.stable) or guard(view)
    if back is not None:
        return back
    return supersede(view) if view.wanted.revision != view.target else None


def _no_pods(spread: Spread) -> Step | None:
    return None if spread.pods else _no_pods_yet()


def _no_pods_yet() -> Step:
    return Step(reason="NoPods", message="waits for a ready pod in the fleet")


def _paused(view: View) -> Step | None:
    if not view.spec.rollout.paused:
        return None
    return Step(reason="Paused", message=f"{short(view.target)} waits: rollout.paused is true")


def _refused(view: View, spread: Spread) -> Step | None:
    """One failed full verification is enough: the cases and seeds are the same everywhere."""
    for pod in spread.in_state(spread.pods, Proof.REFUSED):
        why = reasons(pod.revisions[view.target].report)
        return fail(view, "VerificationFailed", f"verification on pod {pod.name} refused it: {why}")
    if view.spec.continuity.action is ContinuityAction.REFUSE and (differs := drift(view, spread)):
        return fail(view, "ContinuityBroken", f"it differs from the active revision: {differs}")
    return None


def _too_many_failed(view: View, spread: Spread, first: Sequence[PodView]) -> Step | None:
    """Over `maxFailedPods`, or nobody left in the first wave to prove it on."""
    failed = failed_pods(spread)
    whole_wave = bool(first) and all(spread.proofs[pod.uid] is Proof.POD_FAILED for pod in first)
    if not whole_wave and len(failed) <= allowed_failures(view, len(spread.pods)):
        return None
    pod = failed[0]
    loaded = pod.revisions[view.target]
    cause = _sentence_failure(pod, view.target) or f"{loaded.reason}: {loaded.message}".strip(": ")
    reason = loaded.reason or "PodsFailed"
    return fail(view, reason, f"{len(failed)} of {len(spread.pods)} pods failed; pod {pod.name}: {cause}")


def _sentence_failure(pod: PodView, revision: str) -> str | None:
    loaded = pod.revisions[revision]
    if loaded.failed or loaded.report is None:
        return None
    return f"the sentence failed: {reasons(loaded.report)}"


def _verify_when_loaded(view: View, spread: Spread, first: Sequence[PodView]) -> Step | None:
    waiting = unloaded(spread, first, view.target)
    if len(waiting) > view.rollout.late:
        return None
    text = f"{short(view.target)} is loaded on the first {len(first)} of {len(spread.pods)} pods"
    status = enter(view.status, Phase.VERIFYING, view.now)
    return Step(reason="Verifying", message=text, status=status, clock_runs=True, events=note("Verifying", text))


def _give_up_late(view: View, spread: Spread, reached: Sequence[PodView], waiting: Sequence[PodView]) -> Step | None:
    """At the deadline: late pods stay on stable, if they are few enough."""
    if not is_overdue(view) or len(waiting) <= view.rollout.late or queued(spread.pods, view.target):
        return None
    lost = len(waiting) + len(spread.in_state(spread.pods, Proof.POD_FAILED))
    names = ", ".join(pod.name for pod in waiting[:5])
    text = f"{len(waiting)} of {len(spread.pods)} pods "
    text += f"made no progress for {format_duration(view.spec.rollout.progress_deadline)}: {names}"
    if lost > allowed_failures(view, len(spread.pods)) or len(waiting) >= len(reached):
        return fail(view, "ProgressDeadlineExceeded", text)
    status = changed_rollout(view.status, late=len(waiting)).model_copy(update={"deadline": None})
    return Step(
        reason="PodsLate", message=text, status=status, clock_runs=True, events=note("PodsLate", text, warning=True)
    )


def _load(view: View, spread: Spread, first: Sequence[PodView]) -> Step:
    commands = ensure(commandable(first), view.rollout.source)
    waits = queued(first, view.target)
    if waits is not None:
        return Step(reason="Queued", message=waits, commands=commands)
    loaded = len(first) - len(unloaded(spread, first, view.target))
    text = f"loads {short(view.target)} on the first wave: {loaded} of {len(first)} pods; {details(first, view.target)}"
    return Step(reason="Loading", message=text, commands=commands, clock_runs=True)


def _prove(view: View, spread: Spread, reached: Sequence[PodView], wave: int) -> Step:
    commands: list[Command] = [*ensure(commandable(reached), view.rollout.source)]
    groups: dict[Proof, list[PodView]] = defaultdict(list)
    for pod in reached:
        groups[spread.proofs[pod.uid]].append(pod)
    baseline = view.stable_revision
    commands += probe(view, groups[Proof.NEEDS_FULL], spread.claim, ProbeKind.FULL, baseline=baseline)
    commands += probe(view, groups[Proof.NEEDS_SENTENCE], spread.claim, ProbeKind.SENTENCE, baseline=baseline)
    waits = queued(reached, view.target)
    if waits is not None:
        return Step(reason="Queued", message=waits, commands=tuple(commands))
    done = len(groups[Proof.PROVEN])
    text = (
        f"verifies {short(view.target)}, wave {min(wave + 1, len(spread.sizes))} of {len(spread.sizes)}: "
        f"{done} of {len(reached)} pods; {details(unproven(spread, reached), view.target)}"
    )
    return Step(reason="Verifying", message=text, commands=tuple(commands), clock_runs=True)


def _probe_again(view: View, spread: Spread) -> Step | None:
    """A probe that could not run says nothing about the revision: ask again, a few times."""
    stuck = spread.in_state(spread.pods, Proof.ERROR)
    if not stuck:
        return None
    why = reasons(stuck[0].revisions[view.target].report)
    if view.rollout.probe_round >= PROBE_ROUNDS:
        return fail(view, "ProbeUnavailable", f"the probe on pod {stuck[0].name} could not run: {why}")
    text = f"the probe on pod {stuck[0].name} could not run and is asked for again: {why}"
    status = changed_rollout(view.status, probe_round=view.rollout.probe_round + 1)
    return Step(
        reason="ProbeError", message=text, status=status, clock_runs=True, events=note("ProbeError", text, warning=True)
    )


def _figures(record: VerificationRecord) -> str:
    similarity = "not measured" if record.similarity is None else f"{record.similarity:.3f}"
    ratio = "not measured" if record.pass_ratio is None else f"{record.pass_ratio:.1%}"
    return f"similarity {similarity}, cases passed {ratio}, on {record.device_class}"
