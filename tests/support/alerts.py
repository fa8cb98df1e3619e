"""Calls of Alertmanager's webhook, as it makes them."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

ENDS_SOME_DAY = "0001-01-01T00:00:00Z"


def webhook_alert(
    *,
    voice: str = "narrator",
    namespace: str = "default",
    name: str = "VoiceSilent",
    starts_at: datetime = datetime(2026, 11, 22, 10, 0, tzinfo=UTC),
    status: str = "firing",
    **labels: str,
) -> dict[str, Any]:
    """One alert of a call; `labels` are further ones."""
    all_labels = {"alertname": name, "segue_namespace": namespace, "segue_voice": voice, **labels}
    return {
        "status": status,
        "labels": all_labels,
        "annotations": {"summary": "a voice says nothing"},
        "startsAt": starts_at.isoformat(),
        "endsAt": ENDS_SOME_DAY if status == "firing" else starts_at.isoformat(),
        "generatorURL": "http://prometheus/graph?g0.expr=x",
        "fingerprint": hashlib.sha256(json.dumps(all_labels, sort_keys=True).encode()).hexdigest()[:16],
    }


def webhook_call(*alerts: dict[str, Any]) -> dict[str, Any]:
    """A whole call, as version 4 has it."""
    return {
        "version": "4",
        "groupKey": '{}:{alertname="VoiceSilent"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "segue",
        "groupLabels": {"alertname": "VoiceSilent"},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager",
        "alerts": list(alerts),
    }
