"""Following one voice: lines as they happen, and whether what is waited for came about.

Separate because `watch`, `wait` and `roll --wait` are the same walk with other ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from segue_cli.client import OperatorClient, OperatorUnreachable
from segue_cli.revisions import short

POLL_S = 20.0
RETRY_S = 0.5

SELF_EXPLAINING = ("Preloading", "Verifying")
"""Phases in which the pods' own progress says more, and sooner, than the status does."""

Document = dict[str, Any]


class Outcome(Enum):
    """How waiting ended."""

    CAME = "came"
    OTHERWISE = "otherwise"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Goal:
    """What is waited for.

    Attributes
    ----------
    generation
        Conditions about an older spec do not count.
    revision
        With `Promoted`: the revision that must be the stable one.
    """

    condition: str
    status: str = "True"
    generation: int = 0

    def is_met(self, voice: Document) -> bool:
        """Whether the condition says so, about this spec."""
        condition = condition_of(voice, self.condition)
        if condition is None or voice["status"]["observedGeneration"] < max(self.generation, _generation(voice)):
            return False
        return bool(condition["status"].lower() == self.status.lower())

    def is_lost(self, voice: Document) -> str | None:
        """Why it can no longer come about without somebody's help; None while it can."""
        if self.status.lower() != "true" or self.condition not in ("Promoted", "Ready", "Verified"):
            return None
        if voice["status"]["observedGeneration"] < max(self.generation, _generation(voice)):
            return None
        if voice["status"]["phase"] != "Idle" or _has_more_to_do(voice):
            return None
        for kind in ("Promoted", "Stalled"):
            condition = condition_of(voice, kind)
            if condition is not None and condition["reason"] == "RolledBack" and not self.is_met(voice):
                return str(condition["message"] or "it was rolled back")
        return None


def condition_of(voice: Document, kind: str) -> Document | None:
    """A condition by its type."""
    return next((each for each in voice["status"]["conditions"] if each["type"] == kind), None)


def _has_more_to_do(voice: Document) -> bool:
    """Whether a newer spec is about to be rolled out: what is said of the one before does not count any more."""
    condition = condition_of(voice, "Reconciling")
    return condition is not None and condition["status"] == "True"


def _generation(voice: Document) -> int:
    return int(voice["metadata"]["generation"])


def updates(client: OperatorClient, key: str, *, deadline: float | None) -> Iterator[Document | None]:
    """The voice now and at every change; None while the operator is being started again. Ends at the deadline."""
    version: int | None = None
    while deadline is None or time.monotonic() < deadline:
        left_s = POLL_S if deadline is None else max(0.05, min(POLL_S, deadline - time.monotonic()))
        try:
            voice = client.voice(key, after=version, wait_s=left_s)
        except OperatorUnreachable:
            version = None
            yield None
            time.sleep(min(RETRY_S, left_s))
            continue
        version = int(voice["version"])
        yield voice


def wait_for(
    client: OperatorClient, key: str, goal: Goal, *, timeout_s: float | None, show: Callable[[Document], None]
) -> tuple[Outcome, str]:
    """Wait until the goal is met, lost, or time is up; the outcome and a word about it.

    Raises
    ------
    NoSuchVoice
        The voice does not exist, or is deleted meanwhile.
    OperatorUnreachable
        The operator did not answer once.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    latest: Document | None = None
    for voice in updates(client, key, deadline=deadline):
        if voice is None:
            continue
        latest = voice
        show(voice)
        if goal.is_met(voice):
            return Outcome.CAME, f"{key} is {goal.condition}={goal.status}"
        lost = goal.is_lost(voice)
        if lost is not None:
            return Outcome.OTHERWISE, f"{key}: {lost}"
    if latest is None:
        raise OperatorUnreachable("the operator did not answer in time; is it being started again? (segue get)")
    status = latest["status"]
    why = f"{status['phase']}: {status.get('message') or status.get('reason') or 'nothing was said'}"
    return Outcome.TIMEOUT, f"{key}: {goal.condition} was not {goal.status} within {timeout_s:g} s ({why})"


@dataclass(slots=True)
class Lines:
    """Turns what a voice looks like into lines, each said once."""

    say: Callable[[str], None]
    _last: str = ""
    _last_event: int = -1

    def show(self, voice: Document) -> None:
        """Say what is new."""
        for event in voice["events"]:
            if self._last_event < 0:
                break
            if event["id"] > self._last_event:
                self.say(f"  {event['reason']}: {event['message']}")
        self._last_event = max([self._last_event, 0, *(event["id"] for event in voice["events"])])
        line = status_line(voice)
        if line != self._last:
            self._last = line
            self.say(line)


def status_line(voice: Document) -> str:
    """One line: where it stands and what the target does on the pods."""
    status = voice["status"]
    parts = [f"{voice['key'].removeprefix('default/')}: {status['phase']}"]
    target = status.get("targetRevision") if status["phase"] != "Idle" else None
    if target:
        parts.append(f"{short(status.get('activeRevision'))} -> {short(target)}")
        parts += [f"{name} {text}" for name, text, _ in target_progress(voice)]
    else:
        parts.append(short(status.get("activeRevision")))
    if status.get("message") and status["phase"] not in SELF_EXPLAINING:
        parts.append(status["message"])
    return "  ".join(parts)


def target_progress(voice: Document) -> list[tuple[str, str, float]]:
    """By pod: name, what the target revision does there, and how far it is (0 to 1)."""
    target = voice["status"].get("targetRevision")
    found = []
    for pod in voice["pods"]:
        revision = pod.get("state", {}).get("revisions", {}).get(target)
        if revision is not None:
            found.append((pod["name"], *_doing(revision)))
    return found


def _doing(revision: Document) -> tuple[str, float]:
    report = revision.get("report")
    if revision["phase"] == "Ready" and report is not None and report["phase"] == "Running":
        total = report["total"] or 1
        return f"probe {report['done']}/{report['total']}", report["done"] / total
    if revision["phase"] == "Ready":
        return "Ready", 1.0
    fraction = float(revision["progress"]["fraction"])
    return (f"{revision['phase']} {fraction:.0%}" if 0 < fraction < 1 else revision["phase"]), fraction
