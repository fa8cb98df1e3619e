"""Judges that a fleet's settings name: asked in the probing child, shown in the report, held against their limits."""

from __future__ import annotations

import asyncio
import shlex
import sys
from typing import Any

import pytest
from tests.support.sidecar import UID, VOICE, load, running, until

from segue.wire import Gate, ProbeCase, ProbeKind, ProbePhase, ProbeReport, ProbeRequest, ProbeTerms, StateDocument

pytestmark = pytest.mark.process

SAYS = "command:" + shlex.join([sys.executable, "-c", "print(4.25)"])
ECHOES = "command:" + shlex.join([sys.executable, "-c", "import os; print(os.environ['SEGUE_TEXT'])"])
TERMS = ProbeTerms(key="scored", cases=(ProbeCase(text="one two three", language="en"),), seeds=1, min_similarity=0)


async def probed(**scorers: Any) -> ProbeReport:
    """The report of a voice that was probed with these."""
    async with running(scorers=scorers) as (world, client):
        revision = await load(world, client, 1)
        request = ProbeRequest(kind=ProbeKind.FULL, terms=TERMS)
        await client.probe(VOICE, revision, request, fence=world.fence(), voice_uid=UID)

        def report(state: StateDocument) -> ProbeReport | None:
            found = state.voices[VOICE].revisions[revision].report
            return found if found is not None and found.kind is ProbeKind.FULL and found.finished_ns else None

        return report(await until(client, report)) or pytest.fail("no report")


def gates(report: ProbeReport) -> dict[str, Gate]:
    return {gate.name: gate for gate in report.gates}


def test_their_figures_are_in_the_report_and_held_against_their_limits() -> None:
    report = asyncio.run(probed(naturalness={"address": SAYS, "limit": 4.5}, wordErrorRate={"address": ECHOES}))
    told = gates(report)
    assert (told["naturalness"].passed, told["naturalness"].figure, told["naturalness"].limit) == (False, 4.25, 4.5)
    assert (told["wordErrorRate"].figure, told["wordErrorRate"].limit) == (0.0, None)
    assert report.phase is ProbePhase.FAILED


def test_a_scorer_that_fails_is_not_the_versions_fault() -> None:
    told = gates(asyncio.run(probed(naturalness={"address": "command:false", "limit": 4.5})))
    assert told["naturalness"].passed is None
    assert "ended with 1" in told["naturalness"].message


def test_a_scorer_that_is_not_installed_is_an_error_and_no_verdict() -> None:
    report = asyncio.run(probed(naturalness={"address": "entry-point:nowhere"}))
    assert report.phase is ProbePhase.ERROR
    assert "scorers.naturalness: scorer 'entry-point:nowhere': no package installs it" in report.reasons[0]
