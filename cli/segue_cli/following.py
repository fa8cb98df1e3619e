"""Following one voice: lines as they happen, and whether what is waited for came about.

Separate because `watch`, `wait` and `roll --wait` are the same walk with other ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from segue.errors import SegueError
from segue_cli.place import Document, Place
from segue_cli.revisions import short

SELF_EXPLAINING = ("Preloading", "Verifying")
"""Phases in which the pods' own progress says more, and sooner, than the status does."""


class NobodyAnswered(SegueError):
    """Whoever knows about the voice did not answer once."""


class Outcome(Enum):
    """How waiting ended."""

    CAME = "came"
    OTHERWISE = "otherwise"
    TIMEOUT = "timeout"


class Awaited(Protocol):
    """Something that a voice may come to."""

    @property
    def words(self) -> str:
        """What people call it."""
        ...

    def is_met(self, voice: Document) -> bool:
        """Whether it came about."""
        ...

    def is_lost(self, voice: Document) -> str | None:
        """Why it can no longer come about without somebody's help; None while it can."""
        ...


@dataclass(frozen=True, slots=True)
class Goal:
    """A condition, as kstatus reads it: what is said about an older spec does not count.

    `Ready=True` is met when what the spec asks for is served: not while a newer version is on its way, and not when it
    was taken back. `Promoted=True` is met when it is confirmed.

    Attributes
    ----------
    generation
        Conditions about an older spec than this do not count.
    revision
        With `Promoted`: the one that must be confirmed, whatever else is rolled out meanwhile; None: that of the spec.
    """

    condition: str
    status: str = "True"
    generation: int = 0
    revision: str | None = None

    @property
    def words(self) -> str:
        """`Promoted=True`."""
        return f"{self.condition}={self.status}"

    def is_met(self, voice: Document) -> bool:
        """Whether the condition says so, about this spec."""
        condition = condition_of(voice, self.condition)
        if condition is None or not self._is_seen(voice) or condition["status"].lower() != self.status.lower():
            return False
        if self.revision is not None and voice["status"].get("stableRevision") != self.revision:
            return False
        return self.words != "Ready=True" or not (_is_on_its_way(voice) or _went_back(voice))

    def is_lost(self, voice: Document) -> str | None:
        """Why it can no longer come about without somebody's help; None while it can."""
        if self.status.lower() != "true" or self.condition in ("Reconciling", "Stalled") or not self._is_seen(voice):
            return None
        if voice["status"]["phase"] != "Idle" or _has_more_to_do(voice) or self.is_met(voice):
            return None
        return self._other_end(voice) or _went_back(voice)

    def _is_seen(self, voice: Document) -> bool:
        generation = max(self.generation, int(voice["metadata"]["generation"]))
        return bool(voice["status"]["observedGeneration"] >= generation)

    def _other_end(self, voice: Document) -> str | None:
        """How the version that is waited for ended, when another one is served."""
        status = voice["status"]
        if self.revision is None or status.get("stableRevision") == self.revision:
            return None
        for failure in status["failedRevisions"]:
            if failure["revision"] == self.revision:
                return f"{short(self.revision)} was taken back: {failure['reason']}: {failure['message']}"
        return f"{short(self.revision)} was replaced by {short(status.get('stableRevision'))} before it was confirmed"


@dataclass(frozen=True, slots=True)
class WayBack:
    """A rollback that was asked for by a token.

    Attributes
    ----------
    revision
        What shall be served again; None: nothing was served before.
    """

    token: str
    revision: str | None

    @property
    def words(self) -> str:
        """`back on 0123456789`."""
        return f"back on {short(self.revision)}"

    def is_met(self, voice: Document) -> bool:
        """Whether every pod in reach was taken back."""
        return self._is_over(voice) and voice["status"].get("activeRevision") == self.revision

    def is_lost(self, voice: Document) -> str | None:
        """The token was used up, and something else is served."""
        if not self._is_over(voice) or self.is_met(voice):
            return None
        status = voice["status"]
        return f"serves {short(status.get('activeRevision'))}: {status['reason']}: {status['message']}"

    def _is_over(self, voice: Document) -> bool:
        status = voice["status"]
        is_handled = status["handledTokens"].get("rollback") == self.token
        return is_handled and bool(status["phase"] != "RollingBack")


def condition_of(voice: Document, kind: str) -> Document | None:
    """A condition by its type."""
    return next((each for each in voice["status"]["conditions"] if each["type"] == kind), None)


def _has_more_to_do(voice: Document) -> bool:
    """Whether a newer spec is about to be rolled out: what is said of the one before does not count any more."""
    condition = condition_of(voice, "Reconciling")
    return condition is not None and condition["status"] == "True"


