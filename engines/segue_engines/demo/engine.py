"""The demo engine: small English voices in numpy, for a newcomer's first minute and for every test of the data plane.

A voice is two files, `prosody` and `timbre`, on purpose: a server that mixes halves of two versions is the fault that
Segue exists to prevent, so the demo voices are built to make that fault audible. Each half stores the frequency of a
pilot tone, 60 dB below full scale, which the synthesizer adds to what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segue.engine import Device, PartView, PreparedVoice, PrepareOptions, Row, SynthesisRequest, VoiceView
from segue.errors import InvalidVoiceModel, OptionRejected, TextRejected, WeightsError
from segue_engines.demo import vocoder
from segue_engines.demo.allocator import keep_freed_memory
from segue_engines.demo.network import Prosody, Timbre, joined, parted, stack
from segue_engines.demo.places import token_places
from segue_engines.demo.row import DemoRow, lay_out
from segue_engines.demo.text import read_text
from segue_engines.demo.weights import PROSODY, TIMBRE, check_halves, read_half

_OPTIONS: Final = frozenset({"language", "speed"})
_SLOWEST, _FASTEST = 0.25, 4.0
_FRAMES_TOGETHER: Final = 700
"""Rows share a matrix product up to this size: more gains nothing once the arrays leave the processor's cache."""


class DemoEngine:
    """Prepares and builds demo voices."""

    @property
    def name(self) -> str:
        """As in `spec.engine`."""
        return "demo"

    @property
    def build_id(self) -> str:
        """Raised whenever the same weights would sound different."""
        return "demo-1"

    @property
    def weight_names(self) -> tuple[str, ...]:
        """The keys of `spec.weights`."""
        return (PROSODY, TIMBRE)

    def prepare(self, files: Mapping[str, Path], options: PrepareOptions) -> PreparedVoice:
        """Read and check both halves.

        Raises
        ------
        WeightsError
            Unsafe, corrupt, missing or wrongly shaped files.
        InvalidVoiceModel
            `spec.options` that this engine does not have.
        """
        _check_options(options.options)
        if set(files) != set(self.weight_names):
            raise WeightsError(f"a demo voice needs the weights {list(self.weight_names)}; given were {sorted(files)}")
        parts = {half: read_half(files[half], half, options) for half in self.weight_names}
        check_halves(parts[PROSODY], parts[TIMBRE])
        return PreparedVoice(parts=parts)

    def build(self, voice: VoiceView, device: Device) -> DemoSynthesizer:
        """Build on the views given; nothing is copied."""
        if device.name != "cpu":
            raise WeightsError(f"the demo engine runs on the cpu only; asked for {device.name!r}")
        _check_options(voice.options)
        keep_freed_memory()
        return DemoSynthesizer(voice)


