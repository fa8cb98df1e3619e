"""The demo's report for people: one HTML file with everything in it, sounds included.

Separate from `report`, which writes the same figures for machines. Self-contained on purpose: it can be mailed, and
opens with no network.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any

from segue_cli.demo.story import Chapter, Clip, Figures, MarkKind, Outcome, Reading, Story
from segue_cli.demo.timeline import MARK_GLYPHS, draw_timeline
from segue_cli.demo.waveform import draw_waveform
from segue_cli.measure.audio import encode_wav

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Segue demo: $requests requests, $failed failed, $mixed mixed</title><style>$style</style></head><body><main>
<span class="verdict $verdict_class">$verdict</span>
<h1>$headline</h1>
<p class="soft">$lead</p>
<div class="tiles">$tiles</div>
<h2>What happened</h2>
<div class="card scroll">$timeline<div class="legend">$legend</div></div>
<ol class="chapters">$chapters</ol>
$listen
<h2>Figures</h2>
<div class="card scroll"><table>$figures</table></div>
<footer>$footer</footer>
</main></body></html>
""")

MARK_NAMES = {
    MarkKind.EDIT: "the YAML is edited",
    MarkKind.FLIP: "the pointer flips",
    MarkKind.REFUSAL: "refused",
    MarkKind.BACK: "taken back",
    MarkKind.KILL: "kill -9",
}


def render_page(story: Story, figures: Figures, measured_in: Mapping[str, Any]) -> str:
    """The whole page."""
    good = not figures.failed and not figures.mixed and all(chapter.as_expected for chapter in story.chapters)
    return PAGE.substitute(
        style=resources.files("segue_cli.demo").joinpath("page.css").read_text(encoding="utf-8"),
        requests=f"{figures.requests:,}",
        failed=figures.failed,
        mixed=figures.mixed,
        verdict="as promised" if good else "not as promised",
        verdict_class="good" if good else "bad",
        headline=_headline(figures, good=good),
        lead=_lead(story, figures),
        tiles="".join(_tiles(figures)),
        timeline=draw_timeline(story),
        legend="".join(_legend(story)),
        chapters="".join(_chapter(number, chapter, story) for number, chapter in enumerate(story.chapters, 1)),
        listen="".join(_listen(story)),
        figures="".join(_figure_rows(figures, story)),
        footer=_footer(measured_in),
    )


def _headline(figures: Figures, *, good: bool) -> str:
    if good:
        return "Voices changed under load, and nobody noticed."
    return f"{figures.failed} requests failed, {figures.mixed} mixed two versions; see which chapter went wrong."


def _lead(story: Story, figures: Figures) -> str:
    voices = len({shot.voice for shot in story.shots})
    return (
        f"For {figures.seconds:.0f} seconds, listeners of {voices} voices kept asking for speech, some plain, some "
        f"streaming, while {len(story.chapters)} things were done to the service: good updates, bad ones, and "
        "<code>kill -9</code> in the middle. Every dot below is an answer somebody waited for."
    )


def _tiles(figures: Figures) -> Iterable[str]:
    flip = figures.command_to_effective_ms
    yield _tile(f"{figures.requests:,}", "requests")
    yield _tile(str(figures.failed), "failed", kind="bad" if figures.failed else "zero")
    yield _tile(str(figures.mixed), "mixed two versions", kind="bad" if figures.mixed else "zero")
    yield _tile(f"{flip.p99:.2f}<small> ms</small>", f"command to effective, p99 of {figures.flips} stores")
    ratio = figures.p99_latency_ratio_during_preload
    yield _tile(f"{ratio:.2f}<small>×</small>", "p99 latency while a version loads")
    yield _tile(f"{figures.shielded}", "failures of a bad version that a listener would have heard, and did not")


def _tile(value: str, label: str, *, kind: str = "") -> str:
    return f'<div class="tile {kind}"><b>{value}</b><span>{escape(label)}</span></div>'


def _legend(story: Story) -> Iterable[str]:
    for number, name in enumerate(story.heard.values()):
        yield f'<span class="r{number % 8}"><i></i>{escape(name)}</span>'
    yield '<span style="--c:var(--dot)"><i class="dot"></i>an answer</span>'
    yield '<span style="--c:var(--r1)"><i class="dot"></i>an answer that the shield saved</span>'
    yield '<span style="--c:var(--preload)"><i></i>a version is being loaded</span>'
    for kind, name in MARK_NAMES.items():
        yield (
            f'<span class="mark {kind}"><svg viewBox="-7 -7 14 14"><path class="glyph" d="{MARK_GLYPHS[kind]}"/></svg>'
            f"{name}</span>"
        )


