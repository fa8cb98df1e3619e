"""Did any answer hold sound of two versions?

Separate from the benches because it is the promise that matters most, and a detector is only worth what its own test
shows: `inject_faults` makes the two faults it must catch, a voice put together from halves of two revisions and an
answer that changes version in the middle.

Each 100 ms window of an answer is compared with every resident revision's own rendering of the same text. It must lie
within 1e-3 (largest sample difference) of the revision that the answer names, and every other revision at least ten
times further away. Where two revisions hardly differ (a pause), the pilot tones decide: demo weights carry one in each
half of the model, at -60 dBFS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segue_cli.measure.audio import COMPARABLE_FORMATS, UnreadableAudio, decode
from segue_cli.measure.load import spool_name
from segue_cli.measure.shots import Record, Shot

WINDOW_S = 0.1
NEAR = 1e-3
TIMES_FURTHER = 10.0
QUANTUM = 1 / 32768
"""Answers are 16-bit, so no distance below one step means anything."""

PILOT_FLOOR = 2.5e-4
"""A pilot of -60 dBFS has an amplitude of 1e-3; a quarter of that counts as gone."""

Samples = NDArray[np.float32]


class Fault(StrEnum):
    """What was heard."""

    LENGTH = "length"
    UNKNOWN = "unknown"
    """A window that is not the named revision's, nor anyone's."""
    FOREIGN = "foreign"
    """A window of another revision."""
    PILOT = "pilot"
    """The tones of the two halves say another revision than the name."""
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """How one revision says one text.

    Attributes
    ----------
    samples
        `(samples,) float32`.
    pilots_hz
        Half of the model to the frequency of its pilot tone; empty for engines without.
    """

    revision: str
    samples: Samples
    rate_hz: int
    pilots_hz: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault in one answer."""

    fault: Fault
    at_s: float
    message: str


@dataclass(slots=True, kw_only=True)
class MixedCount:
    """What judging many answers came to."""

    judged: int = 0
    windows: int = 0
    mixed: int = 0
    not_comparable: int = 0
    """Answers in a lossy format; not judged."""
    distinct_answers: int = 0
    findings: list[str] = field(default_factory=list)
    """The first twenty, for people."""


def judge(samples: Samples, *, named: Rendering, others: Sequence[Rendering]) -> Finding | None:
    """Judge one answer against its own revision's rendering and those of all others.

    Parameters
    ----------
    samples
        `(samples,) float32` at `named.rate_hz`.

    Returns
    -------
    Finding or None
        The first fault, or None when each window is the named revision's and no one else's.
    """
    if len(samples) != len(named.samples):
        return Finding(
            fault=Fault.LENGTH,
            at_s=min(len(samples), len(named.samples)) / named.rate_hz,
            message=f"{len(samples)} samples, where {named.revision[:10]} makes {len(named.samples)}",
        )
    own = window_distances(samples, named.samples, named.rate_hz)
    foreign = {other.revision: window_distances(samples, other.samples, named.rate_hz) for other in others}
    for window, distance in enumerate(own):
        at_s = window * WINDOW_S
        if distance > NEAR:
            return _name_fault(at_s, float(distance), {name: float(far[window]) for name, far in foreign.items()})
        close = [o for o in others if foreign[o.revision][window] < TIMES_FURTHER * max(distance, QUANTUM)]
        finding = _judge_pilots(samples, at_s=at_s, named=named, others=close) if close else None
        if finding is not None:
            return finding
    return None


