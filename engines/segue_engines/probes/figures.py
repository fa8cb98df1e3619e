"""What probes say: figures per sentence, figures of the voice, gates, and the report that carries them.

Separate from the measuring so that a report can be kept, sent, compared and printed where no audio is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What a revision must show. `None` means: no limit of this kind (`min_similarity`: calibrated from the reference).

    Attributes
    ----------
    min_similarity
        Cosine of all cases together to the reference, 0 to 1.
    min_pass_ratio
        Share of (case, seed) pairs that pass every gate of their own, 0 to 1.
    max_text_error_rate
        Phone errors per phone, of one utterance.
    max_text_error_rise
        Phone errors per phone, of all utterances together, over the active revision.
    min_duration_ratio, max_duration_ratio
        Seconds per phone over the active revision's, for the same text.
    max_inner_silence_s, max_trailing_silence_s
        Seconds.
    max_clipped_share
        Share of samples at full scale.
    max_bandwidth_loss
        Fall of the 95 % roll-off below the active revision's, as a fraction.
    max_bandwidth_loss_to_reference
        The same below the reference's, for a first revision: no model speaks as wide as a recording.
    max_loudness_delta_lu, max_pitch_delta_st, max_pace_delta
        Continuity with the active revision: LU, semitones, fraction of seconds per phone. Beyond them a revision has
        drifted: it is held for a person, not refused.
    """

    min_similarity: float | None = 0.9
    min_pass_ratio: float = 0.99
    max_text_error_rate: float = 0.3
    max_text_error_rise: float = 0.1
    min_duration_ratio: float = 0.7
    max_duration_ratio: float = 1.4
    max_inner_silence_s: float = 0.8
    max_trailing_silence_s: float = 1.0
    max_clipped_share: float = 0.001
    max_bandwidth_loss: float = 0.25
    max_bandwidth_loss_to_reference: float = 0.4
    max_loudness_delta_lu: float | None = 2.0
    max_pitch_delta_st: float | None = 1.0
    max_pace_delta: float | None = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFigures:
    """What was measured on one sentence with one seed. `None`: could not be measured.

    Attributes
    ----------
    error
        What the engine raised; the figures are empty then.
    seconds
        Audio made.
    phones
        Phones of the text, pauses not counted.
    text_error_rate
        Phone errors per phone; `None` where the phones are not English ones.
    seconds_per_phone
        From first to last speech.
    inner_silence_s, trailing_silence_s
        Longest silence inside, silence at the end.
    synthesis_s
        Time the engine took.
    failed_gates
        Names of the gates that this sentence did not pass; filled in by the judge.
    """

    text: str
    language: str
    seed: int
    error: str | None = None
    seconds: float = 0.0
    phones: int = 0
    finite: bool = True
    capped: bool = False
    looped: bool = False
    text_error_rate: float | None = None
    seconds_per_phone: float | None = None
    inner_silence_s: float | None = None
    trailing_silence_s: float | None = None
    clipped_share: float | None = None
    synthesis_s: float = 0.0
    failed_gates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFigure:
    """What a pluggable scorer said. `figure` is `None` when nothing was measured, and `reason` says why."""

    name: str
    figure: float | None = None
    reason: str = ""
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceFigures:
    """What was measured on all sentences together. `None`: could not be measured.

    Attributes
    ----------
    speech_s, reference_speech_s
        Seconds of speech that the similarity stands on.
    similarity
        Cosine to the reference, `None` with less than ten seconds of speech or without a reference.
    text_error_rate
        Phone errors per phone over all sentences.
    loudness_lufs, pitch_hz, seconds_per_phone, rolloff_hz
        Integrated loudness, median fundamental, pace, 95 % roll-off.
    reference_rolloff_hz
        The reference's.
    """

    speech_s: float = 0.0
    reference_speech_s: float | None = None
    similarity: float | None = None
    text_error_rate: float | None = None
    loudness_lufs: float | None = None
    pitch_hz: float | None = None
    seconds_per_phone: float | None = None
    rolloff_hz: float | None = None
    reference_rolloff_hz: float | None = None
    scores: tuple[ScoreFigure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineFigures:
    """The active revision's figures, which a candidate is compared with."""

    voice: VoiceFigures
    seconds_per_phone_by_text: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` reads it."""
        return {"voice": asdict(self.voice), "seconds_per_phone_by_text": dict(self.seconds_per_phone_by_text)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BaselineFigures:
        """Read what `to_json` wrote."""
        return cls(
            voice=_voice_from_json(data["voice"]),
            seconds_per_phone_by_text=dict(data["seconds_per_phone_by_text"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """One figure against its limit.

    Attributes
    ----------
    name
        `similarity`, `passRatio`, `textMatch`, `textMatchAll`, `duration`, `loops`, `silence`, `trailingSilence`,
        `clipping`, `bandwidth`, `finite`, `cap`, `synthesis`, a scorer's name; of continuity: `loudness`, `pitch`,
        `pace`.
    passed
        `None`: not measured.
    message
        For people, with figures.
    """

    name: str
    passed: bool | None
    figure: float | None = None
    limit: float | None = None
    unit: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """What probes found about a revision, and whether it may speak.

    Attributes
    ----------
    passed
        No gate failed. Gates that were not measured are listed with the reason and do not fail, except similarity
        where there is a reference: what cannot be proven is not let out.
    gates
        Each gate once.
    continuity
        Drift from the active revision; `passed` False means held, not refused.
    reasons
        One sentence for each failed gate.
    synthesis_s, measuring_s
        Time that engine and probes took.
    """

    passed: bool
    pass_ratio: float
    voice: VoiceFigures
    cases: tuple[CaseFigures, ...]
    gates: tuple[GateResult, ...]
    continuity: tuple[GateResult, ...] = ()
    reasons: tuple[str, ...] = ()
    thresholds: Thresholds = Thresholds()
    synthesis_s: float = 0.0
    measuring_s: float = 0.0

    @property
    def similarity(self) -> float | None:
        """Cosine to the reference."""
        return self.voice.similarity

    @property
    def drifted(self) -> bool:
        """Whether any continuity limit is exceeded."""
        return any(gate.passed is False for gate in self.continuity)

    def baseline(self) -> BaselineFigures:
        """This revision's figures as what the next one is compared with."""
        paces: dict[str, list[float]] = {}
        for case in self.cases:
            if case.seconds_per_phone is not None:
                paces.setdefault(case.text, []).append(case.seconds_per_phone)
        means = {text: sum(values) / len(values) for text, values in paces.items()}
        return BaselineFigures(voice=self.voice, seconds_per_phone_by_text=means)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProbeReport:
        """Read what `to_json` wrote."""
        return cls(
            **{
                **data,
                "voice": _voice_from_json(data["voice"]),
                "cases": tuple(
                    CaseFigures(**{**case, "failed_gates": tuple(case["failed_gates"])}) for case in data["cases"]
                ),
                "gates": _gates_from_json(data["gates"]),
                "continuity": _gates_from_json(data["continuity"]),
                "reasons": tuple(data["reasons"]),
                "thresholds": Thresholds(**data["thresholds"]),
            }
        )


def _voice_from_json(data: Mapping[str, Any]) -> VoiceFigures:
    return VoiceFigures(**{**data, "scores": tuple(ScoreFigure(**score) for score in data["scores"])})


def _gates_from_json(data: Sequence[Mapping[str, Any]]) -> tuple[GateResult, ...]:
    return tuple(GateResult(**gate) for gate in data)