def _chapter(number: int, chapter: Chapter, story: Story) -> str:
    state = "good" if chapter.as_expected else "bad"
    outcome = chapter.outcome or Outcome.TIMED_OUT
    told = "".join(
        f"<li><time>{(line.at_ns - story.traffic_began_ns) / 1e9:.1f} s</time><span>{escape(line.text)}</span></li>"
        for line in chapter.lines
    )
    wrong = "" if chapter.as_expected else f" (expected: {chapter.expected})"
    return (
        f'<li class="card {state}"><span class="num">{number}</span><div><h3>{escape(chapter.title)}</h3>'
        f'<p class="soft">{escape(chapter.reason)}</p><details><summary>as it was told</summary><ol>{told}</ol>'
        f'</details></div><div><span class="chip">{outcome}{wrong}</span>'
        f'<span class="took">{chapter.seconds:.1f} s</span></div></li>'
    )


def _listen(story: Story) -> Iterable[str]:
    clips = [clip for chapter in story.chapters for clip in chapter.clips]
    if story.reading is None and not clips:
        return
    yield "<h2>Listen</h2>"
    if story.reading is not None:
        yield _reading(story.reading, story.heard)
    if clips:
        yield '<p class="soft">And what listeners were spared: the refused versions, with their own weights.</p>'
        yield f'<div class="clips">{"".join(_clip(clip) for clip in clips)}</div>'


def _reading(reading: Reading, names: Mapping[str, str]) -> str:
    order = {revision: number for number, revision in enumerate(names)}
    said = " ".join(
        f'<span class="r{order.get(revision, 7) % 8}" title="{escape(names.get(revision, revision[:10]))}">'
        f"{escape(text)}</span>"
        for _, text, revision in reading.parts
    )
    return (
        '<p class="soft">One paragraph, read to one listener while the voice changed. Each sentence is one request; '
        "the voice changes once, between two sentences, never inside one.</p>"
        f'<div class="card">{draw_waveform(reading, names)}'
        f'{_audio(encode_wav(reading.samples, reading.rate_hz))}<p class="said">{said}</p></div>'
    )


def _clip(clip: Clip) -> str:
    return f'<div class="card"><h3>{escape(clip.title)}</h3><p>{escape(clip.note)}</p>{_audio(clip.wav)}</div>'


def _audio(wav: bytes) -> str:
    return f'<audio controls preload="metadata" src="data:audio/wav;base64,{b64encode(wav).decode()}"></audio>'


def _figure_rows(figures: Figures, story: Story) -> Iterable[str]:
    flip, during, besides = figures.command_to_effective_ms, figures.during_preload, figures.besides_preload
    yield "<tr><th>figure</th><th>p50</th><th>p99</th><th>max</th><th>how it is measured</th></tr>"
    yield _row("command to effective", flip.p50, flip.p99, flip.max, "ms", _flip_note(figures))
    yield _row(
        "latency while a version loads", during.p50, during.p99, during.max, "ms", "answers that overlap fetch … ready"
    )
    yield _row("latency otherwise", besides.p50, besides.p99, besides.max, "ms", "all other answers of the same run")
    first = figures.first_audio_ms
    yield _row("time to first audio", first.p50, first.p99, first.max, "ms", "streaming answers only")
    yield (
        f'<tr><td>mixed</td><td colspan="3">{figures.mixed} of {figures.judged:,} answers</td><td class="wide">'
        f"{figures.judged_windows:,} windows of 100 ms, each compared with every version's own rendering</td></tr>"
    )
    yield from (f'<tr><td class="wide" colspan="5">{escape(finding)}</td></tr>' for finding in story.findings)


def _flip_note(figures: Figures) -> str:
    return f"{figures.flips} pointer stores of this run; the swap bench measures over a thousand at saturation"


def _row(name: str, p50: float, p99: float, largest: float, unit: str, how: str) -> str:
    cells = "".join(f"<td>{_number(value)} {unit}</td>" for value in (p50, p99, largest))
    return f'<tr><td>{escape(name)}</td>{cells}<td class="wide">{escape(how)}</td></tr>'


def _number(value: float) -> str:
    if value != value:
        return "–"
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _footer(measured_in: Mapping[str, Any]) -> str:
    place = f"{measured_in['cpu']}, {measured_in['cores']} cores, Linux {measured_in['kernel']}"
    return escape(f"{measured_in['date']} · commit {measured_in['commit']} · {place} · {measured_in['command']}")