class DemoSynthesizer:
    """One demo voice, ready to speak."""

    def __init__(self, voice: VoiceView) -> None:
        prosody, timbre = voice.parts[PROSODY], voice.parts[TIMBRE]
        self._parts: dict[str, PartView] = {PROSODY: prosody, TIMBRE: timbre}
        self._prosody: Prosody | None = Prosody(
            weights=prosody.tensors,
            encoder=stack(prosody.tensors, "encoder", prosody.meta["encoder_dilations"]),
            pitch=stack(prosody.tensors, "pitch", prosody.meta["pitch_dilations"]),
        )
        self._timbre: Timbre | None = Timbre(
            weights=timbre.tensors, decoder=stack(timbre.tensors, "decoder", timbre.meta["decoder_dilations"])
        )
        self._speed = float(voice.options.get("speed", 1.0))
        self._pitch_mean = float(prosody.meta["pitch_mean"])
        self._pitch_std = float(prosody.meta["pitch_std"])
        self._pilots_hz = (float(prosody.meta["pilot_hz"]), float(timbre.meta["pilot_hz"]))

    @property
    def sample_rate(self) -> int:
        """24,000 Hz."""
        return vocoder.RATE_HZ

    @property
    def pilots_hz(self) -> tuple[float, float]:
        """Frequencies of the pilot tones of the prosody and the timbre half."""
        return self._pilots_hz

    def parameters(self) -> Mapping[str, NDArray[Any]]:
        """Every array that this synthesizer computes with, by `part.name`, to check that it lies in its arena."""
        prosody, timbre = self._halves()
        used: dict[str, NDArray[Any]] = {}
        for name, half, stacks in (
            (PROSODY, prosody.weights, {"encoder": prosody.encoder, "pitch": prosody.pitch}),
            (TIMBRE, timbre.weights, {"decoder": timbre.decoder}),
        ):
            used |= {f"{name}.{key}": array for key, array in half.items()}
            for stack_name, blocks in stacks.items():
                for place, layer in enumerate(blocks.layers):
                    used |= {f"{name}.{stack_name}.{place}.{key}": array for key, array in layer.items()}
        return used

    def admit(self, request: SynthesisRequest) -> DemoRow:
        """Read the text and make a row.

        Raises
        ------
        TextRejected
            The text cannot be read, or its language is not English.
        OptionRejected
            Options or a reference: the demo engine has none that a request may set.
        """
        for option in (*request.options, *(["reference"] if request.reference is not None else [])):
            raise OptionRejected(
                f"the demo engine has no option {option!r} for requests: its voices speak as they were trained",
                option=option,
            )
        if request.language.lower().partition("-")[0] not in ("en", "auto", ""):
            raise TextRejected(
                f"this voice reads English, not {request.language!r}: set language to 'en'", span=(0, len(request.text))
            )
        speed = float(np.clip(self._speed * request.speed, _SLOWEST, _FASTEST))
        return DemoRow(request, read_text(request.text), speed=speed)

    def step(self, rows: Sequence[Row]) -> None:
        """Advance each row by one piece, all in one batch; an error stays in its row."""
        mine = [row for row in rows if isinstance(row, DemoRow) and not row.done]
        for row in mine:
            if row.plan is None:
                self._together(self._plan, [row])
        ready = [row for row in mine if row.plan is not None]
        for group in _grouped(ready, [row.piece_frames for row in ready], budget=_FRAMES_TOGETHER):
            self._together(self._speak, group)

    def close(self) -> None:
        """Drop every view into the arena."""
        self._parts.clear()
        self._prosody = None
        self._timbre = None

    def _together(self, work: Callable[[Sequence[DemoRow]], None], rows: Sequence[DemoRow]) -> None:
        """Do a batch; if it fails, do its rows one by one, so that only the culprit fails.

        `work` may therefore see a row again that it had finished before another one failed.
        """
        if not rows:
            return
        try:
            work(rows)
        except Exception as error:  # noqa: BLE001 - the boundary between rows: one row must not stop the others
            if len(rows) == 1:
                rows[0].fail(error)
                return
            for row in rows:
                self._together(work, [row])

    def _plan(self, rows: Sequence[DemoRow]) -> None:
        """Give each row its next sentence: encode it, lay out its durations, draw its pitch contour.

        Each by itself: products of matrices of another size are rounded otherwise, the phase of the pulses adds these
        errors up from sample to sample, and a duration may round to another frame. What is planned alone is the same
        to the last bit whoever else speaks; what is spoken together differs by single roundings.
        """
        prosody, _ = self._halves()
        for row in rows:
            sentence = row.upcoming
            places = token_places(sentence.ids, sentence.word_starts)
            hidden, lengths = prosody.encode(np.array(sentence.ids), places)
            timing = lay_out(lengths, speed=row.speed)
            contour = prosody.contour(hidden[timing.owner[::2]], timing.places[::2])
            row.begin(hidden, timing, contour, pitch_mean=self._pitch_mean, pitch_std=self._pitch_std)

    def _speak(self, rows: Sequence[DemoRow]) -> None:
        """Turn the next piece of each row into sound."""
        _, timbre = self._halves()
        pieces = [(row, plan, *row.piece()) for row in rows if (plan := row.plan) is not None]
        halo = timbre.decoder.halo
        spans = [slice(max(first - halo, 0), last + halo) for _, _, first, last in pieces]
        spectra = timbre.spectra(
            [plan.hidden[plan.owner[span]] for (_, plan, _, _), span in zip(pieces, spans, strict=True)],
            [plan.places[span] for (_, plan, _, _), span in zip(pieces, spans, strict=True)],
            [plan.pitch[span] for (_, plan, _, _), span in zip(pieces, spans, strict=True)],
        )
        envelopes: list[NDArray[np.float32]] = []
        breaths: list[NDArray[np.float32]] = []
        for (_, plan, first, last), span, (envelope, aperiodicity) in zip(pieces, spans, spectra, strict=True):
            kept = slice(first - span.start, last - span.start)
            voicing = plan.voicing[first:last, None]
            envelopes.append(envelope[kept])
            breaths.append(np.sqrt(1.0 - voicing * (1.0 - aperiodicity[kept] ** 2)))
        sources = [row.sources(first, last) for row, _, first, last in pieces]
        shaped = vocoder.filtered(
            joined([train for train, _ in sources]),
            joined([breath for _, breath in sources]),
            envelope=joined(envelopes),
            aperiodicity=joined(breaths),
        )
        lengths = [last - first for _, _, first, last in pieces]
        for (row, _, _, last), part in zip(pieces, parted(shaped, lengths), strict=True):
            row.absorb(last, part, pilots_hz=self._pilots_hz)

    def _halves(self) -> tuple[Prosody, Timbre]:
        if self._prosody is None or self._timbre is None:
            raise RuntimeError("this synthesizer was closed")
        return self._prosody, self._timbre


def _grouped(rows: Sequence[DemoRow], sizes: Sequence[int], *, budget: int) -> Iterator[list[DemoRow]]:
    """Part rows, in order, into groups whose sizes add up to at most `budget` (or a single larger row)."""
    group: list[DemoRow] = []
    total = 0
    for row, size in zip(rows, sizes, strict=True):
        if group and total + size > budget:
            yield group
            group, total = [], 0
        group.append(row)
        total += size
    if group:
        yield group


def _check_options(options: Mapping[str, Any]) -> None:
    if unknown := sorted(set(options) - _OPTIONS):
        raise InvalidVoiceModel(
            f"the demo engine has no option {unknown[0]!r}; it has {sorted(_OPTIONS)}",
            field=f"spec.options.{unknown[0]}",
        )
    speed = options.get("speed", 1.0)
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not _SLOWEST <= speed <= _FASTEST:
        raise InvalidVoiceModel(
            f"speed is {speed!r}; expected a number from {_SLOWEST} to {_FASTEST}", field="spec.options.speed"
        )
    language = options.get("language", "en")
    if not isinstance(language, str) or language.lower().partition("-")[0] != "en":
        raise InvalidVoiceModel(
            f"language is {language!r}; the demo voices speak 'en' only", field="spec.options.language"
        )
