"""Revisions that a pod would not even begin with, remembered for a minute.

Separate because no sidecar keeps what it never took: without this memory a rollout whose source is forbidden would wait
for its deadline, and never say why.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from segue.errors import InvalidCommand
from segue.rollout import PodView
from segue.rollout.snapshot import RevisionView
from segue.wire import RevisionPhase

LASTS_S = 60.0
"""How long a refused revision counts as failed before the sidecar, which may be configured anew, is asked again."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    view: RevisionView
    until_monotonic_s: float


@dataclass(slots=True)
class Refusals:
    """By pod and voice."""

    _known: dict[tuple[str, str], dict[str, _Refusal]] = field(default_factory=dict)

    def note(self, pod: str, voice: str, revision: str, error: InvalidCommand) -> None:
        """A sidecar, or the operator's own configuration, refused to have the revision on the pod."""
        reason, _, message = str(error).partition(": ")
        if not reason.isidentifier():
            reason, message = type(error).__name__, str(error)
        view = RevisionView(revision=revision, phase=RevisionPhase.FAILED, reason=reason, message=message)
        self._known.setdefault((pod, voice), {})[revision] = _Refusal(view, time.monotonic() + LASTS_S)

    def forget(self, pod: str, voice: str, revision: str) -> None:
        """The revision was let go."""
        self._known.get((pod, voice), {}).pop(revision, None)

    def forget_pod(self, pod: str) -> None:
        """The pod is gone."""
        self._known = {key: known for key, known in self._known.items() if key[0] != pod}

    def apply(self, view: PodView, voice: str) -> PodView:
        """The pod's view with what it refused, as failed revisions."""
        refused = self._of(view.uid, voice) if self._known and view.in_reach else {}
        return replace(view, revisions={**refused, **view.revisions}) if refused else view

    def _of(self, pod: str, voice: str) -> Mapping[str, RevisionView]:
        now_s = time.monotonic()
        known = self._known.get((pod, voice), {})
        return {name: each.view for name, each in known.items() if now_s < each.until_monotonic_s}
