"""How far has a revision got on its way through the pods?

Separate from the phases because Preloading, Verifying and Flipping all look at the same waves and count the same late
and failed pods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segue.rollout.proof import Claim, Proof, full_provers, proof_on, rollout_claim
from segue.rollout.snapshot import PodView
from segue.rollout.view import View, cohort, wave_sizes
from segue.wire import ProbeReport, RevisionPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How far the revision has got.

    Attributes
    ----------
    pods
        The cohort in the order of its waves.
    proofs
        By uid. A pod out of reach has none (`ABSENT`).
    sizes
        How many pods each wave reaches.
    """

    pods: tuple[PodView, ...]
    proofs: Mapping[str, Proof]
    sizes: tuple[int, ...]
    claim: Claim

    def reach(self, wave: int) -> tuple[PodView, ...]:
        """Pods of the waves up to and including this one."""
        return self.pods[: self.sizes[wave]]

    def in_state(self, pods: Sequence[PodView], *states: Proof) -> tuple[PodView, ...]:
        """Those of the pods that stand so."""
        return tuple(pod for pod in pods if self.proofs[pod.uid] in states)


def survey(view: View) -> Spread:
    """See how far the revision has got."""
    pods = cohort(view, view.rollout.started_at)
    claim = rollout_claim(view)
    sizes = wave_sizes(view, len(pods))
    provers = full_provers(view, pods, claim, first=sizes[0] if pods else 0)
    proofs = {pod.uid: proof_on(view, pod, claim, provers=provers) if _answers(pod) else Proof.ABSENT for pod in pods}
    return Spread(pods=pods, proofs=proofs, sizes=sizes, claim=claim)


def failed_pods(spread: Spread) -> tuple[PodView, ...]:
    """Pods that gave the revision up."""
    return spread.in_state(spread.pods, Proof.POD_FAILED)


def allowed_failures(view: View, total: int) -> int:
    """How many pods may fail or be late."""
    return view.spec.rollout.max_failed_pods.at_most(total)


def unloaded(spread: Spread, pods: Sequence[PodView], revision: str) -> tuple[PodView, ...]:
    """Pods that neither have the revision ready nor gave it up."""
    return tuple(
        pod
        for pod in pods
        if spread.proofs[pod.uid] is not Proof.POD_FAILED and not (_answers(pod) and pod.has_ready(revision))
    )


def unproven(spread: Spread, pods: Sequence[PodView]) -> tuple[PodView, ...]:
    """Pods where it is neither proven nor given up."""
    return tuple(pod for pod in pods if spread.proofs[pod.uid] not in (Proof.PROVEN, Proof.POD_FAILED))


def current_wave(view: View, spread: Spread) -> int:
    """The first wave that still waits for pods; the number of waves when none does."""
    for wave in range(len(spread.sizes)):
        if len(unproven(spread, spread.reach(wave))) > view.rollout.late:
            return wave
    return len(spread.sizes)


def commandable(pods: Sequence[PodView]) -> tuple[PodView, ...]:
    """Pods that can be told something now."""
    return tuple(pod for pod in pods if _answers(pod))


def reachable(pods: Sequence[PodView]) -> tuple[PodView, ...]:
    """Pods that can be led to what is served before anybody is sent to them, too."""
    return tuple(pod for pod in pods if pod.in_reach)


def queued(pods: Sequence[PodView], revision: str) -> str | None:
    """What a pod has no room or no turn for, with its figures; None when no pod queues."""
    for pod in pods:
        loading = pod.revisions.get(revision)
        if loading is not None and loading.phase is RevisionPhase.QUEUED:
            return f"pod {pod.name} queues it ({loading.reason or 'no reason given'}): {loading.message}"
    return None


def details(pods: Sequence[PodView], revision: str) -> str:
    """What the first pod that is not done is doing."""
    for pod in pods:
        if not _answers(pod):
            return f"pod {pod.name} is not ready or out of reach"
        loading = pod.revisions.get(revision)
        if loading is None:
            return f"pod {pod.name} is asked"
        if not loading.ready:
            return f"pod {pod.name}: {loading.phase} {loading.fraction:.0%} {loading.message}".rstrip()
        report = loading.report
        if report is not None and report.done < report.total:
            return f"pod {pod.name}: {report.done} of {report.total} sentences"
    return "all of them answered"


def drift(view: View, spread: Spread) -> str:
    """How the revision differs from the active one, where that is over a limit; empty when it does not."""
    found = [
        record.drift
        for record in view.status.verifications
        if record.revision == view.target and record.key == spread.claim.key and record.drift
    ]
    return found[0] if found else ""


def reasons(report: ProbeReport | None) -> str:
    """Why a probe failed."""
    return "; ".join(report.reasons) if report is not None and report.reasons else "no reason given"


def _answers(pod: PodView) -> bool:
    return pod.in_reach and pod.ready
