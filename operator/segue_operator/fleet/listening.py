"""Who else wants to see what the sidecars say: the board of `segue up`, and the book of verification reports.

Separate from the fleet, which keeps of every answer only what the control loop needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from segue.wire import StateDocument, WindowsDocument


class Listener(Protocol):
    """Told of every answer as it came."""

    def saw_state(self, pod: str, state: StateDocument, *, only: frozenset[str] | None) -> None:
        """A pod's state; where `only` is given, of these voices alone."""
        ...

    def saw_windows(self, pod: str, windows: WindowsDocument) -> None:
        """A voice's evidence on a pod."""
        ...

    def lost(self, pod: str) -> None:
        """The pod is out of reach, or gone."""
        ...


class Nobody:
    """Nobody listens."""

    def saw_state(self, pod: str, state: StateDocument, *, only: frozenset[str] | None) -> None:
        """See `Listener`."""

    def saw_windows(self, pod: str, windows: WindowsDocument) -> None:
        """See `Listener`."""

    def lost(self, pod: str) -> None:
        """See `Listener`."""


@dataclass(slots=True)
class Latest:
    """The latest answers, whole: for a few pods.

    Attributes
    ----------
    on_state
        Called with every state, which may be of some voices only.
    states
        By pod; no pod that is out of reach.
    windows
        By (pod, voice).
    """

    on_state: Callable[[StateDocument], None] = lambda _state: None
    states: dict[str, StateDocument] = field(default_factory=dict)
    windows: dict[tuple[str, str], WindowsDocument] = field(default_factory=dict)

    def saw_state(self, pod: str, state: StateDocument, *, only: frozenset[str] | None) -> None:
        """See `Listener`."""
        known = self.states.get(pod)
        if only is not None and known is not None:
            others = {key: voice for key, voice in known.voices.items() if key not in only}
            state = state.model_copy(update={"voices": {**others, **state.voices}})
        self.states[pod] = state
        self.on_state(state)

    def saw_windows(self, pod: str, windows: WindowsDocument) -> None:
        """See `Listener`."""
        self.windows[pod, windows.voice] = windows

    def lost(self, pod: str) -> None:
        """See `Listener`."""
        self.states.pop(pod, None)
