"""`python -m bench gpt_sovits`: tokens a second, the decoder's real-time factor, first sound, memory; and the peer's.

Both engines have the same weights and texts, one torch thread, and are measured in turns in this process, so that a
slow minute of the machine meets both. The peer has what suits it best: a cache just as long as what is said, batches as
large as the rows, and texts of one length.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any, Final

import torch
from rich.table import Table

from bench.gpt_sovits import measures, peer
from bench.gpt_sovits.voices import (
    PROMPT_TOKENS,
    REFERENCE_PHONES,
    TEXT_PHONES,
    PhonesGiven,
    parts,
    reference,
    utterance,
    weight_files,
)
from bench.table import CONSOLE, Line, at_least, at_most, note, parse_options, print_lines, tell
from segue.engine import Device
from segue_cli.measure.environment import environment, write_report
from segue_engines.gpt_sovits.engine import GptSovitsEngine
from segue_engines.gpt_sovits.sovits.network import SAMPLE_RATE
from segue_engines.gpt_sovits.sovits.packing import DecoderDtype
from segue_engines.gpt_sovits.t2s.packing import T2SDtype

BATCHES: Final = (1, 4, 16)
PROMISED_RATIOS: Final = {1: 1.2, 16: 4.0}
PROMISED_BYTES: Final = 1.1
THREADS: Final = 1
_PEER: Final = "peer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How long each step lasts."""

    tokens: int
    rounds: int
    streams: int


FULL = Size(tokens=measures.CODES, rounds=3, streams=3)
SHORT = Size(tokens=24, rounds=1, streams=2)


