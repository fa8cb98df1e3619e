"""Is a revision proven on a pod, and if not, which probe comes next?

Verification in full runs once per (revision, engine build, device class), on the pods of the first wave; everywhere
else the arena's digest and one sentence do. Separate because rollouts, stragglers and joining pods all need the same
answer, and because this is the rule that keeps the unproven from being flipped to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from segue.model.status import VERIFICATIONS_KEPT, Status, VerificationRecord
from segue.rollout.snapshot import PodView
from segue.rollout.terms import KEY_DIGITS, probe_terms
from segue.rollout.view import View
from segue.wire import ProbeKind, ProbePhase, ProbeReport

PROBE_ROUNDS = 5
"""How often a probe that could not run is asked for again."""


class Proof(StrEnum):
    """Where the proof of one revision on one pod stands."""

    ABSENT = "Absent"  # not loaded: nothing to prove yet
    NEEDS_FULL = "NeedsFull"
    NEEDS_SENTENCE = "NeedsSentence"
    WAITS = "Waits"  # a probe runs, or another pod of the class proves it first
    PROVEN = "Proven"
    REFUSED = "Refused"  # the full verification failed: the revision is bad
    POD_FAILED = "PodFailed"  # the pod could not load it, or failed the sentence that other pods speak
    ERROR = "Error"  # the probe could not run


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What must be proven.

    Attributes
    ----------
    key
        Key of the terms; None: any terms that it once passed (a revision that is already served).
    """

    revision: str
    key: str | None
    round: int = 0

    def covers(self, report: ProbeReport) -> bool:
        """Whether a report is about this claim and this round."""
        if self.key is None:
            return True
        base, _, suffix = report.key.partition("~")
        return base == self.key and (report.phase is not ProbePhase.ERROR or suffix == self.suffix.lstrip("~"))

    @property
    def suffix(self) -> str:
        """Tells the probe of a later round from the one that could not run."""
        return f"~{self.round}" if self.round else ""


def rollout_claim(view: View) -> Claim:
    """What the open rollout must prove."""
    terms = probe_terms(view.spec, baseline=view.stable_revision)
    return Claim(revision=view.target, key=terms.key, round=view.rollout.probe_round)


def served_claim(revision: str) -> Claim:
    """What a pod must prove of a revision that others serve already."""
    return Claim(revision=revision, key=None)


def is_recorded(status: Status, claim: Claim, pod: PodView) -> bool:
    """Whether the revision was verified in full for the pod's engine build and device class."""
    return any(
        each.revision == claim.revision
        and each.engine_build == pod.engine_build
        and each.device_class == pod.device_class
        and (claim.key is None or each.key == claim.key)
        for each in status.verifications
    )


def proof_on(view: View, pod: PodView, claim: Claim, *, provers: frozenset[str]) -> Proof:
    """Where the proof stands on one pod.

    Parameters
    ----------
    provers
        uids of the pods that verify in full where nobody has yet.
    """
    loaded = pod.revisions.get(claim.revision)
    if loaded is None:
        return Proof.ABSENT
    if loaded.failed:
        return Proof.POD_FAILED
    if not loaded.ready:
        return Proof.ABSENT
    report = loaded.report
    recorded = is_recorded(view.status, claim, pod)
    if report is not None and claim.covers(report):
        return _by_report(report, recorded=recorded, prover=pod.uid in provers)
    return _missing(recorded=recorded, prover=pod.uid in provers)


def is_proven(view: View, pod: PodView, revision: str) -> bool:
    """Whether a word on the pod may name the revision: it does already, or the proof is there."""
    if not pod.has_ready(revision):
        return False
    if revision in (pod.pointer.active, pod.pointer.candidate):
        return True  # a probe that runs now (a top-up) does not take back what was proven before
    if pod.watching is not None and pod.watching[0] == revision:
        return True  # the way back of an open watch was served here a moment ago
    return proof_on(view, pod, served_claim(revision), provers=frozenset()) is Proof.PROVEN


def next_round(report: ProbeReport) -> int | None:
    """The round after a probe that could not run; None when it was tried often enough."""
    _, _, suffix = report.key.partition("~")
    tried = int(suffix) if suffix.isdigit() else 0
    return tried + 1 if tried < PROBE_ROUNDS else None


def full_provers(view: View, pods: Iterable[PodView], claim: Claim, *, first: int) -> frozenset[str]:
    """Who verifies in full: the first wave, and the first pod of each other engine build or device class."""
    pods = tuple(pods)
    chosen = {pod.uid for pod in pods[:first]}
    classes = {(pod.engine_build, pod.device_class) for pod in pods[:first]}
    for pod in pods[first:]:
        kind = (pod.engine_build, pod.device_class)
        if kind not in classes and not is_recorded(view.status, claim, pod):
            classes.add(kind)
            chosen.add(pod.uid)
    return frozenset(chosen)


def new_records(view: View, pods: Iterable[PodView], claim: Claim) -> Status | None:
    """The status with full verifications that just passed, None when there is none to add."""
    status = view.status
    for pod in pods:
        loaded = pod.revisions.get(claim.revision)
        report = loaded.report if loaded else None
        if report is None or not _passed_in_full(report) or not claim.covers(report):
            continue
        if not is_recorded(status, claim, pod):
            kept = (_record(view, pod, claim, report), *status.verifications)[:VERIFICATIONS_KEPT]
            status = status.model_copy(update={"verifications": kept})
    return None if status is view.status else status


def _passed_in_full(report: ProbeReport) -> bool:
    return report.kind is ProbeKind.FULL and report.phase is ProbePhase.PASSED


def _by_report(report: ProbeReport, *, recorded: bool, prover: bool) -> Proof:
    full = report.kind is ProbeKind.FULL
    match report.phase:
        case ProbePhase.RUNNING:
            return Proof.WAITS
        case ProbePhase.PASSED:
            return Proof.PROVEN if full or recorded else _missing(recorded=recorded, prover=prover)
        case ProbePhase.FAILED:
            return Proof.REFUSED if full else Proof.POD_FAILED
        case ProbePhase.ERROR:
            return Proof.ERROR


def _missing(*, recorded: bool, prover: bool) -> Proof:
    if recorded:
        return Proof.NEEDS_SENTENCE
    return Proof.NEEDS_FULL if prover else Proof.WAITS


def _record(view: View, pod: PodView, claim: Claim, report: ProbeReport) -> VerificationRecord:
    drift = "; ".join(gate.message or gate.name for gate in report.continuity if gate.passed is False)
    return VerificationRecord(
        revision=claim.revision,
        key=claim.key if claim.key is not None else report.key[:KEY_DIGITS],
        engine_build=pod.engine_build,
        device_class=pod.device_class,
        similarity=report.similarity,
        pass_ratio=report.pass_ratio,
        drift=drift,
        at=view.now,
    )
