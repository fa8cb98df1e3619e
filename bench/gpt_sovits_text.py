"""How fast the text front end of GPT-SoVITS voices reads, and what each language costs to load.

Separate from the bench of the engine because it needs neither torch nor weights. Each language is measured in a process
of its own, so that its memory and its first text are its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from resource import getpagesize
from statistics import median

from bench.table import Options, at_least, at_most, note, parse_options, print_lines
from segue.errors import TextRejected
from segue_cli.measure.environment import environment, write_report
from segue_engines.gpt_sovits.text import Cut, TextFrontEnd

TEXTS = {
    "en": "The quick brown fox jumped over 13 lazy dogs on March 5, 2024. Dr. Smith paid $3.50, and nobody asked why. ",
    "zh": "今天是2024年3月5日，天气很好，我们一起去公园散步。他花了35.5元买了书。银行行长说重庆很重要。",
    "ja": "今日は2024年3月5日です。天気がいいから、公園へ行きましょう。彼は千円で本を二冊買った。",
    "ko": "오늘은 2024년 3월 5일입니다. 날씨가 좋다. 그는 12,000원으로 책 2권을 샀지만 아직 읽지 않았다. ",
    "yue": "今日係2024年3月5日，天氣好好，我哋一齊去公園散步啦。佢用咗35.5元買咗兩本書，仲未睇完。",
    "auto": "我用iPhone 15打电话，听music。今日はいい天気ですね。오늘은 meeting이 있다. Nobody knows why. ",
}
"""A few sentences of each language, with what has to be written out in it."""

CHARACTERS_PER_S = {"en": 20_000, "zh": 6_000, "ja": 2_000, "ko": 15_000, "yue": 8_000, "auto": 4_000}
"""What is promised: 300 times the pace of speech and more. `auto` mixes four languages in each sentence."""

ODD = ("1", "一", "風", "ー", "뷁", "1%", "1+1=", "http://a.b/ ", "$1", "中aあ한", "😀", "a\u0301", "。！", "人々")
"""Units of long texts that nobody writes but an attacker."""
ODD_CHARACTERS = 10_000
MAX_ODD_S = 20.0
MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What one language costs."""

    warm_up_s: float
    memory_mb: float
    characters_per_s: float
    sentence_ms: float


def measure(language: str, rounds: int) -> Pace:
    """Load a language and read its text, alone and five thousand characters of it."""
    text = TEXTS[language]
    front_end = TextFrontEnd()
    memory = _resident_bytes()
    warm_up_s = _seconds(lambda: front_end.read_target(text, language=language))
    memory = _resident_bytes() - memory
    long = text * (5000 // len(text))
    best_s = min(_seconds(lambda: front_end.read_target(long, language=language)) for _ in range(rounds))
    one_s = median(_seconds(lambda: front_end.read_target(text, language=language)) for _ in range(20 * rounds))
    return Pace(
        warm_up_s=warm_up_s,
        memory_mb=memory / MB,
        characters_per_s=len(long) / best_s,
        sentence_ms=one_s * 1e3,
    )


def measure_odd(units: Sequence[str]) -> float:
    """Seconds of the slowest ten thousand characters of one of the units."""
    front_end = TextFrontEnd()
    slowest = 0.0
    for language in ("auto", "zh", "ja", "en"):
        front_end.warm_up(language)
        for unit in units:
            text = (unit * ODD_CHARACTERS)[:ODD_CHARACTERS]
            slowest = max(slowest, _seconds_or_refused(front_end, text, language=language))
    return slowest


def _seconds_or_refused(front_end: TextFrontEnd, text: str, *, language: str) -> float:
    started = time.perf_counter()
    with suppress(TextRejected):
        front_end.read_target(text, language=language, cut=Cut.NONE)
    return time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 where a promise is broken."""
    options: Options = parse_options("gpt_sovits_text", arguments)
    measured_in = environment()
    rounds = 2 if options.short else 10
    paces = {language: _alone(language, rounds) for language in TEXTS}
    slowest_s = measure_odd(ODD[::4] if options.short else ODD)
    figures = {
        "characters_per_s": {language: pace.characters_per_s for language, pace in paces.items()},
        "first_text_s": {language: pace.warm_up_s for language, pace in paces.items()},
        "memory_mb": {language: pace.memory_mb for language, pace in paces.items()},
        "text_ms": {language: pace.sentence_ms for language, pace in paces.items()},
        "slowest_10k_characters_s": slowest_s,
    }
    write_report(options.out / "gpt_sovits_text.json", figures, measured_in)
    lines = [
        at_least(
            f"{language}: characters a second",
            round(pace.characters_per_s),
            CHARACTERS_PER_S[language],
            needs_full=True,
        )
        for language, pace in paces.items()
    ]
    lines += [note(f"{language}: first text", _costs(pace)) for language, pace in paces.items()]
    lines.append(at_most("slowest 10,000 odd characters", slowest_s, MAX_ODD_S, unit=" s"))
    return 0 if print_lines("gpt_sovits_text", lines, short=options.short) else 1


def _costs(pace: Pace) -> str:
    return f"{pace.warm_up_s:.2f} s, {pace.memory_mb:.0f} MB, {pace.sentence_ms:.2f} ms"


def _alone(language: str, rounds: int) -> Pace:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, language, rounds).result()


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


if __name__ == "__main__":
    sys.exit(main())
