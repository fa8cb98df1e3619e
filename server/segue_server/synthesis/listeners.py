"""Which voice a listener spoke with last: who goes from one voice to another is a figure that people ask for.

Separate from admission because it decides nothing. A listener is known by a session or by OpenAI's `user`; an address
stands for a whole company, and is no listener. Only so many are remembered, and each worker remembers its own: what is
counted are switches that one worker saw, never more than there were.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from segue_server.revisions.resident import Resident
from segue_server.revisions.roster import Roster
from segue_server.synthesis.spec import Listener

REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Heard:
    voice: str
    handle: int


class ListenerBook:
    """The last voice of each listener of this worker."""

    def __init__(self, roster: Roster, *, remembered: int = REMEMBERED) -> None:
        """Forgets whom it has not heard of for longest, beyond `remembered`."""
        self._roster = roster
        self._remembered = remembered
        self._heard: OrderedDict[str, _Heard] = OrderedDict()

    def __len__(self) -> int:
        return len(self._heard)

    def note(self, listener: Listener, resident: Resident) -> None:
        """A listener was admitted to a revision; it counts where it spoke with another voice before."""
        name = _name(listener)
        if name is None:
            return
        voice = str(resident.ref.voice)
        before = self._heard.pop(name, None)
        self._heard[name] = _Heard(voice, resident.handle)
        if len(self._heard) > self._remembered:
            self._heard.popitem(last=False)
        if before is not None and before.voice != voice:
            resident.stats.listener_joined()
            left = self._roster.resident(before.handle)
            if left is not None:
                left.stats.listener_left()


def _name(listener: Listener) -> str | None:
    if listener.session:
        return f"session {listener.session}"
    return f"user {listener.user}" if listener.user else None
