"""The timeline of the demo as one inline SVG: latency of every answer, who spoke, and what happened when.

Separate from the page because it is drawing, not text. No script, no library: positions are computed here, colours
come from the page's style sheet, so that it follows light and dark.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from segue_cli.demo.story import Chapter, Mark, MarkKind, Story
from segue_cli.measure.shots import Record

WIDTH = 1120
LEFT = 96
RIGHT = 16
CHAPTERS_TOP = 8
LATENCY_TOP = 92
LATENCY_HEIGHT = 150
LANES_TOP = LATENCY_TOP + LATENCY_HEIGHT + 34
LANE_HEIGHT = 26
BIN_NS = 1_500_000_000
FLOOR_MS = 5.0
MARK_GLYPHS = {
    MarkKind.EDIT: "M-4 -4h8v8h-8z",
    MarkKind.FLIP: "M0 -6L6 0L0 6L-6 0z",
    MarkKind.REFUSAL: "M-5 -5L5 5M5 -5L-5 5",
    MarkKind.BACK: "M5 -5L-5 0L5 5z",
    MarkKind.KILL: "M-6 0A6 6 0 1 0 6 0A6 6 0 1 0 -6 0M-3 -3L3 3M3 -3L-3 3",
}


class Scale:
    """Nanoseconds to pixels, milliseconds to pixels."""

    def __init__(self, story: Story) -> None:
        self.begin_ns = story.traffic_began_ns
        self.end_ns = max(story.ended_ns, story.traffic_began_ns + 1)
        slowest = max((record.latency_ns / 1e6 for record in story.records if record.ok), default=100.0)
        self.top_ms = 10 ** math.ceil(math.log10(max(slowest, 100.0)))

    def x(self, at_ns: int) -> float:
        """Horizontal position of a moment."""
        part = (at_ns - self.begin_ns) / (self.end_ns - self.begin_ns)
        return LEFT + min(max(part, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, latency_ms: float) -> float:
        """Vertical position of a latency, on a log scale."""
        part = math.log(max(latency_ms, FLOOR_MS) / FLOOR_MS) / math.log(self.top_ms / FLOOR_MS)
        return LATENCY_TOP + LATENCY_HEIGHT * (1 - min(part, 1.0))


def draw_timeline(story: Story) -> str:
    """The whole SVG element."""
    scale = Scale(story)
    voices = sorted({shot.voice for shot in story.shots})
    height = LANES_TOP + LANE_HEIGHT * len(voices) + 34
    return "\n".join(
        [
            f'<svg class="timeline" viewBox="0 0 {WIDTH} {height}" role="img" '
            'aria-label="Latency of every answer, the revision that gave it, and what happened, over time">',
            *_chapters(story.chapters, scale, height),
            *_preloads(story, scale),
            *_latency_axis(scale),
            *_dots(story.records, scale),
            *_lanes(story, voices, scale),
            *_marks(story.chapters, scale),
            *_seconds(story, scale, height),
            "</svg>",
        ]
    )


def _chapters(chapters: Sequence[Chapter], scale: Scale, height: int) -> Iterable[str]:
    for number, chapter in enumerate(chapters, 1):
        left, right = scale.x(chapter.began_ns), scale.x(chapter.ended_ns)
        state = "good" if chapter.as_expected else "bad"
        title = escape(f"{chapter.title}: {chapter.outcome}, {chapter.seconds:.1f} s")
        yield (
            f'<g class="chapter {state}"><title>{title}</title>'
            f'<rect x="{left:.1f}" y="{CHAPTERS_TOP}" width="{max(right - left - 2, 2):.1f}" height="22" rx="4"/>'
            f'<text x="{(left + right) / 2:.1f}" y="{CHAPTERS_TOP + 15.5}">{number if right - left > 14 else ""}</text>'
            f'<path class="edge" d="M{left:.1f} {CHAPTERS_TOP + 22}V{height - 24}"/></g>'
        )


def _preloads(story: Story, scale: Scale) -> Iterable[str]:
    for begin, end in story.preloads:
        left, right = scale.x(begin), scale.x(end)
        yield (
            f'<rect class="preload" x="{left:.1f}" y="{LATENCY_TOP}" width="{max(right - left, 1):.1f}" '
            f'height="{LATENCY_HEIGHT}"><title>preload, {(end - begin) / 1e9:.1f} s</title></rect>'
        )


def _latency_axis(scale: Scale) -> Iterable[str]:
    for latency_ms in (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000):
        if latency_ms > scale.top_ms:
            break
        y = scale.y(latency_ms)
        label = f"{latency_ms} ms" if latency_ms < 1000 else f"{latency_ms // 1000} s"
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text class="tick" x="{LEFT - 8}" y="{y + 3.5:.1f}">{label}</text>'


def _dots(records: Sequence[Record], scale: Scale) -> Iterable[str]:
    """Each answer a dot, as one path a class: ten thousand elements would make the page slow."""
    kinds = {
        "served": [r for r in records if r.ok and not r.shielded],
        "shielded": [r for r in records if r.ok and r.shielded],
        "failed": [r for r in records if not r.ok],
    }
    for kind, members in kinds.items():
        if members:
            path = "".join(f"M{scale.x(r.end_ns):.1f} {scale.y(r.latency_ns / 1e6):.1f}h0" for r in members)
            yield f'<path class="dots {kind}" d="{path}"/>'


def _lanes(story: Story, voices: Sequence[str], scale: Scale) -> Iterable[str]:
    yield f'<text class="caption" x="{LEFT}" y="{LANES_TOP - 8}">who spoke</text>'
    order = {revision: number for number, revision in enumerate(story.heard)}
    for lane, voice in enumerate(voices):
        top = LANES_TOP + lane * LANE_HEIGHT
        yield f'<text class="tick" x="{LEFT - 8}" y="{top + 14.5}">{escape(voice)}</text>'
        mine = [r for r in story.records if r.ok and story.shots[r.shot].voice == voice]
        for begin_ns, end_ns, shares in _runs(mine, scale.begin_ns):
            yield from _stack(begin_ns, end_ns, shares, top=top, scale=scale, order=order, story=story)


def _stack(
    begin_ns: int,
    end_ns: int,
    shares: tuple[tuple[str, float], ...],
    *,
    top: float,
    scale: Scale,
    order: dict[str, int],
    story: Story,
) -> Iterable[str]:
    bottom, full = top + LANE_HEIGHT - 6, LANE_HEIGHT - 6
    left, right = scale.x(begin_ns), scale.x(end_ns)
    for revision, share in shares:
        tall = full * share
        bottom -= tall
        name = escape(f"{story.revisions.get(revision, revision[:10])}: {share:.0%} of the answers")
        yield (
            f'<rect class="rev r{order.get(revision, 7) % 8}" x="{left:.1f}" y="{bottom:.1f}" '
            f'width="{max(right - left, 0.5) + 0.2:.1f}" height="{tall:.1f}"><title>{name}</title></rect>'
        )


def _runs(records: Sequence[Record], begin_ns: int) -> Iterable[tuple[int, int, tuple[tuple[str, float], ...]]]:
    """Stretches of bins in which the same revisions answered in the same shares."""
    bins: dict[int, Counter[str]] = {}
    for record in records:
        bins.setdefault((record.due_ns - begin_ns) // BIN_NS, Counter())[record.revision] += 1
    shares = {
        number: tuple(sorted((revision, round(count / counts.total(), 2)) for revision, count in counts.items()))
        for number, counts in sorted(bins.items())
    }
    for share, numbers in groupby(sorted(shares), key=lambda number: shares[number]):
        members = list(numbers)
        yield begin_ns + members[0] * BIN_NS, begin_ns + (members[-1] + 1) * BIN_NS, share


def _marks(chapters: Sequence[Chapter], scale: Scale) -> Iterable[str]:
    marks = sorted((mark for chapter in chapters for mark in chapter.marks), key=lambda mark: mark.at_ns)
    rows = [float("-inf")] * 3
    for mark in marks:
        x = scale.x(mark.at_ns)
        row = next((number for number, end in enumerate(rows) if x - end >= 14), rows.index(min(rows)))
        rows[row] = x
        yield from _mark(mark, x=x, y=CHAPTERS_TOP + 36 + row * 14)


def _mark(mark: Mark, *, x: float, y: float) -> Iterable[str]:
    yield (
        f'<g class="mark {mark.kind}"><title>{escape(mark.text)}</title>'
        f'<path class="stem" d="M{x:.1f} {y + 7:.1f}V{LATENCY_TOP + LATENCY_HEIGHT}"/>'
        f'<path class="glyph" transform="translate({x:.1f} {y:.1f})" d="{MARK_GLYPHS[mark.kind]}"/></g>'
    )


def _seconds(story: Story, scale: Scale, height: int) -> Iterable[str]:
    total_s = (scale.end_ns - scale.begin_ns) / 1e9
    step_s = next(step for step in (1, 2, 5, 10, 15, 30, 60, 300) if total_s / step <= 16 or step == 300)
    for second in range(0, int(total_s) + 1, step_s):
        x = scale.x(scale.begin_ns + second * 1_000_000_000)
        yield f'<text class="second" x="{x:.1f}" y="{height - 8}">{second} s</text>'
