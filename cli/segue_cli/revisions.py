"""How versions and figures are written for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

DIGITS = 10


def short(revision: str | None) -> str:
    """The digits that people see."""
    return revision[:DIGITS] if revision else "-"


def ago(iso: str | None, *, now: datetime | None = None) -> str:
    """`5m ago` of an ISO time; `-` of none."""
    if not iso:
        return "-"
    then = datetime.fromisoformat(iso)
    return f"{span(((now or datetime.now(UTC)) - then).total_seconds())} ago"


def span(seconds: float) -> str:
    """`3s`, `5m`, `2h10m`, `4d`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d"


def clock(iso: str) -> str:
    """Local wall-clock time of an ISO time; with the date where it is not today."""
    then = datetime.fromisoformat(iso).astimezone()
    today = datetime.now().astimezone().date()
    return then.strftime("%H:%M:%S" if then.date() == today else "%Y-%m-%d %H:%M:%S")


def clock_now() -> str:
    """Local wall-clock time."""
    return f"{datetime.now().astimezone():%H:%M:%S}"


def figure(gate: dict[str, Any]) -> str:
    """A gate's figure beside its limit: `0.981 (limit 0.9)`."""
    if gate.get("figure") is None:
        return "not measured"
    unit = f" {gate['unit']}" if gate.get("unit") else ""
    limit = f" (limit {gate['limit']:.4g}{unit})" if gate.get("limit") is not None else ""
    return f"{gate['figure']:.4g}{unit}{limit}"
