"""One scene of the suite: a voice, its listeners at the Service, and the promise that they notice nothing.

Separate from `tests/support/pods/case.py`, which plays on pods that are processes of this machine.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.e2e.installation import Installation
from tests.support.e2e.report import StepReport
from tests.support.e2e.shipped import FIRST, Shipped, shipped
from tests.support.pods.backstage import Backstage
from tests.support.pods.report import CaseLine
from tests.support.pods.traffic import STATEMENTS, Traffic
from tests.support.pods.versions import Version
from tests.support.pods.voice import Voice
from tests.support.running import eventually

from segue_cli.measure.renderings import Renderings

RATE_PER_S = 10.0
REQUESTS_PER_CONNECTION = 2
"""So that both pods are asked at any time: a Service balances connections."""
HEARD = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where listeners ask: an `Endpoint`."""

    name: str
    address: str
    port: int


@dataclass(slots=True, kw_only=True)
class Theatre:
    """What all scenes share.

    Attributes
    ----------
    service
        The speech API, as it was found when the scene began.
    """

    installation: Installation
    service: Callable[[], Service]
    report: StepReport
    folder: Path
    backstage: Backstage = field(default_factory=Backstage)
    renderings: Renderings = field(default_factory=lambda: Renderings([]))
    judging: threading.Lock = field(default_factory=threading.Lock)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def traffic(self) -> Traffic:
        """Listeners of one scene."""
        made = Traffic(
            self.backstage,
            self.folder / f"spool-{next(self._numbers)}",
            self.renderings,
            self.judging,
            requests_per_connection=REQUESTS_PER_CONNECTION,
        )
        made.route([self.service()])
        return made

    def voice(self, name: str, *policies: Mapping[str, Any], namespace: str | None = None) -> Voice:
        """One that does not exist yet."""
        installation = self.installation
        return Voice(
            name=name,
            namespace=namespace or installation.namespace,
            cluster=installation.cluster,
            kube=installation.kube,
            policies=policies,
            on_version=self._register,
        )

    def _register(self, name: str, version: Version) -> None:
        self.renderings.add(version.files(name))


@dataclass(slots=True, kw_only=True)
class Scene:
    """What a test is given while its listeners ask."""

    theatre: Theatre
    name: str
    traffic: Traffic
    notes: list[str] = field(default_factory=list)

    @property
    def installation(self) -> Installation:
        """What is played on."""
        return self.theatre.installation

    def speaking(self, *policies: Mapping[str, Any], first: Shipped | None = None) -> tuple[Voice, str]:
        """A voice whose first version is confirmed, with listeners; and that version's revision."""
        voice = self.theatre.voice(self.name)
        revision = voice.apply(first or shipped(FIRST))
        voice.wait_promoted(revision)
        voice.follow(*policies)
        self.listen(voice)
        self.heard(voice, revision)
        return voice, revision

    def listen(self, voice: Voice, *, texts: Sequence[str] = STATEMENTS, rate_per_s: float = RATE_PER_S) -> None:
        """Listeners for the voice, until the end of the scene."""
        self.traffic.begin(voice.name, texts=texts, rate_per_s=rate_per_s)

    def heard(self, voice: Voice, revision: str | None, *, more: int = HEARD, within_s: float = 60.0) -> None:
        """Until so many further answers came from this revision, or from any."""
        wanted = self.traffic.answers(voice.name, revision) + more
        eventually(
            lambda: self.traffic.answers(voice.name, revision) >= wanted,
            within_s=within_s,
            what=f"{more} answers by {revision[:10] if revision else 'any revision'}",
        )

    def note(self, line: str) -> None:
        """For the report."""
        self.notes.append(line)


@contextmanager
def playing(theatre: Theatre, name: str, *, lost: int = 0) -> Iterator[Scene]:
    """Play a scene and write its line; it fails with its story, or where listeners noticed more than they must.

    Parameters
    ----------
    lost
        How many requests may fail: those that were in a container's hands when it was killed, or sent to it before its
        node knew.
    """
    scene = Scene(theatre=theatre, name=name, traffic=theatre.traffic())
    began_s, told = time.monotonic(), False
    try:
        yield scene
        told = True
    finally:
        tally = scene.traffic.finish()
        seconds = time.monotonic() - began_s
        passed = told and tally.failed <= lost
        if tally.failed and tally.failed <= lost:
            scene.note(f"{tally.failed} of {lost} requests that may be lost were lost: {dict(tally.errors)}")
            tally.failed, tally.errors = 0, type(tally.errors)()
        theatre.report.add(CaseLine.of(name, tally, seconds=seconds, passed=passed, notes=scene.notes))
    assert tally.requests, "nobody asked for anything"
    assert not tally.failed, f"{tally.failed} of {tally.requests} requests failed: {dict(tally.errors)}"
    assert not tally.mixed, f"{tally.mixed} of {tally.requests} answers were mixed: {tally.findings}"
