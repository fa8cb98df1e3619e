"""Calls of Alertmanager's webhook, as it makes them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from segue_operator.triggers.hooks import PATH

CALLS, CONNECTIONS = 1000, 20
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


async def storm(port: int, *, token: str, key: str) -> Counter[int]:
    """A thousand calls at once: true ones, forged ones, malformed ones, and such about voices that do not exist.

    Returns how often each status was answered.
    """
    namespace, _, voice = key.partition("/")
    now = datetime.now(UTC)
    true = json.dumps(webhook_call(webhook_alert(namespace=namespace, voice=voice, starts_at=now)))
    unknown = json.dumps(webhook_call(webhook_alert(namespace=namespace, voice="nobody", starts_at=now)))
    kinds = [(true, token), (true, "guessed"), ('{"version": "4", "alerts": [{]}', token), (unknown, token)]
    requests = [_as_request(*kinds[number % len(kinds)]) for number in range(CALLS)]
    answers = await asyncio.gather(*(_call(port, requests[number::CONNECTIONS]) for number in range(CONNECTIONS)))
    return sum(answers, Counter())


def _as_request(body: str, token: str) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: operator\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n{body}".encode()


async def _call(port: int, requests: list[bytes]) -> Counter[int]:
    """All of them over one connection, without a client library: the storm should cost us less than the operator."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers: Counter[int] = Counter()
    for request in requests:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length:")[2].split("\r\n")[0]))
        answers[int(head.split()[1])] += 1
    writer.close()
    await writer.wait_closed()
    return answers
