"""Which revision a request gets, and that it is pinned when it gets it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.tone_engine import ToneEngine, tone_part

from segue.engine import Device, PartView, VoiceView
from segue.memory.messages import PartRef, RevisionRef, Voice, VoiceName
from segue.memory.page import Mode, PointerPage, Word
from segue.memory.stats import StatsPage, create_stats_memfd
from segue.memory.stats_reader import StatsReader
from segue_server.audio.formats import AudioFormat, OutputSpec
from segue_server.revisions.resident import Resident
from segue_server.revisions.roster import Roster
from segue_server.synthesis.desk import Desk
from segue_server.synthesis.failures import NotServing, RevisionUnknown, VoiceCold, VoiceUnknown
from segue_server.synthesis.spec import Listener, SpeechSpec

NARRATOR = VoiceName("default", "narrator")
SPEC = SpeechSpec(
    voice=NARRATOR, text="x", language="", speed=1.0, seed=None, output=OutputSpec(format=AudioFormat.PCM)
)
SOMEBODY = Listener(request_id="r1", session="s1")


class Setting:
    """A desk over a real page, with two residents (handles 1 and 2) of one voice."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.page = PointerPage.create()
        self.stats = StatsPage(create_stats_memfd())
        self.roster = Roster()
        self.roster.set_page(self.page.export())
        self.roster.serving = True
        self.describe()
        self.first, self.second = self.add(1), self.add(2)
        self.desk = Desk(self.roster, stats=self.stats, clock=lambda: self.now_s)

    def describe(self, *, suspect: int | None = None, known_good: int | None = None) -> None:
        self.roster.describe(Voice(voice=NARRATOR, slot=0, suspect=suspect, known_good=known_good))

    def add(self, handle: int, *, voice: VoiceName = NARRATOR) -> Resident:
        part = tone_part(440.0)
        view = VoiceView(parts={"tone": PartView(tensors=part.tensors, meta=part.meta)})
        ref = RevisionRef(
            voice=voice,
            slot=0,
            handle=handle,
            revision=f"{handle:x}" * 64,
            engine="tone",
            parts=(PartRef(name="tone", digest="0" * 64, size_bytes=1),),
        )
        resident = Resident(
            ref,
            synthesizer=ToneEngine().build(view, Device()),
            parts=(),
            engine_build="tone-1",
            stats=self.stats.row(handle),
        )
        self.roster.add(resident)
        return resident

    def store(self, **word: int) -> None:
        mode = Mode(word.pop("mode", 0))
        self.page.store(0, Word(mode=mode, **word))

    def close(self) -> None:
        page = self.roster.page
        assert page is not None
        page.close()
        os.close(self.roster._page_fd)
        self.page.close()
        self.stats.close()


def in_setting(check: Callable[[Setting], None]) -> None:
    async def main() -> None:
        setting = Setting()
        try:
            check(setting)
        finally:
            setting.close()

    asyncio.run(main())


def test_the_active_revision_answers_and_is_pinned() -> None:
    def check(at: Setting) -> None:
        at.store(active=1)
        admission = at.desk.admit(SPEC, SOMEBODY)
        assert (admission.resident, at.first.pins, at.second.pins) == (at.first, 1, 0)

    in_setting(check)


def test_admission_is_noted_under_its_word() -> None:
    def check(at: Setting) -> None:
        at.store(active=1)
        at.desk.admit(SPEC, SOMEBODY)
        at.store(active=2, epoch=1)
        at.desk.admit(SPEC, SOMEBODY)
        fd = at.stats.export()
        reader = StatsReader(fd)
        os.close(fd)
        changes = reader.transitions()
        reader.close()
        assert [Word.unpack(change.new_word).active for change in changes] == [1, 2]
        assert changes[1].last_old_ns < changes[1].first_new_ns

    in_setting(check)


def test_a_listener_always_gets_the_same_side_of_a_canary() -> None:
    def check(at: Setting) -> None:
        at.store(active=1, candidate=2, weight=5000)
        sides = [
            {at.desk.admit(SPEC, replace(SOMEBODY, session=f"s{n}")).resident.handle for _ in range(3)}
            for n in range(100)
        ]
        assert all(len(side) == 1 for side in sides)
        assert 25 <= sum(side == {2} for side in sides) <= 75

    in_setting(check)


def test_a_mirror_is_named_and_the_active_one_answers() -> None:
    def check(at: Setting) -> None:
        at.store(active=1, candidate=2, weight=10_000, mode=Mode.MIRROR)
        admission = at.desk.admit(SPEC, SOMEBODY)
        assert (admission.resident, admission.mirror) == (at.first, 2)

    in_setting(check)


