"""The demo's report shows what happened, and needs nothing but itself."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from segue_cli.demo.page import render_page
from segue_cli.demo.report import as_json
from segue_cli.demo.story import Chapter, Clip, Figures, Line, Mark, MarkKind, Outcome, Reading, Story
from segue_cli.demo.timeline import draw_timeline
from segue_cli.demo.waveform import draw_waveform
from segue_cli.measure.audio import encode_wav
from segue_cli.measure.environment import environment
from segue_cli.measure.latency import Spread
from segue_cli.measure.selftest import SelfTest
from segue_cli.measure.shots import Record, Shot

SECOND = 1_000_000_000
V1, V2 = "a" * 64, "b" * 64
SOUND = np.sin(np.arange(24_000) / 20).astype(np.float32) * np.float32(0.3)


def answer(second: float, *, revision: str = V1, shielded: str = "", error: str = "") -> Record:
    start = int(second * SECOND)
    end = start + SECOND // 20
    return Record(0, start, start, end, end, 200, revision, shielded, "bypass", 10, "d", error)


def story(*, outcome: Outcome = Outcome.PROMOTED, failed: bool = False) -> Story:
    chapter = Chapter(
        name="good-update",
        title="A good <update>",
        voice="narrator",
        expected=Outcome.PROMOTED,
        began_ns=2 * SECOND,
        ended_ns=8 * SECOND,
        outcome=outcome,
        reason="confirmed & heard",
        lines=[Line(at_ns=3 * SECOND, text="the pointer flips")],
        marks=[Mark(at_ns=3 * SECOND, kind=kind, text=kind) for kind in MarkKind],
        clips=[Clip(title="Refused", note="too unlike", wav=encode_wav(SOUND, 24_000))],
    )
    return Story(
        began_ns=0,
        shots=[Shot(voice="narrator", text="x")],
        chapters=[chapter],
        records=[
            *(answer(second) for second in range(1, 5)),
            *(answer(second, revision=V2) for second in range(5, 10)),
            answer(6.5, shielded=V2),
            answer(7.5, error="cut" if failed else ""),
        ],
        preloads=[(2 * SECOND, 3 * SECOND)],
        revisions={V1: "narrator v1", V2: "narrator v2"},
        reading=Reading(samples=np.tile(SOUND, 2), rate_hz=24_000, parts=((0, "One.", V1), (24_000, "Two.", V2))),
    )


def figures(*, failed: int = 0, mixed: int = 0) -> Figures:
    spread = Spread(1.0, 2.0, 3.0, 4.0)
    return Figures(
        requests=11,
        failed=failed,
        mixed=mixed,
        shielded=1,
        failures={"cut": failed} if failed else {},
        judged=10,
        judged_windows=100,
        command_to_effective_ms=spread,
        flips=3,
        p99_latency_ratio_during_preload=1.1,
        during_preload=spread,
        besides_preload=spread,
        first_audio_ms=Spread.of([]),
        seconds=9.0,
    )


def test_the_page_needs_nothing_else() -> None:
    page = render_page(story(), figures(), environment())
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) == []
    assert "url(" not in page
    assert page.count("data:audio/wav;base64,") == 2
    assert "prefers-color-scheme:dark" in page


def test_titles_are_escaped() -> None:
    page = render_page(story(), figures(), environment())
    assert "A good &lt;update&gt;" in page
    assert "confirmed &amp; heard" in page


@pytest.mark.parametrize(
    ("failed", "mixed", "outcome"), [(1, 0, Outcome.PROMOTED), (0, 1, Outcome.PROMOTED), (0, 0, Outcome.REFUSED)]
)
def test_a_broken_promise_is_the_headline(failed: int, mixed: int, outcome: Outcome) -> None:
    broken = render_page(
        story(outcome=outcome, failed=bool(failed)), figures(failed=failed, mixed=mixed), environment()
    )
    assert 'class="verdict bad">not as promised' in broken
    assert 'class="verdict good">as promised' in render_page(story(), figures(), environment())


def test_timeline_and_waveform_are_well_formed() -> None:
    timeline = ElementTree.fromstring(draw_timeline(story(failed=True)))
    assert {"dots served", "dots shielded", "dots failed"} <= {node.get("class") for node in timeline.iter()}
    assert any((node.text or "").startswith("narrator v2: 1") for node in timeline.iter("title"))
    reading = story().reading
    assert reading is not None
    waveform = ElementTree.fromstring(draw_waveform(reading, story().revisions))
    assert [node.get("class") for node in waveform.iter("path")].count("change") == 1


def test_report_has_the_keys_that_scripts_read() -> None:
    report = as_json(story(), figures(), SelfTest(injected=3, caught=3, honest=1, passed=1))
    assert {
        "requests",
        "failed",
        "mixed",
        "rollouts",
        "command_to_effective_ms",
        "p99_latency_ratio_during_preload",
    } <= report.keys()
    assert {"p50", "p99", "max"} <= report["command_to_effective_ms"].keys()
    assert report["rollouts"][0]["name"] == "good-update"
    assert report["rollouts"][0]["outcome"] == "promoted"
    assert report["rollouts"][0]["seconds"] == 6.0


def test_only_versions_that_answered_are_in_the_legend() -> None:
    told = story()
    told.revisions["c" * 64] = "never heard"
    assert "never heard" not in render_page(told, figures(), environment())