def _is_on_its_way(voice: Document) -> bool:
    """Whether listeners do not all hear what the spec asks for. Under watch they do, unless a newer spec waits."""
    is_heard = voice["status"]["phase"] == "Watching" and voice["status"].get("reason") != "WatchOpen"
    return _has_more_to_do(voice) and not is_heard


def _went_back(voice: Document) -> str | None:
    """Why the latest version was taken back, None if it was not."""
    for kind in ("Promoted", "Stalled"):
        condition = condition_of(voice, kind)
        if condition is not None and condition["reason"] in ("RolledBack", "RollingBack"):
            return str(condition["message"] or "it was rolled back")
    return None


def wait_for(
    place: Place, key: str, awaited: Awaited, *, timeout_s: float, show: Callable[[Document], None]
) -> tuple[Outcome, str]:
    """Wait until it came about, cannot any more, or time is up; the outcome and a word about it.

    Raises
    ------
    NoSuchVoice
        The voice does not exist, or is deleted meanwhile.
    NobodyAnswered
        Not once.
    """
    latest: Document | None = None
    with closing(place.updates(key, deadline=time.monotonic() + timeout_s)) as updates:
        for voice in updates:
            if voice is None:
                continue
            latest = voice
            show(voice)
            if awaited.is_met(voice):
                return Outcome.CAME, f"{key} is {awaited.words}"
            lost = awaited.is_lost(voice)
            if lost is not None:
                return Outcome.OTHERWISE, f"{key}: {lost}"
    if latest is None:
        raise NobodyAnswered(f"nobody answered in time; is it being started again? ({place.command('get', key)})")
    return Outcome.TIMEOUT, f"{key}: not {awaited.words} within {timeout_s:g} s ({_why(latest)})"


def _why(voice: Document) -> str:
    status = voice["status"]
    if voice.get("unseen"):
        return str(voice["unseen"])
    return f"{status['phase']}: {status.get('message') or status.get('reason') or 'nothing was said'}"


@dataclass(slots=True)
class Lines:
    """Turns what a voice looks like into lines, each said once."""

    say: Callable[[str], None]
    _last: str = ""
    _events: frozenset[Any] | None = None
    _messages: set[str] = field(default_factory=set)

    def show(self, voice: Document) -> None:
        """Say what is new; events from before the first look are old, and what the status said is said."""
        self._messages.add(str(voice["status"].get("message")))
        for event in voice["events"]:
            is_new = self._events is not None and event["id"] not in self._events
            if is_new and event["message"] not in self._messages:
                self.say(f"  {event['reason']}: {event['message']}")
        self._events = (self._events or frozenset()) | {event["id"] for event in voice["events"]}
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
        parts.append(" -> ".join(map(short, direction(status))))
        parts += [f"{name} {text}" for name, text, _ in target_progress(voice)]
    else:
        parts.append(short(status.get("activeRevision")))
    if voice.get("isStuck"):
        parts.append(voice["unseen"])
    elif status.get("message") and not (voice["pods"] and status["phase"] in SELF_EXPLAINING):
        parts.append(status["message"])
    return "  ".join(parts)


def direction(status: Document) -> tuple[str | None, str | None]:
    """From which revision to which it goes, outside of Idle. From the flip on, the new one is the active one."""
    active, target = status.get("activeRevision"), status.get("targetRevision")
    if status["phase"] == "RollingBack":
        return target, active
    return (status.get("stableRevision") if active == target else active), target


def target_progress(voice: Document) -> list[tuple[str, str, float]]:
    """How far the target is (0 to 1): by pod where pods can be asked, else by the counters of the status."""
    target = voice["status"].get("targetRevision")
    found = []
    for pod in voice["pods"]:
        revision = pod.get("state", {}).get("revisions", {}).get(target)
        if revision is not None:
            found.append((pod["name"], *_doing(revision)))
    return found if voice["pods"] else _counted(voice["status"])


def _doing(revision: Document) -> tuple[str, float]:
    report = revision.get("report")
    if revision["phase"] == "Ready" and report is not None and report["phase"] == "Running":
        total = report["total"] or 1
        return f"probe {report['done']}/{report['total']}", report["done"] / total
    if revision["phase"] == "Ready":
        return "Ready", 1.0
    fraction = float(revision["progress"]["fraction"])
    return (f"{revision['phase']} {fraction:.0%}" if 0 < fraction < 1 else revision["phase"]), fraction


_COUNTERS = {
    "Preloading": ("loaded",),
    "Verifying": ("loaded", "verified"),
    "Flipping": ("updated",),
    "Watching": ("updated",),
    "RollingBack": ("updated",),
}


def _counted(status: Document) -> list[tuple[str, str, float]]:
    counts = status["pods"]
    total = counts.get("total", 0)
    names = _COUNTERS.get(status["phase"], ()) if total else ()
    return [(name, f"{counts.get(name, 0)}/{total}", min(1.0, counts.get(name, 0) / total)) for name in names]