def test_a_voice_of_another_namespace_does_not_exist() -> None:
    def check(at: Setting) -> None:
        at.store(active=1)
        with pytest.raises(VoiceUnknown, match="'narrator'"):
            at.desk.admit(replace(SPEC, voice=VoiceName("other", "narrator")), SOMEBODY)

    in_setting(check)


def test_before_the_sidecar_lets_it_serve_a_worker_says_so_instead_of_not_found() -> None:
    def check(at: Setting) -> None:
        at.roster.serving = False
        with pytest.raises(NotServing, match="starting"):
            at.desk.admit(replace(SPEC, voice=VoiceName("default", "unheard-of")), SOMEBODY)

    in_setting(check)


def test_a_cold_voice_is_told_apart() -> None:
    def check(at: Setting) -> None:
        with pytest.raises(VoiceCold):
            at.desk.admit(SPEC, SOMEBODY)

    in_setting(check)


def test_a_word_of_another_voice_is_never_served() -> None:
    def check(at: Setting) -> None:
        at.add(3, voice=VoiceName("other", "secret"))
        at.store(active=3)
        with pytest.raises(NotServing, match="cannot be trusted"):
            at.desk.admit(SPEC, SOMEBODY)

    in_setting(check)


def test_an_unknown_handle_falls_back_to_the_last_word_and_makes_the_worker_unready() -> None:
    def check(at: Setting) -> None:
        at.store(active=1)
        at.desk.admit(SPEC, SOMEBODY)
        at.store(active=77)
        assert at.desk.admit(SPEC, SOMEBODY).resident is at.first
        assert at.roster.unready_reason(now_s=at.now_s + 4) == ""
        assert "does not have" in at.roster.unready_reason(now_s=at.now_s + 6)
        at.store(active=2)
        at.desk.admit(SPEC, SOMEBODY)
        assert at.roster.unready_reason(now_s=at.now_s + 60) == ""

    in_setting(check)


def test_words_are_remembered_for_voices_that_nobody_asked_for() -> None:
    def check(at: Setting) -> None:
        at.store(active=1)
        at.roster.remember_words()
        at.store(active=77)
        at.roster.remember_words()
        assert at.desk.admit(SPEC, SOMEBODY).resident is at.first

    in_setting(check)


def test_a_pin_names_one_revision_or_nothing() -> None:
    def check(at: Setting) -> None:
        at.store(active=1)
        assert at.desk.admit(replace(SPEC, pin="2" * 10), SOMEBODY).resident is at.second
        with pytest.raises(RevisionUnknown):
            at.desk.admit(replace(SPEC, pin="3" * 64), SOMEBODY)
        assert at.second.pins == 1

    in_setting(check)


def test_a_pin_to_a_voice_that_rests_waits_for_it_before_it_is_said_to_name_nothing() -> None:
    def check(at: Setting) -> None:
        with pytest.raises(VoiceCold):
            at.desk.admit(replace(SPEC, pin="3" * 64), SOMEBODY)
        assert at.desk.admit(replace(SPEC, pin="2" * 10), SOMEBODY).resident is at.second

    in_setting(check)


def test_the_guard_answers_for_the_suspect_only() -> None:
    def check(at: Setting) -> None:
        at.describe(suspect=2, known_good=1)
        at.store(active=2)
        failed = at.desk.admit(SPEC, SOMEBODY)
        assert at.desk.fallback(failed) is at.first
        assert at.first.pins == 1
        at.store(active=1)
        assert at.desk.fallback(at.desk.admit(SPEC, SOMEBODY)) is None

    in_setting(check)


def test_the_guard_of_the_admission_holds_when_the_watch_was_closed_meanwhile() -> None:
    def check(at: Setting) -> None:
        at.describe(suspect=2, known_good=1)
        at.store(active=2)
        failed = at.desk.admit(SPEC, SOMEBODY)
        at.describe()
        assert at.desk.fallback(failed) is at.first

    in_setting(check)


def test_what_was_flipped_away_from_is_answered_by_what_speaks_now() -> None:
    def check(at: Setting) -> None:
        at.store(active=2)
        failed = at.desk.admit(SPEC, SOMEBODY)
        assert at.desk.fallback(failed) is None
        at.store(active=1)
        assert at.desk.fallback(failed) is at.first

    in_setting(check)


def test_a_revision_that_is_let_go_is_no_way_out() -> None:
    def check(at: Setting) -> None:
        at.describe(suspect=2, known_good=1)
        at.store(active=2)
        failed = at.desk.admit(SPEC, SOMEBODY)
        at.roster.withdraw(1)
        assert at.desk.fallback(failed) is None

    in_setting(check)
