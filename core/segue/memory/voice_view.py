"""What an engine is given to build from: the mapped parts of a revision, its own and those that all voices share.

Separate because a worker, a prover and a probe must tell the two apart in the same way. Models that an engine shares
travel as parts of every revision that needs them, so that offering, adopting, hashing and letting go know only parts;
their name says what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from segue.engine import VoiceView
from segue.memory.interface import MappedPart

_SHARED: Final = "shared."


def shared_part(model: str) -> str:
    """The name of the part that holds a shared model."""
    return _SHARED + model


def is_shared(part: str) -> bool:
    """Whether a part of this name belongs to no revision of its own."""
    return part.startswith(_SHARED)


def model_of(part: str) -> str:
    """The model that a shared part holds."""
    return part.removeprefix(_SHARED)


def voice_view(parts: Iterable[MappedPart], *, options: Mapping[str, Any]) -> VoiceView:
    """See mapped parts as `Engine.build` takes them."""
    views = {part.part.name: part.view() for part in parts}
    return VoiceView(
        parts={name: view for name, view in views.items() if not is_shared(name)},
        options=options,
        shared={model_of(name): view for name, view in views.items() if is_shared(name)},
    )
