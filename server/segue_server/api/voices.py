"""Which voice a request means.

Separate because every API asks it, and none of them is the right home for the others.
"""

from __future__ import annotations

from segue.memory.messages import VoiceName
from segue_server.revisions.roster import Roster


def resolve_alias(asked: str, *, namespace: str, roster: Roster, aliases: dict[str, str]) -> str:
    """The voice that `asked` means: a voice of that name, else what the alias stands for."""
    return asked if roster.voice(VoiceName(namespace, asked)) is not None else aliases.get(asked, asked)
