"""What a pod holds of each voice, kept small: thousands of pods on which a voice stands alike share one object.

Separate because a fleet of 5,000 pods with twenty voices each has 100,000 of these, and a state as it came over the
wire takes several kilobytes.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from segue.rollout.observe import Standing, standing_of
from segue.wire import Fence, VoiceState

NO_FENCE = Fence(0, 0)

_OF_ONE_POD: Any = {
    "fence": True,
    "slot": True,
    "armed_outcome": True,
    "pointer": {"epoch"},
    "revisions": {
        "__all__": {
            "handle": True,
            "since_ns": True,
            "parts": True,
            "progress": {"done_bytes", "total_bytes"},
            "report": {"finished_ns"},
        }
    },
    "watch": {"since_ns", "terms"},
}
"""Fields that say nothing of how the voice stands."""


@dataclass(frozen=True, slots=True)
class Held:
    """One voice on one pod: the highest fence that the pod has seen for it, and how it stands."""

    fence: Fence
    standing: Standing


@dataclass(slots=True)
class Standings:
    """All that are in use, by what they say."""

    _known: WeakValueDictionary[str, Standing] = field(default_factory=WeakValueDictionary)

    def of(self, state: VoiceState) -> Held:
        """The same voice state, in its small form."""
        said = state.model_dump_json(exclude=_OF_ONE_POD)
        standing = self._known.get(said)
        if standing is None:
            standing = self._known[said] = standing_of(state)
        return Held(fence_of(state), standing)


def fence_of(state: VoiceState) -> Fence:
    """The highest fence that the pod has seen for a voice; the lowest there is where it says none."""
    with suppress(ValueError):
        return Fence.parse(state.fence)
    return NO_FENCE


def shared(key: str) -> str:
    """The one copy of a voice's key."""
    return sys.intern(key)
