"""One case: its voices, its listeners, and the promise that they notice nothing.

Separate from the stage, which many cases share: what a case brings, it takes away again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.support.pods.report import CaseLine, Report
from tests.support.pods.stage import STEADY, STEADY_RATE_PER_S, Stage
from tests.support.pods.traffic import RATE_PER_S, STATEMENTS, Traffic
from tests.support.pods.versions import Version
from tests.support.pods.voice import Voice
from tests.support.running import eventually

HEARD = 12


@dataclass(slots=True)
class Case:
    """What a test is given.

    Attributes
    ----------
    notes
        Lines for the report: what the case met on its way.
    """

    stage: Stage
    name: str
    traffic: Traffic
    notes: list[str] = field(default_factory=list)
    voices: list[Voice] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)

    def voice(self, *policies: Mapping[str, Any]) -> Voice:
        """A voice of this case's own, which does not exist yet."""
        number = f"-{len(self.voices)}" if self.voices else ""
        voice = self.stage.voice(f"{self.name[:50]}{number}", *policies)
        self.voices.append(voice)
        return voice

    def speaking(self, *policies: Mapping[str, Any], first: Version | None = None) -> tuple[Voice, str]:
        """A voice whose first version is confirmed, with listeners; and that version's revision.

        The policies are laid over afterwards: a first version has nobody to be careful for.
        """
        voice = self.voice()
        revision = voice.apply(first or self.fresh())
        voice.wait_promoted(revision)
        self.stage.wait_serving(voice.key, revision)
        voice.follow(*policies)
        self.listen(voice)
        return voice, revision

    def fresh(self) -> Version:
        """A good version that nobody has heard yet."""
        return self.stage.wardrobe.fresh()

    def listen(self, voice: Voice, *, texts: Sequence[str] = STATEMENTS, rate_per_s: float = RATE_PER_S) -> None:
        """Listeners for the voice at every endpoint, until `hush` or the end of the case."""
        self.traffic.begin(voice.name, texts=texts, rate_per_s=rate_per_s)

    def hush(self, voice: Voice) -> None:
        """No listeners for the voice any more."""
        self.traffic.end(voice.name)

    def heard(self, voice: Voice, revision: str, *, more: int = HEARD, within_s: float = 60.0) -> None:
        """Until so many further answers came from this revision."""
        wanted = self.answers(voice, revision) + more
        eventually(
            lambda: self.answers(voice, revision) >= wanted,
            within_s=within_s,
            what=f"{more} answers by {revision[:10]}",
        )

    def answers(self, voice: Voice, revision: str | None = None) -> int:
        """How many there were."""
        return self.traffic.answers(voice.name, revision)

    def note(self, line: str) -> None:
        """For the report."""
        self.notes.append(line)

    def clear(self) -> None:
        """Take the voices away, so that pods and operator are as before."""
        if self.voices:
            self.stage.ensure_operator()
        for voice in self.voices:
            self.stage.remove_voice(voice)


def play(stage: Stage, name: str, report: Report, story: Callable[[Case], None]) -> None:
    """Play one case from its first listener to its last, and write its line; it fails with its story, or where a
    request failed or was mixed."""
    case = Case(stage, name, stage.audience())
    case.traffic.begin(STEADY, rate_per_s=STEADY_RATE_PER_S)
    with ExitStack() as after:
        after.callback(case.clear)
        told = False
        try:
            story(case)
            told = True
        finally:
            tally = stage.dismiss(case.traffic)
            seconds = time.monotonic() - case.began_s
            report.add(CaseLine.of(name, tally, seconds=seconds, passed=told, notes=case.notes))
    assert tally.requests, "nobody asked for anything"
    assert not tally.failed, f"{tally.failed} of {tally.requests} requests failed: {dict(tally.errors)}"
    assert not tally.mixed, f"{tally.mixed} of {tally.requests} answers were mixed: {tally.findings}"
