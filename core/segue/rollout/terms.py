"""What a revision must show, and under which name a verdict is remembered.

Separate because two keys live here that must not be mixed up: the key of the probe terms (a report made under other
terms proves nothing) and the failure key (a revision that failed is tried again only under other terms).
"""

from __future__ import annotations

from segue.model.revision import canonical_hash
from segue.model.spec import VoiceSpec
from segue.wire import ContinuityLimits, ProbeCase, ProbeTerms, WatchTerms

KEY_DIGITS = 16
SEEDS = 3
MAX_SEEDS = 16
BUILT_IN_CASES = 8
"""How many sentences the built-in set has at least: only to choose the seeds of a top-up."""


def failure_key(spec: VoiceSpec, revision: str) -> str:
    """Hash of the revision and of verification, canary and watch."""
    parts = {
        "revision": revision,
        "verification": spec.verification.model_dump(mode="json"),
        "canary": spec.rollout.canary.model_dump(mode="json"),
        "watch": spec.watch.model_dump(mode="json"),
    }
    return canonical_hash(parts)[:KEY_DIGITS]


def probe_terms(spec: VoiceSpec, *, baseline: str | None, suffix: str = "", seeds: int = SEEDS) -> ProbeTerms:
    """The terms of a probe. Without a baseline (first revision) there are no limits of drift.

    Parameters
    ----------
    suffix
        Tells a repeated probe from the one before: a sidecar runs the same key only once.
    """
    limits = _limits(spec) if baseline is not None else ContinuityLimits()
    demand = spec.verification
    key = canonical_hash([demand.model_dump(mode="json"), limits.model_dump(mode="json"), baseline])[:KEY_DIGITS]
    similarity = demand.min_similarity
    return ProbeTerms(
        key=key + suffix,
        cases=tuple(ProbeCase(text=case.text, language=case.language) for case in demand.cases),
        seeds=seeds,
        min_similarity=None if isinstance(similarity, str) else similarity,
        min_pass_ratio=demand.min_pass_ratio,
        max_text_error_rate=demand.max_text_error_rate,
        continuity=limits,
    )


def top_up_seeds(spec: VoiceSpec, missing: int) -> int:
    """Seeds per case so that a probe speaks about `missing` sentences, within what a probe allows."""
    cases = len(spec.verification.cases) or BUILT_IN_CASES
    return max(SEEDS, min(MAX_SEEDS, -(-missing // cases)))


def watch_terms(spec: VoiceSpec, previous: str | None) -> WatchTerms | None:
    """What a pod judges by when the operator is out of reach; None when there is nothing to go back to."""
    if previous is None:
        return None
    return WatchTerms(
        previous=previous,
        max_error_rate=spec.watch.max_error_rate,
        sustained_for_s=spec.watch.sustained_for.total_seconds(),
        min_requests=spec.watch.min_requests,
        min_errors=spec.watch.min_errors,
    )


def _limits(spec: VoiceSpec) -> ContinuityLimits:
    return ContinuityLimits(
        max_loudness_delta_lu=spec.continuity.max_loudness_delta,
        max_pitch_delta_st=spec.continuity.max_pitch_delta,
        max_pace_delta=spec.continuity.max_pace_delta,
    )
