"""The probing child: the whole verification of a revision, every case with every seed, heard and judged.

The revision that is active now is the baseline: its figures are measured once with the same cases, kept beside its
report, and used again.
"""

from __future__ import annotations

import contextlib
import json
import wave
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from segue.engine import Device, Engine, Synthesizer
from segue.memory.messages import PartRef
from segue.memory.voice_view import voice_view
from segue_engines.probes import (
    BaselineFigures,
    Case,
    Clip,
    ProbeReport,
    Scorer,
    ScorerFailed,
    ScorerKind,
    Thresholds,
    builtin_cases,
    run_probes,
    scorer,
)
from segue_sidecar.children.channel import Channel, JobError
from segue_sidecar.children.mapping import fds_of, mapped, part_refs
from segue_sidecar.engines import load_engine


def run(job: Mapping[str, Any], fds: list[int], channel: Channel) -> dict[str, Any]:
    """Verify one revision; the report, the audio and the figures for its successors go into the job's folder.

    Returns
    -------
    dict
        `{"build", "passed", "report": path, "passRatio", …}`; the report itself is too large for a datagram.
    """
    engine = load_engine(job["place"])
    cases, seeds = _cases(job), tuple(range(1, int(job["seeds"]) + 1))
    folder = Path(job["folder"])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    own, theirs = part_refs(job["parts"]), part_refs(job["baselineParts"])
    memory = job["memory"]
    ours = fds_of(own, memory)
    progress = _Progress(channel, len(cases) * len(seeds), also_baseline=bool(theirs))
    baseline = _kept_baseline(job)
    if theirs:
        with _built(engine, theirs, fds[ours:], job["baselineOptions"], memory) as synthesizer:
            baseline = run_probes(synthesizer, cases=cases, seeds=seeds, progress=progress.baseline).baseline()
        _keep(Path(job["baselineFile"]), job["figuresKey"], baseline)
    reference, rate = _reference(job["reference"])
    with _built(engine, own, fds[:ours], job["options"], memory) as synthesizer:
        report = run_probes(
            synthesizer,
            cases=cases,
            seeds=seeds,
            reference_audio=reference,
            reference_rate=rate,
            baseline=baseline,
            thresholds=_thresholds(job["limits"]),
            scorers=_scorers(job["scorers"]),
            min_speaker_network=job["scorers"]["speakerNetwork"].get("limit"),
            progress=progress.own,
            on_audio=lambda clip: _save(clip, cases, folder),
        )
    _keep(folder / "figures.json", job["figuresKey"], report.baseline())
    return _written(report, folder / "report.json", build=engine.build_id)


class _Progress:
    """Utterances of both revisions as one count."""

    def __init__(self, channel: Channel, each: int, *, also_baseline: bool) -> None:
        self._channel = channel
        self._each = each
        self._before = each if also_baseline else 0

    def baseline(self, done: int, _total: int) -> None:
        self._channel.progress("probe", done=done, total=self._before + self._each)

    def own(self, done: int, _total: int) -> None:
        self._channel.progress("probe", done=self._before + done, total=self._before + self._each)


@contextlib.contextmanager
def _built(
    engine: Engine, parts: Sequence[PartRef], fds: Sequence[int], options: Mapping[str, Any], memory: Mapping[str, Any]
) -> Iterator[Synthesizer]:
    with mapped(parts, fds, memory) as arenas:
        view = voice_view(arenas, options=options)
        synthesizer = engine.build(view, Device(name=memory["device"]))
        del view
        try:
            yield synthesizer
        finally:
            synthesizer.close()


def _cases(job: Mapping[str, Any]) -> tuple[Case, ...]:
    cases = tuple(Case(case["text"], case["language"]) for case in job["cases"])
    cases = cases or builtin_cases(job["language"])
    if not cases:
        raise JobError("NoCases", f"no built-in sentences for {job['language']!r}: write verification.cases")
    return cases


def _thresholds(limits: Mapping[str, Any]) -> Thresholds:
    return Thresholds(**limits)


def _scorers(settings: Mapping[str, Any]) -> list[Scorer]:
    """Those that the fleet's settings name; one that cannot be had is the settings' fault, not the revision's."""
    scorers = []
    for kind in ScorerKind:
        said = settings.get(kind.value)
        if said is None:
            continue
        bound = "minimum" if kind is ScorerKind.NATURALNESS else "maximum"
        try:
            scorers.append(scorer(kind, said["address"], timeout_s=said["timeoutS"], **{bound: said.get("limit")}))
        except ScorerFailed as error:
            raise JobError("ScorerUnusable", f"scorers.{kind.value}: {error}") from error
    return scorers


def _reference(path: str | None) -> tuple[Any, int]:
    """`(samples,) float32` mono, and Hz; without a reference `None` and 0."""
    if path is None:
        return None, 0
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise JobError("ReferenceUnreadable", f"the reference recording cannot be read: {error}") from error
    return np.ascontiguousarray(audio.mean(axis=1)), int(rate)


def _kept_baseline(job: Mapping[str, Any]) -> BaselineFigures | None:
    if not job["baselineFile"]:
        return None
    try:
        kept = json.loads(Path(job["baselineFile"]).read_text())
        return BaselineFigures.from_json(kept["figures"]) if kept["key"] == job["figuresKey"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(path: Path, key: str, figures: BaselineFigures) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": key, "figures": figures.to_json()}))


def _save(clip: Clip, cases: Sequence[Case], folder: Path) -> None:
    """One utterance as 16-bit mono wav, so that a person can hear what was refused."""
    samples = np.nan_to_num(np.clip(clip.audio, -1.0, 1.0))
    with wave.open(str(folder / f"{cases.index(clip.case)}-{clip.seed}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(clip.sample_rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def _written(report: ProbeReport, path: Path, *, build: str) -> dict[str, Any]:
    path.write_text(json.dumps(report.to_json()))
    return {"build": build, "passed": report.passed, "report": str(path)}
