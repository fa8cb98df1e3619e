"""What all pods share: whom they tell, and how many of them may do something at a time.

Separate because thousands of pods hold one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segue.wire import ArmedOutcome
from segue_operator.fleet.listening import Listener
from segue_operator.fleet.lull import Lull
from segue_operator.fleet.places import Places
from segue_operator.fleet.standings import Standings

if TYPE_CHECKING:
    from segue_operator.fleet.pod import Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """What the pods of a fleet share.

    Attributes
    ----------
    term
        The leader's term now; sent with every read, as contact.
    on_change
        Called with the voices whose state is another one than before; None when the pod came into or fell out of
        reach, or changed as a whole.
    on_held
        Called where a pod begins or ceases to hold a voice.
    on_dropped
        Called where a pod says that it did not carry out an armed flip.
    lull
        Whether commands are on their way.
    reads
        Bounds how many pods are read at a time.
    clocks
        Bounds how many pods are asked for nothing but their clock.
    """

    term: Callable[[], int]
    idle_poll_s: float
    on_change: Callable[[Pod, frozenset[str] | None], None]
    on_held: Callable[[Pod, str], None]
    on_dropped: Callable[[Pod, str, ArmedOutcome], None]
    reads: Places
    lull: Lull
    clocks: Places
    standings: Standings
    listener: Listener
