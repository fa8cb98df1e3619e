"""One voice as the page shows it: what stands in it, what its pods do with it, and its way in time.

Pure but for reading the pods. Separate from the list because it is made for the one voice that somebody looks at, anew
whenever that voice or one of its pods changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from segue.rollout.observe import Standing
from segue.rollout.snapshot import RevisionView
from segue.wire import ProbeReport
from segue_operator.console.actions import ACTIONS, refusal
from segue_operator.console.news import News
from segue_operator.console.rows import row_of
from segue_operator.console.source import Document, Source
from segue_operator.events import Entry
from segue_operator.fleet.pod import Pod

PODS_SHOWN = 100
EVENTS_SHOWN = 60
PHASES = ("Preloading", "Verifying", "Canary", "Flipping", "Watching")


def detail_of(key: str, source: Source, news: News) -> dict[str, Any] | None:
    """Everything about a voice; None: there is none."""
    voice = source.document(key)
    if voice is None:
        return None
    unusable = [problem for problem in source.problems() if key in problem.voices]
    status, spec = voice.get("status") or {}, voice.get("spec") or {}
    events = source.events(key)[-EVENTS_SHOWN:]
    pods = pods_of(key, voice, source)
    resident, standings = _resident(pods, voice)
    return {
        **row_of(key, voice, unusable=bool(unusable)),
        "uid": voice["metadata"].get("uid", ""),
        "generation": voice["metadata"].get("generation", 0),
        "problems": [str(problem) for problem in unusable],
        "stable": status.get("stableRevision"),
        "attempt": status.get("attempt", 0),
        "rollout": _without_source(status.get("rollout")),
        "rollback": status.get("rollback"),
        "lastRollback": status.get("lastRollback"),
        "lastSwitch": status.get("lastSwitch"),
        "conditions": status.get("conditions") or [],
        "history": status.get("history") or [],
        "failed": status.get("failedRevisions") or [],
        "verifications": status.get("verifications") or [],
        "policy": {name: spec.get(name) or {} for name in ("rollout", "watch", "verification", "continuity")},
        "weights": {name: source_["uri"] for name, source_ in (spec.get("weights") or {}).items()},
        "timeline": timeline(status, events),
        "podsOfVoice": standings,
        "podsOmitted": max(0, len(pods) - PODS_SHOWN),
        "resident": resident,
        "reports": {**source.reports(key), **_reports(pods, voice)},
        "counts": news.counts(key),
        "events": [asdict(entry) for entry in events],
        "refused": {action: refusal(action, voice) for action in ACTIONS},
    }


def _without_source(rollout: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if rollout is None else {name: value for name, value in rollout.items() if name != "source"}


# --- pods -------------------------------------------------------------------------------------------------------------


def pods_of(key: str, voice: Document, source: Source) -> list[Pod]:
    """The pods of its fleet, and others that hold it; by name."""
    fleet, uid = source.fleet_of(key), voice["metadata"].get("uid", "")
    found = [pod for pod in source.pods() if pod.record.fleet == fleet or pod.standing(key, uid).uid]
    return sorted(found, key=lambda pod: pod.name)


def fingerprint(key: str, voice: Document, source: Source) -> tuple[object, ...]:
    """Another value whenever a pod tells something else of the voice."""
    uid = voice["metadata"].get("uid", "")
    return tuple((pod.uid, pod.identity is None, id(pod.standing(key, uid))) for pod in pods_of(key, voice, source))


def _resident(pods: Sequence[Pod], voice: Document) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """On how many pods each revision can be asked for; and the first pods in full, those that trouble first."""
    namespace, name, uid = _names(voice)
    key = f"{namespace}/{name}"
    resident: dict[str, int] = {}
    shown = []
    for pod in pods:
        standing = pod.standing(key, uid)
        for revision in standing.revisions.values() if pod.identity is not None else ():
            if revision.ready:
                resident[revision.revision] = resident.get(revision.revision, 0) + 1
        shown.append((_trouble(pod, standing), pod.name, pod, standing))
    shown.sort(key=lambda each: each[:2])
    return resident, [_on_pod(pod, standing) for *_, pod, standing in shown[:PODS_SHOWN]]


def _names(voice: Document) -> tuple[str, str, str]:
    metadata = voice["metadata"]
    return metadata.get("namespace", "default"), metadata["name"], metadata.get("uid", "")


def _trouble(pod: Pod, standing: Standing) -> int:
    if pod.identity is None:
        return 0
    if any(revision.failed for revision in standing.revisions.values()):
        return 1
    return 2 if any(not revision.ready for revision in standing.revisions.values()) else 3


def _on_pod(pod: Pod, standing: Standing) -> dict[str, Any]:
    pointer, facts = standing.pointer, pod.record.facts
    return {
        "uid": pod.uid,
        "name": pod.name,
        "inReach": pod.identity is not None,
        "ready": facts.ready,
        "terminating": facts.terminating,
        "active": pointer.active,
        "candidate": pointer.candidate,
        "mode": pointer.mode.value,
        "weight": pointer.weight,
        "watching": standing.watching is not None,
        "selfReverted": standing.self_reverted.message if standing.self_reverted is not None else None,
        "revisions": [_revision(each) for each in standing.revisions.values()],
    }


def _revision(revision: RevisionView) -> dict[str, Any]:
    report = revision.report
    running = report is not None and report.phase == "Running"
    return {
        "revision": revision.revision,
        "phase": revision.phase.value,
        "reason": revision.reason,
        "message": revision.message,
        "fraction": revision.fraction,
        "probe": {"done": report.done, "total": report.total} if report is not None and running else None,
    }


def _reports(pods: Iterable[Pod], voice: Document) -> dict[str, Any]:
    """The latest figures of each revision, of whichever pod has got on furthest with them."""
    namespace, name, uid = _names(voice)
    best: dict[str, tuple[tuple[int, int], ProbeReport, str]] = {}
    for pod in pods:
        for revision in pod.standing(f"{namespace}/{name}", uid).revisions.values():
            report = revision.report
            if report is None:
                continue
            rank = (int(report.kind == "full"), report.done)
            if revision.revision not in best or rank > best[revision.revision][0]:
                best[revision.revision] = (rank, report, pod.name)
    return {
        revision: {**report.model_dump(mode="json", by_alias=True, exclude={"details"}), "pod": pod}
        for revision, (_, report, pod) in best.items()
    }


# --- time -------------------------------------------------------------------------------------------------------------


def timeline(status: Mapping[str, Any], events: Sequence[Entry]) -> list[dict[str, Any]]:
    """The phases of the open rollout, or of the latest one, each with when it began where that is known.

    A phase is `done`, `current`, `ahead`, or `skipped` (a canary that was not asked for). What is known comes from the
    status, and from events where they reach back that far.
    """
    phase, rollout = status.get("phase", "Idle"), status.get("rollout")
    if rollout is None:
        return []
    began = _begun(status, rollout, events)
    at = PHASES.index(phase) if phase in PHASES else len(PHASES)
    steps = []
    for number, name in enumerate(PHASES):
        state = "done" if number < at else "current" if number == at else "ahead"
        if state == "done" and name not in began and name == "Canary":
            state = "skipped"
        steps.append({"phase": name, "state": state, "at": began.get(name)})
    if phase == "RollingBack":
        rollback = status.get("rollback") or {}
        steps = [each for each in steps if each["at"] is not None]
        steps.append({"phase": phase, "state": "current", "at": rollback.get("startedAt")})
    return steps


def _begun(status: Mapping[str, Any], rollout: Mapping[str, Any], events: Sequence[Entry]) -> dict[str, str]:
    started = str(rollout.get("startedAt", ""))
    began = {"Preloading": started}
    for entry in events:
        if entry.reason in PHASES and _instant(entry.at) >= _instant(started):
            began.setdefault(entry.reason, entry.at)
    if rollout.get("stepStartedAt") and not rollout.get("step"):
        began.setdefault("Canary", str(rollout["stepStartedAt"]))
    if rollout.get("flippedAt"):
        began["Watching"] = str(rollout["flippedAt"])
    if status.get("phase") in PHASES and status.get("phaseStartedAt"):
        began[str(status["phase"])] = str(status["phaseStartedAt"])
    return began


def _instant(text: str) -> str:
    """Comparable: ISO 8601 in UTC, to the second."""
    return text[:19]