def window_distances(samples: Samples, rendering: Samples, rate_hz: int) -> NDArray[np.float64]:
    """Largest difference in each 100 ms window, `(windows,) float64`; infinite beyond the rendering's end."""
    size = round(WINDOW_S * rate_hz)
    count = -(-len(samples) // size)
    difference = np.full(count * size, np.nan)
    shared = min(len(samples), len(rendering))
    difference[:shared] = np.abs(samples[:shared].astype(np.float64) - rendering[:shared])
    difference[shared : len(samples)] = np.inf
    padded = np.where(np.isnan(difference), 0.0, difference).reshape(count, size)
    return np.asarray(padded.max(axis=1), dtype=np.float64)


def tone_amplitude(samples: Samples, frequency_hz: float, rate_hz: int) -> float:
    """Amplitude of one frequency in a stretch of sound, through a Hann window."""
    window = np.hanning(len(samples))
    phase = np.exp(-2j * np.pi * frequency_hz / rate_hz * np.arange(len(samples)))
    return float(2 * abs(np.sum(samples * window * phase)) / max(float(window.sum()), 1.0))


def heard_pilots(window: Samples, rate_hz: int, candidates: Mapping[str, Sequence[float]]) -> dict[str, float | None]:
    """Which of the candidate tones sounds in each half; None where none is above the floor."""
    heard: dict[str, float | None] = {}
    for half, frequencies in candidates.items():
        strength, frequency = max((tone_amplitude(window, hz, rate_hz), hz) for hz in frequencies)
        heard[half] = frequency if strength >= PILOT_FLOOR else None
    return heard


def judge_pilots(samples: Samples, *, named: Rendering, others: Sequence[Rendering]) -> Finding | None:
    """Judge by the pilot tones alone, window by window: needs no rendering of the text."""
    size = round(WINDOW_S * named.rate_hz)
    for begin in range(0, len(samples) - size // 2, size):
        finding = _judge_pilots(samples, at_s=begin / named.rate_hz, named=named, others=others)
        if finding is not None:
            return finding
    return None


def inject_faults(one: Samples, other: Samples, rate_hz: int) -> Samples:
    """An answer that begins as one version and, in the middle of `one`, goes on as the other."""
    middle = min(len(one) // 2 // round(WINDOW_S * rate_hz) * round(WINDOW_S * rate_hz), len(other) - 1)
    return np.concatenate([one[:middle], other[middle:]])


def judge_records(
    records: Sequence[Record],
    *,
    shots: Sequence[Shot],
    spool: Path,
    renderings: Callable[[Shot, str], Sequence[Rendering]],
) -> MixedCount:
    """Judge every complete answer of a run; equal answers are judged once and counted each.

    Parameters
    ----------
    renderings
        Gives all revisions' renderings of what a shot says, the named revision (second argument) among them.
    """
    count = MixedCount()
    verdicts: dict[tuple[int, str, str], Finding | None] = {}
    for record in records:
        shot = shots[record.shot]
        if not record.ok:
            continue
        if shot.response_format not in COMPARABLE_FORMATS:
            count.not_comparable += 1
            continue
        key = (record.shot, record.revision, record.digest)
        if key not in verdicts:
            verdicts[key] = _judge_spooled(key, shot, spool=spool, renderings=renderings(shot, record.revision))
        finding = verdicts[key]
        count.judged += 1
        count.windows += max(1, round(record.size_bytes / 2 / 24_000 / WINDOW_S))
        if finding is not None:
            count.mixed += 1
            if len(count.findings) < 20:
                where = f"{shot.voice} {shot.text!r} as {record.revision[:10]} at {finding.at_s:.1f} s"
                count.findings.append(f"{finding.fault}: {where}: {finding.message}")
    count.distinct_answers = len(verdicts)
    return count


# --- parts of a judgement -------------------------------------------------------------------------------------------


def _name_fault(at_s: float, own: float, foreign: Mapping[str, float]) -> Finding:
    nearest = min(foreign, key=lambda name: foreign[name], default=None)
    if nearest is not None and foreign[nearest] <= NEAR:
        return Finding(
            fault=Fault.FOREIGN, at_s=at_s, message=f"this window is {nearest[:10]}'s, {own:.2g} off its own"
        )
    return Finding(fault=Fault.UNKNOWN, at_s=at_s, message=f"{own:.2g} off its own revision and nobody else's either")


def _judge_pilots(samples: Samples, *, at_s: float, named: Rendering, others: Sequence[Rendering]) -> Finding | None:
    size = round(WINDOW_S * named.rate_hz)
    begin = max(0, min(round(at_s * named.rate_hz), len(samples) - size))  # a short tail is heard with what precedes it
    window = samples[begin : begin + size]
    candidates = {
        half: sorted({hz, *(o.pilots_hz[half] for o in others if half in o.pilots_hz)})
        for half, hz in named.pilots_hz.items()
    }
    if len(window) < size // 2:
        return None
    for half, heard in heard_pilots(window, named.rate_hz, candidates).items():
        if heard != named.pilots_hz[half]:
            told = "no pilot tone" if heard is None else f"the pilot tone of {heard:.0f} Hz"
            message = f"{half} half has {told}, its own is {named.pilots_hz[half]:.0f} Hz"
            return Finding(fault=Fault.PILOT, at_s=at_s, message=message)
    return None


def _judge_spooled(
    key: tuple[int, str, str], shot: Shot, *, spool: Path, renderings: Sequence[Rendering]
) -> Finding | None:
    index, revision, digest = key
    named = next((rendering for rendering in renderings if rendering.revision == revision), None)
    if named is None:
        return Finding(fault=Fault.UNKNOWN, at_s=0.0, message="a revision that was never resident")
    body = (spool / spool_name(index, revision=revision, digest=digest)).read_bytes()
    try:
        samples, rate_hz = decode(body, response_format=shot.response_format)
    except UnreadableAudio as error:
        return Finding(fault=Fault.UNREADABLE, at_s=0.0, message=str(error))
    if rate_hz != named.rate_hz:
        return Finding(fault=Fault.UNREADABLE, at_s=0.0, message=f"{rate_hz} Hz, not {named.rate_hz} Hz")
    others = [rendering for rendering in renderings if rendering.revision != revision]
    return judge(samples, named=named, others=others)
