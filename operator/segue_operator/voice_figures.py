"""What a voice's status says, as Prometheus is told it: from a `Status`, or from the object as the API server has it.

Separate from the metrics because a scrape of a thousand voices must not read a thousand statuses into models: the few
fields that are told are taken from the object as it is. What is no time there is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segue.model import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceFigures:
    """Of one voice; times are Unix seconds, None: never.

    Attributes
    ----------
    phase
        `Unknown`: its status is not written yet.
    """

    key: str
    phase: str = "Unknown"
    phase_since_s: float | None = None
    switched_s: float | None = None
    rolled_back_s: float | None = None


def figures_of_status(key: str, status: Status) -> VoiceFigures:
    """From what was read into a model."""
    return VoiceFigures(
        key=key,
        phase=status.phase.value,
        phase_since_s=status.phase_started_at.timestamp() if status.phase_started_at else None,
        switched_s=status.last_switch.at.timestamp() if status.last_switch else None,
        rolled_back_s=status.last_rollback.at.timestamp() if status.last_rollback else None,
    )


def figures_of_body(key: str, body: Mapping[str, Any]) -> VoiceFigures:
    """From an object of the API server."""
    status = body.get("status") or {}
    return VoiceFigures(
        key=key,
        phase=str(status.get("phase", "Unknown")),
        phase_since_s=_seconds(status.get("phaseStartedAt")),
        switched_s=_seconds((status.get("lastSwitch") or {}).get("at")),
        rolled_back_s=_seconds((status.get("lastRollback") or {}).get("at")),
    )


def _seconds(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
