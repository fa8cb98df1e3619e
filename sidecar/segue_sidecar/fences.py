"""Whom to obey: the order of all commands of all leaders, voice by voice.

Pure. A leader that was deposed, or a command that was overtaken on its way, carries a lower fence than the highest one
seen for the voice; it is refused and changes nothing. The same fence again is the same command repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

from segue.errors import StaleFence
from segue.wire import Fence

NO_FENCE = Fence(0, 0)


@dataclass(frozen=True, slots=True)
class Command:
    """Who commands: the fence, and which incarnation of the voice is meant."""

    fence: Fence
    voice_uid: str


def require_fresh(command: Command, *, highest: Fence, uid: str | None) -> None:
    """Refuse what was outrun.

    Parameters
    ----------
    highest, uid
        The highest fence seen for the voice and the uid it had; `None` for a voice that is not known.

    Raises
    ------
    StaleFence
        Lower than the highest; or another incarnation of the voice under a fence that is not higher.
    """
    if command.fence < highest:
        raise StaleFence(f"the fence {command.fence} was outrun by {highest}: another leader commands, or this is late")
    if uid is not None and command.voice_uid != uid and command.fence == highest:
        raise StaleFence(
            f"the voice has uid {uid}, the command means {command.voice_uid}: "
            f"a new incarnation needs a fence over {highest}"
        )
