"""Verification sentences that stand in for requests a quiet voice does not get.

Separate because canary and watch both top up, under keys of their own: a sidecar runs one key once, and a report of one
must not pass for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segue.rollout.action import Command, RunProbe
from segue.rollout.proof import PROBE_ROUNDS
from segue.rollout.snapshot import PodView
from segue.rollout.spread import reasons
from segue.rollout.step import Step, changed_rollout, note
from segue.rollout.terms import probe_terms, top_up_seeds
from segue.rollout.view import View
from segue.wire import ProbeKind, ProbePhase, ProbeReport


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp:
    """Where a top-up stands.

    Attributes
    ----------
    phase
        None: nobody was asked yet; then there are commands.
    sentences
        How many were spoken, seeds counted apart.
    """

    phase: ProbePhase | None = None
    sentences: int = 0
    message: str = ""
    commands: tuple[Command, ...] = ()


def top_up(view: View, pods: Sequence[PodView], purpose: str, *, missing: int) -> TopUp:
    """See how the top-up gets on, or ask the first pod for it."""
    terms = probe_terms(view.spec, baseline=None, suffix=_suffix(view, purpose), seeds=top_up_seeds(view.spec, missing))
    for pod in pods:
        report = _report(pod, view.target)
        if report is not None and report.key == terms.key:
            return TopUp(phase=report.phase, sentences=report.total, message=f"pod {pod.name}: {reasons(report)}")
    first = tuple(pod.uid for pod in pods[:1])
    ask = RunProbe(pods=first, revision=view.target, kind=ProbeKind.FULL, terms=terms)
    return TopUp(commands=(ask,) if first else ())


def ask_again(view: View, found: TopUp) -> Step | None:
    """A top-up that could not run is asked for again, a few times; None when it was enough."""
    if view.rollout.probe_round >= PROBE_ROUNDS:
        return None
    text = f"verification sentences could not be spoken and are asked for again: {found.message}"
    status = changed_rollout(view.status, probe_round=view.rollout.probe_round + 1)
    return Step(reason="ProbeError", message=text, status=status, events=note("ProbeError", text, warning=True))


def _suffix(view: View, purpose: str) -> str:
    return f"+{purpose}~{view.rollout.probe_round}"


def _report(pod: PodView, revision: str) -> ProbeReport | None:
    loaded = pod.revisions.get(revision)
    return loaded.report if loaded is not None else None
