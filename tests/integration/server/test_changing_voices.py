"""A voice changes under live traffic: flips, canaries, the shield, mirrors, retiring."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.support.served import HZ, Served
from tests.support.shared_server import SharedServer, shared_server
from tests.support.tone_engine import Fault, expected_samples, tone_part

from segue.memory.messages import Consistency, VoiceName
from segue.memory.page import Mode

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServer]:
    with shared_server(tmp_path_factory.mktemp("s"), workers=2) as started:
        yield started


async def two_revisions(
    served: Served, name: str, *, fault: Fault = Fault.NONE, fault_on: str = "", step_s: float = 0.0
) -> tuple[VoiceName, int, int]:
    """A voice with a good revision at 300 Hz, which speaks, and another one at 700 Hz."""
    voice = served.sidecar.voice(name)
    good = await served.sidecar.offer(voice, {"tone": tone_part(300.0, step_s=step_s)})
    served.sidecar.point(voice, good)
    other = await served.sidecar.offer(voice, {"tone": tone_part(700.0, fault=fault, fault_on=fault_on, step_s=step_s)})
    return voice, good, other


def says(answer: httpx.Response, text: str, hz: float) -> bool:
    """Whether this is, from the first sample to the last, what the revision at `hz` says."""
    wanted = expected_samples(text, hz)
    found = np.frombuffer(answer.content, "<i2").astype(np.float32) / np.float32(32767)
    return len(found) == len(wanted) and bool(np.abs(found - wanted).max() < 1e-3)


def test_a_flip_is_seen_by_the_next_request(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice, good, other = await two_revisions(served, "flip-once")
        before = await served.speak("now", voice=voice.name)
        served.sidecar.point(voice, other)
        after = await served.speak("now", voice=voice.name)
        assert says(before, "now", 300.0)
        assert says(after, "now", 700.0)
        assert before.headers["segue-revision"] == served.sidecar.revision(good)
        assert after.headers["segue-revision"] == served.sidecar.revision(other)

    server.run(scenario)


def test_flips_under_load_fail_and_mix_nothing(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice, good, other = await two_revisions(served, "flip-often")
        hz = {served.sidecar.revision(good): 300.0, served.sidecar.revision(other): 700.0}
        heard: list[float] = []

        async def listen(listener: int) -> None:
            for number in range(25):
                text = f"listener {listener} hears sentence {number} of many"
                answer = await served.speak(text, voice=voice.name, cache="no-store")
                assert answer.status_code == 200
                spoken = hz[answer.headers["segue-revision"]]
                assert says(answer, text, spoken)
                heard.append(spoken)

        listening = asyncio.gather(*(listen(number) for number in range(12)))
        while not listening.done():
            for handle in (other, good):
                served.sidecar.point(voice, handle)
                await asyncio.sleep(0.003)
        await listening
        assert len(heard) == 300
        assert min(heard.count(300.0), heard.count(700.0)) > 20

    server.run(scenario)


def test_a_response_keeps_its_revision_to_the_last_byte(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice, _, other = await two_revisions(served, "flip-inside", step_s=0.01)
        text = "a long sentence that is still being spoken when the voice changes"
        asking = asyncio.create_task(served.speak(text, voice=voice.name))
        await served.sidecar.until(lambda: in_flight(served) == 1)
        served.sidecar.point(voice, other)
        assert says(await served.speak("other", voice=voice.name), "other", 700.0)
        assert says(await asking, text, 300.0)

    def in_flight(served: Served) -> int:
        rows = [row for worker in served.sidecar.live() for row in worker.stats.rows().values()]
        return sum(row.counters.in_flight for row in rows)

    server.run(scenario)


def test_a_pin_asks_for_one_resident_revision(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice, good, other = await two_revisions(served, "pinned")
        served.sidecar.point(voice, other)
        digest = served.sidecar.revision(good)
        kept = await served.speak("book", voice=voice.name, headers={"Segue-Pin": digest})
        assert kept.headers["segue-revision"] == digest
        missing = await served.speak("book", voice=voice.name, headers={"Segue-Pin": "f" * 64})
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "revision_not_found")

    server.run(scenario)


def test_a_canary_gets_its_share_of_listeners_and_each_keeps_its_version(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice, good, other = await two_revisions(served, "canary")
        served.sidecar.point(voice, good, candidate=other, weight=3000)

        async def versions(session: str) -> set[str]:
            headers = {"Segue-Session": session}
            answers = [await served.speak(f"{session} {n}", voice=voice.name, headers=headers) for n in range(3)]
            return {answer.headers["segue-revision"] for answer in answers}

        found = [await versions(f"listener-{number}") for number in range(60)]
        assert all(len(heard) == 1 for heard in found)
        candidates = sum(heard == {served.sidecar.revision(other)} for heard in found)
        assert 6 <= candidates <= 32  # 18 expected of 60; far outside five sigma otherwise

    server.run(scenario)


def test_per_utterance_a_listener_may_hear_both(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice, good, other = await two_revisions(served, "utterance")
        served.sidecar.guard(voice, suspect=None, known_good=None, consistency=Consistency.UTTERANCE)
        served.sidecar.point(voice, good, candidate=other, weight=5000)
        headers = {"Segue-Session": "always the same"}
        answers = [await served.speak(f"u{n}", voice=voice.name, headers=headers) for n in range(40)]
        assert len({answer.headers["segue-revision"] for answer in answers}) == 2

    server.run(scenario)


@pytest.mark.parametrize(
    "fault", [Fault.RAISE, Fault.RAISE_IN_STEP, Fault.NAN, Fault.SILENT, Fault.EMPTY, Fault.CAPPED]
)
def test_the_shield_answers_by_the_good_revision_and_counts_the_failure(server: SharedServer, fault: Fault) -> None:
    async def scenario(served: Served) -> None:
        voice, good, bad = await two_revisions(served, f"shield-{fault.value}", fault=fault)
        served.sidecar.guard(voice, suspect=bad, known_good=good)
        served.sidecar.point(voice, bad)
        answer = await served.speak("protect me", voice=voice.name)
        assert says(answer, "protect me", 300.0)
        assert answer.headers["segue-revision"] == served.sidecar.revision(good)
        assert answer.headers["segue-shielded"] == served.sidecar.revision(bad)
        line = await served.until_stats(bad, inFlight=0, shielded=1, successes=0)
        assert sum(line["errors"].values()) == 1
        await served.until_stats(good, inFlight=0, successes=1)

    server.run(scenario)


def test_an_answer_by_the_shield_is_not_remembered_as_the_bad_revisions(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice, good, bad = await two_revisions(served, "shield-cache", fault=Fault.RAISE)
        served.sidecar.guard(voice, suspect=bad, known_good=good)
        served.sidecar.point(voice, bad)
        for _ in range(2):
            assert (await served.speak("again", voice=voice.name)).headers["segue-cache"] == "miss"
        await served.until_stats(bad, inFlight=0, shielded=2)

    server.run(scenario)


def test_without_an_open_watch_a_failure_is_told(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice, _, bad = await two_revisions(served, "unshielded", fault=Fault.RAISE)
        served.sidecar.point(voice, bad)
        assert (await served.speak("x", voice=voice.name)).status_code == 500

    server.run(scenario)


def test_followers_of_a_failed_leader_count_once(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice, _, bad = await two_revisions(served, "followers", fault=Fault.SILENT, step_s=0.03)
        served.sidecar.point(voice, bad)
        text = "everybody asks for the same sentence at once"
        answers = await asyncio.gather(*(served.speak(text, voice=voice.name) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {500}
        line = await served.until_stats(bad, inFlight=0)
        assert 1 <= sum(line["errors"].values()) <= 2  # once in each of two workers

    server.run(scenario)


def test_a_mirror_gets_copies_that_nobody_hears(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice, good, other = await two_revisions(served, "mirror")
        served.sidecar.point(voice, good, candidate=other, weight=10_000, mode=Mode.MIRROR)
        for number in range(5):
            answer = await served.speak(f"copy {number}", voice=voice.name)
            assert answer.headers["segue-revision"] == served.sidecar.revision(good)
            await served.until_stats(other, inFlight=0, successes=number + 1)
        assert (await served.revision_stats(other))["mirrored"]["successes"] == 5

    server.run(scenario)


def test_a_purge_makes_the_next_answer_fresh(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice, good, _ = await two_revisions(served, "purged")
        for _ in range(4):  # both workers have it
            await served.speak("old news", voice=voice.name)
        served.sidecar.purge(good)
        await served.sidecar.until(lambda: True)
        labels = [(await served.speak("old news", voice=voice.name)).headers["segue-cache"] for _ in range(2)]
        assert "miss" in labels

    server.run(scenario)


def test_a_retired_revision_gives_its_memory_back(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        # Nobody else has parts like these: the same content in two revisions is mapped once, from the first.
        voice = served.sidecar.voice("retired")
        good, other = [await served.sidecar.offer(voice, {"tone": tone_part(hz)}) for hz in (311.0, 713.0)]
        served.sidecar.point(voice, good)
        await served.speak("used", voice=voice.name)
        served.sidecar.point(voice, other)
        await served.sidecar.retire(good)
        assert served.sidecar.free(good)
        assert not served.sidecar.free(other)

    server.run(scenario)


def test_retiring_waits_for_the_last_row(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice, good, other = await two_revisions(served, "retire-late", step_s=0.02)
        text = "this sentence is still being spoken while its revision is retired"
        asking = asyncio.create_task(served.speak(text, voice=voice.name))
        await served.sidecar.until(
            lambda: any(
                row.counters.in_flight for worker in served.sidecar.live() for row in worker.stats.rows().values()
            )
        )
        served.sidecar.point(voice, other)
        served.sidecar.retire_soon(good)
        assert says(await asking, text, 300.0)
        await served.sidecar.until(lambda: served.sidecar.free(good))

    server.run(scenario)


def test_what_cannot_be_built_is_refused_and_holds_nothing(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice = served.sidecar.voice("unbuildable")
        handle = await served.sidecar.offer(voice, {"tone": tone_part(1.0, fault=Fault.BUILD)})
        assert all("cannot be built" in worker.failed[handle] for worker in served.sidecar.live())
        await served.sidecar.until(lambda: served.sidecar.free(handle))
        assert (await served.speak("still", voice="narrator")).status_code == 200

    server.run(scenario)


def test_a_deleted_voice_is_not_found(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice, _, _ = await two_revisions(served, "deleted")
        served.sidecar.forget(voice)
        while (answer := await served.speak("x", voice=voice.name)).status_code == 200:
            pass
        assert answer.status_code == 404

    server.run(scenario)


def test_a_cold_voice_comes_up_for_its_first_request(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice = served.sidecar.voice("cold")
        handle = await served.sidecar.offer(voice, {"tone": tone_part(HZ)})
        asking = [asyncio.create_task(served.speak("rise", voice=voice.name)) for _ in range(3)]
        await served.sidecar.until(lambda: voice in served.sidecar.wanted)
        served.sidecar.point(voice, handle)
        assert [(await task).status_code for task in asking] == [200, 200, 200]

    server.run(scenario)


def test_a_cold_voice_that_cannot_come_up_says_when_to_try_again(server: SharedServer) -> None:
    async def scenario(served: Served) -> None:
        voice = served.sidecar.voice("frozen")
        served.sidecar.refuse_wants = True
        answer = await served.speak("rise", voice=voice.name)
        served.sidecar.refuse_wants = False
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
        assert "PoolFull" in answer.json()["error"]["message"]

    server.run(scenario)


def test_swaps_leak_no_memory_and_no_descriptors(tmp_path: Path) -> None:
    with shared_server(tmp_path) as server:

        async def swap(served: Served, times: int, old: int) -> int:
            for number in range(times):
                new = await served.sidecar.offer(served.voice, {"tone": tone_part(300.0 + number, values=100_000)})
                served.sidecar.point(served.voice, new)
                await served.speak(f"swap {number}", cache="no-store")
                await served.sidecar.retire(old)
                assert served.sidecar.free(old)
                old = new
            return old

        async def scenario(served: Served) -> None:
            pid = served.sidecar.live()[0].pid
            old = await swap(served, 20, served.handle)
            before = (open_descriptors(pid), resident_kb(pid))
            await swap(served, 60, old)
            assert open_descriptors(pid) <= before[0]
            assert resident_kb(pid) <= before[1] + 2048

        server.run(scenario)


def open_descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
