"""From "this should be so on these pods" to the commands that are still missing.

Separate because every phase is level-triggered: it says what it wants each time, and only the difference is sent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from segue.model.spec import CanaryMode as SpecCanaryMode
from segue.model.spec import Consistency as SpecConsistency
from segue.model.status import RevisionSource
from segue.rollout.action import Command, ConfirmWatch, DropRevision, EnsureRevision, RunProbe, SetPointer
from segue.rollout.proof import Claim, Proof, full_provers, is_proven, next_round, proof_on, served_claim
from segue.rollout.snapshot import PodView, PointerView
from segue.rollout.terms import probe_terms
from segue.rollout.view import View, is_resident
from segue.wire import WEIGHT_WHOLE, CanaryMode, Consistency, Expected, ProbeKind, RevisionPhase, WatchTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What the word of a voice should say."""

    active: str | None
    candidate: str | None = None
    mode: CanaryMode = CanaryMode.SPLIT
    weight: int = 0

    def is_on(self, pod: PodView) -> bool:
        """Whether the pod says it already."""
        said = pod.pointer
        if (said.active, said.candidate) != (self.active, self.candidate):
            return False
        return self.candidate is None or (said.mode, said.weight) == (self.mode, self.weight)


def uids(pods: Iterable[PodView]) -> tuple[str, ...]:
    """The pods' uids."""
    return tuple(pod.uid for pod in pods)


def ensure(pods: Iterable[PodView], source: RevisionSource) -> tuple[Command, ...]:
    """Load the revision where it is not loaded, loading, given up or still being let go; where it rests, wake it."""
    lacking = [pod for pod in pods if not _has_or_loads(pod, source.revision)]
    return (EnsureRevision(pods=uids(lacking), source=source),) if lacking else ()


def redirect(
    view: View, pods: Sequence[PodView], source: RevisionSource, *, withdrawn: str | None = None
) -> tuple[Command, ...]:
    """Change whom the next request brings up on pods where nobody hears the voice: tell of it, then point at it."""
    lacking = uids(pod for pod in pods if source.revision not in pod.revisions)
    known = [pod for pod in pods if (loaded := pod.revisions.get(source.revision)) is not None and loaded.rests]
    tell = (EnsureRevision(pods=lacking, source=source, resident=False),) if lacking else ()
    return (*tell, *point(view, known, Word(active=source.revision), withdrawn=withdrawn))


def drop(pods: Iterable[PodView], revision: str) -> tuple[Command, ...]:
    """Let the revision go where it is and nothing points at it."""
    holding = [pod for pod in pods if _can_drop(pod, revision)]
    return (DropRevision(pods=uids(holding), revision=revision),) if holding else ()


def confirm(pods: Iterable[PodView]) -> tuple[Command, ...]:
    """Close the watch where one is open."""
    watched = [pod for pod in pods if pod.watching is not None]
    return (ConfirmWatch(pods=uids(watched)),) if watched else ()


def probe(
    view: View, pods: Sequence[PodView], claim: Claim, kind: ProbeKind, *, baseline: str | None
) -> tuple[Command, ...]:
    """Prove the revision on these pods."""
    if not pods:
        return ()
    terms = probe_terms(view.spec, baseline=baseline, suffix=claim.suffix)
    return (RunProbe(pods=uids(pods), revision=claim.revision, kind=kind, terms=terms, baseline=baseline),)


def point(
    view: View,
    pods: Iterable[PodView],
    word: Word,
    *,
    watch: WatchTerms | None = None,
    at: datetime | None = None,
    withdrawn: str | None = None,
) -> tuple[Command, ...]:
    """Store the word on these pods, each only if its word is still what was seen."""
    groups: dict[PointerView, list[str]] = defaultdict(list)
    for pod in pods:
        groups[pod.pointer].append(pod.uid)
    return tuple(
        SetPointer(
            pods=tuple(group),
            active=word.active,
            candidate=word.candidate,
            mode=word.mode,
            weight=word.weight,
            consistency=consistency_of(view.spec.rollout.consistency),
            expected=Expected(active=seen.active, candidate=seen.candidate),
            at=at,
            watch=watch,
            withdrawn=withdrawn,
        )
        for seen, group in groups.items()
    )


def lead_to(
    view: View, pods: Sequence[PodView], source: RevisionSource, *, watch: WatchTerms | None, previous: str | None
) -> tuple[Command, ...]:
    """Bring stragglers and joiners to a revision that others serve: load it, prove it, then point at it.

    Parameters
    ----------
    previous
        The way back that must be resident first, while a watch is open.
    """
    proven: list[PodView] = []
    unproven: list[PodView] = []
    for pod in pods:
        (proven if is_proven(view, pod, source.revision) else unproven).append(pod)
    commands = [*ensure(pods, source), *_prove_served(view, unproven, source.revision)]
    if previous is not None and (way_back := view.source(previous)) is not None:
        commands += ensure(proven, way_back)
        proven = [pod for pod in proven if pod.has_ready(previous)]
    return (*commands, *point(view, proven, Word(active=source.revision), watch=watch))


def _prove_served(view: View, pods: Sequence[PodView], revision: str) -> tuple[Command, ...]:
    """The next probe of each pod for a revision that others serve."""
    claim = served_claim(revision)
    provers = full_provers(view, pods, claim, first=0)
    commands: list[Command] = []
    for pod in pods:
        proof = proof_on(view, pod, claim, provers=provers)
        asked = claim
        if proof is Proof.ERROR:
            report = pod.revisions[revision].report
            again = next_round(report) if report is not None else None
            if report is None or again is None:
                continue
            asked = replace(claim, round=again)
            proof = Proof.NEEDS_FULL if report.kind is ProbeKind.FULL else Proof.NEEDS_SENTENCE
        if proof is Proof.NEEDS_FULL:
            commands += probe(view, [pod], asked, ProbeKind.FULL, baseline=None)
        elif proof is Proof.NEEDS_SENTENCE:
            commands += probe(view, [pod], asked, ProbeKind.SENTENCE, baseline=None)
    return tuple(commands)


def serve_stable(view: View) -> tuple[Command, ...]:
    """Pods that serve something else than the stable revision, or nothing, are led to it: a sidecar that lost its
    memory in mid-rollout must not leave its listeners without a voice until the rollout is over.
    """
    stable = view.stable
    if stable is None:
        return ()
    pods = [pod for pod in view.pods if pod.in_reach and is_resident(view, pod)]
    return lead_to(
        view, [pod for pod in pods if pod.pointer.active != stable.revision], stable, watch=None, previous=None
    )


def weight_of(share: float) -> int:
    """Basis points of a share."""
    return round(share * WEIGHT_WHOLE)


def mode_of(mode: SpecCanaryMode) -> CanaryMode:
    """The word's mode for the spec's."""
    return CanaryMode.MIRROR if mode is SpecCanaryMode.MIRROR else CanaryMode.SPLIT


def consistency_of(consistency: SpecConsistency) -> Consistency:
    """The wire's name for the spec's."""
    return Consistency(consistency.value)


def _has_or_loads(pod: PodView, revision: str) -> bool:
    loaded = pod.revisions.get(revision)
    return loaded is not None and not loaded.rests


def _can_drop(pod: PodView, revision: str) -> bool:
    view = pod.revisions.get(revision)
    if view is None or view.phase is RevisionPhase.RETIRING:
        return False
    in_word = revision in (pod.pointer.active, pod.pointer.candidate, pod.armed)
    return not in_word and (pod.watching is None or revision not in pod.watching)
