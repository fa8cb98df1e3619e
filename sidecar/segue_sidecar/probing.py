"""Verifying a resident revision on request: one probe at a time per revision, in a child.

A probe is known by its key and kind. The same one asked for again is the same probe, running or done; only a probe
that could not run (`Error`) is run again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segue.errors import NotFound, NotReady
from segue.memory.interface import WeightMemory
from segue.memory.messages import VoiceName
from segue.wire import Gate, ProbeKind, ProbePhase, ProbeReport, ProbeRequest, RevisionPhase
from segue_sidecar.books import Books
from segue_sidecar.child import ChildFailed, ChildKind, Nursery
from segue_sidecar.commands import Commands
from segue_sidecar.config import Config
from segue_sidecar.engines import place_of
from segue_sidecar.entries import RevisionEntry
from segue_sidecar.fences import Command
from segue_sidecar.residency import Residency

logger = logging.getLogger(__name__)

_STEPS = 20
_OWN_FAULTS = frozenset({"WeightsError", "ShapeMismatch", "ViewsHeld", "SynthesisFailed", "TextRejected"})
"""What a child says of a revision that cannot be verified because of itself; all else says nothing about it."""


class Probing:
    """All probes."""

    def __init__(
        self,
        *,
        config: Config,
        books: Books,
        commands: Commands,
        memory: WeightMemory,
        residency: Residency,
        nursery: Nursery,
    ) -> None:
        self._config = config
        self._books = books
        self._commands = commands
        self._memory = memory
        self._residency = residency
        self._nursery = nursery
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(1)

    # --- from outside -----------------------------------------------------------------------------------------------

    def start(self, name: VoiceName, revision: str, request: ProbeRequest, command: Command) -> ProbeReport:
        """Start a probe, or find it. Raises `StaleFence`, `NotFound`, `NotReady`."""
        self._commands.require_fresh(name, command)
        entry = self._books.revision(str(name), revision)
        if entry.phase not in (RevisionPhase.READY, RevisionPhase.OFFERING) or entry.sentence is None:
            raise NotReady(f"revision {revision[:10]} of {name} is {entry.phase}: it can be probed once it is Ready")
        self._commands.obey(name, command)
        if request.kind is ProbeKind.SENTENCE:
            entry.sentence = entry.sentence.model_copy(update={"key": request.terms.key})
            self._books.record_revision(entry)
            return entry.sentence
        known = entry.full
        if known is not None and known.key == request.terms.key and known.phase is not ProbePhase.ERROR:
            return known
        self.stop(entry)
        entry.full = ProbeReport(
            key=request.terms.key, kind=ProbeKind.FULL, phase=ProbePhase.RUNNING, baseline=request.baseline
        )
        self._books.touch(entry.voice)
        self._tasks[entry.owner] = asyncio.create_task(self._run(entry, request), name=f"probe {entry.owner}")
        return entry.full

    def stop(self, entry: RevisionEntry) -> None:
        """Give up a probe that runs."""
        task = self._tasks.pop(entry.owner, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Give up all of them."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def report(self, name: VoiceName, revision: str) -> ProbeReport:
        """The latest report with its details. Raises `NotFound`."""
        entry = self._books.revision(str(name), revision)
        report = entry.report
        if report is None:
            raise NotFound(f"revision {revision[:10]} of {name} was not probed yet")
        if report.kind is ProbeKind.SENTENCE or report.phase not in (ProbePhase.PASSED, ProbePhase.FAILED):
            return report
        try:
            details = json.loads((self._folder(entry) / "report.json").read_text())
        except (OSError, ValueError):
            return report
        return report.model_copy(update={"details": details})

    def audio(self, name: VoiceName, revision: str, *, case: int, seed: int) -> Path:
        """The wav file of one utterance of the latest full probe. Raises `NotFound`."""
        path = self._folder(self._books.revision(str(name), revision)) / f"{case}-{seed}.wav"
        if not path.is_file():
            raise NotFound(f"no audio of case {case} with seed {seed}: the latest full probe did not say it")
        return path

    def let_go(self, entry: RevisionEntry) -> None:
        """The revision goes: its probe ends, and what its probes left is not needed any more."""
        self.stop(entry)
        folder = self._folder(entry)
        asyncio.get_running_loop().run_in_executor(None, lambda: shutil.rmtree(folder, ignore_errors=True))

    # --- one probe --------------------------------------------------------------------------------------------------

    async def _run(self, entry: RevisionEntry, request: ProbeRequest) -> None:
        task = asyncio.current_task()
        try:
            async with self._turn:
                entry.full = await self._probe(entry, request)
        except ChildFailed as error:
            phase = ProbePhase.FAILED if error.reason in _OWN_FAULTS else ProbePhase.ERROR
            entry.full = self._ended(entry, request, phase=phase, reasons=(f"{error.reason}: {error}",))
        except Exception as error:  # a task's outermost point: the report must not stay Running
            logger.exception("probing %s failed", entry.owner)
            entry.full = self._ended(entry, request, phase=ProbePhase.ERROR, reasons=(f"InternalError: {error}",))
        finally:
            if self._tasks.get(entry.owner) is task:
                del self._tasks[entry.owner]
        self._books.record_revision(entry)

    async def _probe(self, entry: RevisionEntry, request: ProbeRequest) -> ProbeReport:
        reference = (await self._residency.fetch(entry)).reference if entry.request.reference else None
        base = self._baseline(entry, request)
        own = self._memory.export_all(entry.parts)
        theirs = self._memory.export_all(base.parts) if base else []
        job = self._job(entry, request, reference=reference, base=base)
        result = await self._nursery.run(
            ChildKind.PROBE,
            job,
            fds=[*own, *theirs],
            deadline_s=self._config.deadlines.probe_s,
            progress=lambda _stage, done, total: self._show(entry, request, done=done, total=total),
        )
        document = json.loads(await asyncio.to_thread(Path(result["report"]).read_text))
        return self._finished(request, document, build=str(result["build"]))

    def _job(
        self, entry: RevisionEntry, request: ProbeRequest, *, reference: str | None, base: RevisionEntry | None
    ) -> dict[str, Any]:
        terms = request.terms
        key = _figures_key(entry, request)
        kept = self._folder_of(entry.voice, request.baseline) / "figures.json" if request.baseline else None
        return {
            "place": place_of(entry.request.engine, self._config.engines),
            "parts": entry.part_documents,
            "options": entry.request.options,
            "memory": self._memory.mapping_terms,
            "language": entry.language,
            "cases": [case.model_dump() for case in terms.cases],
            "seeds": terms.seeds,
            "reference": reference,
            "baselineParts": base.part_documents if base else [],
            "baselineOptions": base.request.options if base else {},
            "baselineFile": str(kept) if kept else "",
            "figuresKey": key,
            "scorers": self._config.scorers.model_dump(mode="json", by_alias=True, exclude_none=True),
            "folder": str(self._folder(entry)),
            "limits": {
                "min_similarity": terms.min_similarity,
                "min_pass_ratio": terms.min_pass_ratio,
                "max_text_error_rate": terms.max_text_error_rate,
                "max_loudness_delta_lu": terms.continuity.max_loudness_delta_lu,
                "max_pitch_delta_st": terms.continuity.max_pitch_delta_st,
                "max_pace_delta": terms.continuity.max_pace_delta,
            },
        }

    def _baseline(self, entry: RevisionEntry, request: ProbeRequest) -> RevisionEntry | None:
        """The revision to measure beside it: the baseline, where it is resident and was not measured like this yet."""
        voice = self._books.voices[str(entry.voice)]
        base = voice.revisions.get(request.baseline or "")
        if base is None or base is entry or not base.parts or base.request.engine != entry.request.engine:
            return None
        try:
            kept = json.loads((self._folder(base) / "figures.json").read_text())
        except (OSError, ValueError):
            return base
        return None if kept.get("key") == _figures_key(entry, request) else base

    def _show(self, entry: RevisionEntry, request: ProbeRequest, *, done: int, total: int) -> None:
        report = entry.full
        if report is None or report.phase is not ProbePhase.RUNNING or not total:
            return
        if int(_STEPS * done / total) != int(_STEPS * report.done / max(report.total, 1)) or report.total != total:
            entry.full = report.model_copy(update={"done": done, "total": total})
            self._books.touch(entry.voice)

    def _finished(self, request: ProbeRequest, document: Mapping[str, Any], *, build: str) -> ProbeReport:
        count = len(document["cases"])
        return ProbeReport(
            key=request.terms.key,
            kind=ProbeKind.FULL,
            phase=ProbePhase.PASSED if document["passed"] else ProbePhase.FAILED,
            done=count,
            total=count,
            engine_build=build,
            device_class=self._config.pod.device_class,
            baseline=request.baseline,
            similarity=document["voice"]["similarity"],
            pass_ratio=document["pass_ratio"],
            gates=tuple(Gate(**gate) for gate in document["gates"]),
            continuity=tuple(Gate(**gate) for gate in document["continuity"]),
            reasons=tuple(document["reasons"]),
            finished_ns=time.time_ns(),
        )

    def _ended(
        self, entry: RevisionEntry, request: ProbeRequest, *, phase: ProbePhase, reasons: tuple[str, ...]
    ) -> ProbeReport:
        return ProbeReport(
            key=request.terms.key,
            kind=ProbeKind.FULL,
            phase=phase,
            engine_build=entry.build,
            device_class=self._config.pod.device_class,
            baseline=request.baseline,
            reasons=reasons,
            finished_ns=time.time_ns(),
        )

    def _folder(self, entry: RevisionEntry) -> Path:
        return self._folder_of(entry.voice, entry.revision)

    def _folder_of(self, name: VoiceName, revision: str) -> Path:
        return self._config.cache_directory / "probes" / name.namespace / name.name / revision


def _figures_key(entry: RevisionEntry, request: ProbeRequest) -> str:
    """What two measurements must have in common to be compared."""
    said = [[case.text, case.language] for case in request.terms.cases]
    document = [said, request.terms.seeds, entry.language, entry.request.engine, entry.build]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()
