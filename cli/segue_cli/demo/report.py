"""The demo's figures, and the report for machines.

Separate from the page: `report.json` is what CI and anybody's script reads, and its keys are a promise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segue_cli.demo.story import Figures, Story
from segue_cli.measure.effective import Flip, FlipDelays
from segue_cli.measure.latency import Spread, compare
from segue_cli.measure.mixed import MixedCount
from segue_cli.measure.selftest import SelfTest
from segue_cli.measure.shots import Mode, failures

STORE = re.compile(r"pointer of (\S+): epoch (\d+), sent (\d+), received (\d+), stored (\d+)")


def flips_of(operator_log: Path) -> list[Flip]:
    """Every pointer command that the operator logged, with the time at which it was sent."""
    text = operator_log.read_text(encoding="utf-8", errors="replace")
    flips = []
    for match in STORE.finditer(text):
        epoch, sent_ns, received_ns, stored_ns = (int(match[place]) for place in (2, 3, 4, 5))
        if stored_ns and sent_ns:
            flips.append(
                Flip(
                    voice=match[1],
                    epoch=epoch,
                    sent_ns=sent_ns,
                    received_ns=received_ns,
                    stored_ns=stored_ns,
                    answered_ns=stored_ns,
                )
            )
    return flips


def figures_of(story: Story, *, delays: FlipDelays, mixed: MixedCount) -> Figures:
    """Add it all up."""
    records = [*story.records, *story.reader_records]
    compared = compare(story.records, story.preloads)
    streaming = [r for r in story.records if r.ok and story.shots[r.shot].mode is not Mode.WHOLE]
    wrong = failures(records)
    return Figures(
        requests=len(records),
        failed=sum(wrong.values()),
        mixed=mixed.mixed,
        shielded=sum(bool(record.shielded) for record in records),
        failures=wrong,
        judged=mixed.judged,
        judged_windows=mixed.windows,
        command_to_effective_ms=delays.command_to_effective_ms,
        flips=delays.flips,
        p99_latency_ratio_during_preload=compared.p99_ratio,
        during_preload=compared.during,
        besides_preload=compared.besides,
        first_audio_ms=Spread.of([record.first_audio_ns / 1e6 for record in streaming]),
        seconds=(story.ended_ns - story.traffic_began_ns) / 1e9,
    )


def as_json(story: Story, figures: Figures, selftest: SelfTest) -> Mapping[str, Any]:
    """`report.json`, without its environment."""
    return {
        "requests": figures.requests,
        "failed": figures.failed,
        "mixed": figures.mixed,
        "rollouts": _rollouts(story),
        "command_to_effective_ms": figures.command_to_effective_ms.as_json(),
        "p99_latency_ratio_during_preload": round(figures.p99_latency_ratio_during_preload, 3),
        "shielded": figures.shielded,
        "seconds": round(figures.seconds, 1),
        "details": {
            "failures": dict(figures.failures),
            "findings": list(story.findings),
            "judged_answers": figures.judged,
            "judged_windows": figures.judged_windows,
            "selftest": {"injected": selftest.injected, "caught": selftest.caught},
            "pointer_stores": figures.flips,
            "latency_during_preload_ms": figures.during_preload.as_json(),
            "latency_besides_ms": figures.besides_preload.as_json(),
            "first_audio_ms": figures.first_audio_ms.as_json(),
            "preloads": len(story.preloads),
        },
    }


def _rollouts(story: Story) -> Sequence[Mapping[str, Any]]:
    return [
        {
            "name": chapter.name,
            "voice": chapter.voice,
            "outcome": str(chapter.outcome),
            "expected": str(chapter.expected),
            "seconds": round(chapter.seconds, 2),
            "reason": chapter.reason,
        }
        for chapter in story.chapters
    ]