@dataclass(slots=True)
class Figures:
    """What was measured; `None` where the peer could not be had."""

    tokens_per_s: dict[str, dict[str, float]] = field(default_factory=dict)
    peer_tokens_per_s: dict[str, float] = field(default_factory=dict)
    bare_per_s: dict[str, float] = field(default_factory=dict)
    decoder_rtf: dict[str, float] = field(default_factory=dict)
    peer_decoder_rtf: float | None = None
    first_audio_s: dict[str, float] = field(default_factory=dict)
    stream_rtf: dict[str, float] = field(default_factory=dict)
    bytes_over_file: dict[str, float] = field(default_factory=dict)

    def ratio(self, batch: int, dtype: T2SDtype) -> float | None:
        """Ours over the peer's."""
        theirs = self.peer_tokens_per_s.get(str(batch))
        return self.tokens_per_s[dtype][str(batch)] / theirs if theirs else None

    def best(self, batch: int) -> tuple[float | None, T2SDtype]:
        """The best ratio of any type whose tolerance the tests hold, and the type."""
        ratios = {dtype: self.ratio(batch, dtype) for dtype in T2SDtype}
        dtype = max(T2SDtype, key=lambda each: ratios[each] or 0.0)
        return ratios[dtype], dtype

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "threads": THREADS,
            "peer": f"gsv-tts-lite {peer.VERSION}" if self.peer_tokens_per_s else None,
            "t2s_tokens_per_s": self.tokens_per_s[T2SDtype.FP32],
            "t2s_tokens_per_s_by_dtype": self.tokens_per_s,
            "peer_t2s_tokens_per_s": self.peer_tokens_per_s,
            "peer_ratio": {str(batch): self.best(batch)[0] for batch in BATCHES},
            "peer_ratio_of": {str(batch): self.best(batch)[1] for batch in BATCHES},
            "peer_ratio_by_dtype": {
                dtype: {str(batch): self.ratio(batch, dtype) for batch in BATCHES} for dtype in T2SDtype
            },
            "bare_fp32_products_tokens_per_s": self.bare_per_s,
            "decoder_rtf": self.decoder_rtf[DecoderDtype.FP32],
            "decoder_rtf_by_dtype": self.decoder_rtf,
            "peer_decoder_rtf": self.peer_decoder_rtf,
            "decoder_peer_ratio_by_dtype": {
                dtype: self.peer_decoder_rtf / rtf if self.peer_decoder_rtf else None
                for dtype, rtf in self.decoder_rtf.items()
            },
            "first_audio_s": self.first_audio_s[T2SDtype.FP32],
            "first_audio_s_by_dtype": self.first_audio_s,
            "stream_rtf": self.stream_rtf[T2SDtype.FP32],
            "stream_rtf_by_dtype": self.stream_rtf,
            "bytes_over_file": self.bytes_over_file[T2SDtype.FP32],
            "bytes_over_file_by_dtype": self.bytes_over_file,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; 0 when every promise holds."""
    options = parse_options("gpt_sovits", arguments)
    torch.set_num_threads(THREADS)
    measured_in = environment() | {"torch": torch.__version__, "isa": torch.backends.cpu.get_cpu_capability()}
    size = SHORT if options.short else FULL
    tell("making 145 million weights")
    weight_files()
    other = _peer(size)
    figures = Figures()
    _memory(figures)
    _decoding(figures, size, other)
    _streaming(figures, size)
    _tokens(figures, size, other)
    write_report(options.out / "gpt_sovits.json", figures.as_json(), measured_in)
    CONSOLE.print(_table(figures))
    return 0 if print_lines("gpt-sovits on one core", _lines(figures), short=options.short) else 1


def _peer(size: Size) -> peer.Peer | None:
    folder = peer.installed()
    if folder is None:
        tell("the peer cannot be installed here: measuring without it")
        return None
    positions = REFERENCE_PHONES + TEXT_PHONES + PROMPT_TOKENS + size.tokens
    return peer.Peer(folder, weight_files(), positions=positions, batches=BATCHES)


def _memory(figures: Figures) -> None:
    for dtype in T2SDtype:
        figures.bytes_over_file[dtype] = measures.bytes_over_file(parts(dtype))


def _decoding(figures: Figures, size: Size, other: peer.Peer | None) -> None:
    tell("decoding, in turns")
    decoder, known = measures.Decoder(parts()), reference()
    codes, phones = torch.arange(measures.CODES) * 7 % 1024, torch.arange(1, TEXT_PHONES)

    def theirs() -> float:
        assert other is not None
        assert known.speaker is not None
        return other.real_time_factor(codes, phones, known.spectrogram, known.speaker)

    turns: dict[str, Callable[[], float]] = {
        DecoderDtype.FP32: decoder.real_time_factor,
        DecoderDtype.BF16: measures.Decoder(parts(decoder=DecoderDtype.BF16)).real_time_factor,
    }
    if other is not None:
        turns[_PEER] = theirs
    medians = _in_turns(turns, rounds=size.rounds)
    figures.peer_decoder_rtf = medians.pop(_PEER, None)
    figures.decoder_rtf = medians


def _streaming(figures: Figures, size: Size) -> None:
    tell("streams")
    engine = GptSovitsEngine(front_end=PhonesGiven())
    for dtype, decoder in ((T2SDtype.FP32, DecoderDtype.FP32), (T2SDtype.BF16, DecoderDtype.BF16)):
        voice = engine.build(measures.view_of_parts(parts(dtype, decoder)), Device(threads=THREADS))
        measures.first_audio_s(voice, seed=0)
        times = [measures.first_audio_s(voice, seed=seed) for seed in range(size.streams)]
        figures.first_audio_s[dtype] = median(times)
        figures.stream_rtf[dtype] = measures.chunked_real_time_factor(voice, seed=1, samples=3 * SAMPLE_RATE)
        voice.close()


def _tokens(figures: Figures, size: Size, other: peer.Peer | None) -> None:
    positions = REFERENCE_PHONES + TEXT_PHONES + PROMPT_TOKENS + size.tokens
    speakers = {dtype: measures.Speaker(dtype, slots=max(BATCHES), positions=positions) for dtype in T2SDtype}
    figures.tokens_per_s = {dtype: {} for dtype in T2SDtype}
    for batch in BATCHES:
        tell(f"tokens of {batch} rows, in turns")

        def ours(dtype: T2SDtype, rows: int = batch) -> float:
            return speakers[dtype].tokens_per_s(rows, size.tokens)

        def theirs(rows: int = batch) -> float:
            assert other is not None
            return other.tokens_per_s([utterance(seed) for seed in range(rows)])

        turns: dict[str, Callable[[], float]] = {dtype: partial(ours, dtype) for dtype in T2SDtype}
        if other is not None:
            turns[_PEER] = theirs
        medians = _in_turns(turns, rounds=size.rounds)
        for dtype in T2SDtype:
            figures.tokens_per_s[dtype][str(batch)] = medians[dtype]
        if other is not None:
            figures.peer_tokens_per_s[str(batch)] = medians[_PEER]
        figures.bare_per_s[str(batch)] = speakers[T2SDtype.FP32].bare_products_per_s(batch)


def _in_turns(turns: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, float]:
    """The median of each, measured one after the other, round by round; the first call of each is not counted."""
    for measure in turns.values():
        measure()
    figures = [[measure() for measure in turns.values()] for _ in range(rounds)]
    return dict(zip(turns, map(median, zip(*figures, strict=True)), strict=True))


def _lines(figures: Figures) -> list[Line]:
    lines = []
    for batch, promised in PROMISED_RATIOS.items():
        ratio, dtype = figures.best(batch)
        name = f"tokens of {batch} rows, {dtype}, over the peer's"
        lines.append(note(name, "no peer") if ratio is None else at_least(name, ratio, promised, needs_full=True))
    peers = figures.peer_decoder_rtf
    return [
        *lines,
        note("seconds for a second of sound: decoder, fp32, bf16", _both(figures.decoder_rtf)),
        note("the same, the peer", "no peer" if peers is None else f"{peers:.2f}"),
        note("first sound of a stream, fp32, bf16", _both(figures.first_audio_s) + " s"),
        note("seconds for a second of sound: one stream, tokens and all", _both(figures.stream_rtf)),
        at_most("resident bytes over the tensors' bytes", max(figures.bytes_over_file.values()), PROMISED_BYTES),
    ]


def _both(figures: Mapping[str, float]) -> str:
    return " / ".join(f"{figure:.2f}" for figure in figures.values())


def _table(figures: Figures) -> Table:
    table = Table(title="T2S tokens/s of all rows", title_justify="left", title_style="bold", header_style="dim")
    for column in ("rows", *T2SDtype, "peer (fp32)", "bare fp32 products"):
        table.add_column(str(column), justify="right")
    for batch in map(str, BATCHES):
        mine = [f"{figures.tokens_per_s[dtype][batch]:.1f}" for dtype in T2SDtype]
        peers = figures.peer_tokens_per_s.get(batch)
        table.add_row(batch, *mine, "-" if peers is None else f"{peers:.1f}", f"{figures.bare_per_s[batch]:.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
