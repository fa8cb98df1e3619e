"""`segue up` for real: processes, sockets, shared memory, an engine that speaks. In the order of a first hour."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.running import VOICE, Running, alive, eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running.prepare(tmp_path_factory.mktemp("up"))
    try:
        yield made.start()
    finally:
        made.stop()


def speak(running: Running, text: str = "Hello.") -> str:
    """Ask over HTTP, past the cache; the revision that answered."""
    body = json.dumps({"input": text, "voice": "narrator", "response_format": "wav", "model": "segue"}).encode()
    request = urllib.request.Request(
        f"{running.up['server']}/v1/audio/speech",
        data=body,
        headers={"Content-Type": "application/json", "Segue-Cache": "no-store"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.read()[:4] == b"RIFF"
        return str(response.headers["Segue-Revision"])


def test_the_curl_line_that_is_printed_works(running: Running, tmp_path: Path) -> None:
    line = eventually(
        lambda: next(each for each in running.said().splitlines() if "curl " in each), within_s=30, what="a curl line"
    )
    subprocess.run(shlex.split(line), check=True, cwd=tmp_path, timeout=30)
    assert (tmp_path / "hello.wav").read_bytes()[:4] == b"RIFF"


def test_say_uses_what_runs(running: Running, tmp_path: Path) -> None:
    said = running.run("say", "Does it work?", "-o", str(tmp_path / "q.mp3"))
    assert running.up["server"] in said
    assert (tmp_path / "q.mp3").stat().st_size > 1000


def test_say_needs_no_server_and_little_time(running: Running, tmp_path: Path) -> None:
    began = time.monotonic()
    said = running.run("say", "Hello.", "--local", "--voices", str(running.voices), "-o", str(tmp_path / "hello.wav"))
    assert "without a server" in said
    assert time.monotonic() - began < 15  # under 3 s on an idle machine; this one may be busy with other tests


def test_wait_comes_back_when_the_watch_is_over(running: Running) -> None:
    assert "Promoted=True" in running.run("wait", "narrator", "--for", "condition=Promoted", "--timeout", "60s")


def test_get_and_describe_speak_to_programs_too(running: Running) -> None:
    found = json.loads(running.run("get", "-o", "json"))
    assert [voice["key"] for voice in found["voices"]] == ["default/narrator"]
    described = json.loads(running.run("describe", "narrator", "-o", "json"))
    assert described["status"]["activeRevision"] == speak(running)


def test_describe_shows_the_figures_of_the_gates(running: Running) -> None:
    described = running.run("describe", "narrator")
    assert "pass  textMatch" in described
    assert "Conditions:" in described
    assert "Events:" in described


def test_an_unknown_voice_is_answered_with_those_there_are(running: Running) -> None:
    assert "there are: default/narrator" in running.run("describe", "nobody", code=1)


def test_new_weights_are_rolled_out_in_one_command(running: Running) -> None:
    before = speak(running)
    lines = running.run(
        "roll",
        "narrator",
        *("--prosody", "updates/narrator/v2/prosody.pth", "--timbre", "updates/narrator/v2/timbre.pth"),
        *("--wait", "--timeout", "90s"),
    )
    assert "Promoted=True" in lines
    assert speak(running) not in (before, "")
    assert "# how it moves" in (running.voices / "narrator.yaml").read_text(encoding="utf-8")


def test_a_version_that_says_the_wrong_thing_is_refused_and_the_yaml_is_as_it_was(running: Running) -> None:
    file = running.voices / "narrator.yaml"
    text, before = file.read_text(encoding="utf-8"), speak(running)
    lines = running.run(
        "roll",
        "narrator",
        *("--prosody", "updates/narrator/broken/prosody.pth", "--timbre", "updates/narrator/broken/timbre.pth"),
        *("--wait", "--timeout", "90s"),
        code=3,
    )
    assert "textMatch" in lines
    assert speak(running) == before
    assert file.read_text(encoding="utf-8") == text
    assert "FAIL  textMatch" in running.run("describe", "narrator")


def test_an_edit_is_seen_within_a_second(running: Running) -> None:
    before = running.voice()["metadata"]["generation"]
    file = running.voices / "narrator.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("duration: 1s", "duration: 2s"), encoding="utf-8")
    began = time.monotonic()
    eventually(lambda: running.voice()["metadata"]["generation"] > before, within_s=10, what="a new generation")
    assert time.monotonic() - began < 3  # 0.3 s on an idle machine


def test_a_broken_file_is_named_and_what_runs_stays(running: Running) -> None:
    file = running.voices / "narrator.yaml"
    text, before = file.read_text(encoding="utf-8"), speak(running)
    file.write_text(text.replace("engine: demo", "engine: dmeo"), encoding="utf-8")
    eventually(lambda: running.voice()["problems"], within_s=10, what="a problem")
    assert f"{file}:7: spec.engine: " in running.run("get")
    assert speak(running) == before
    file.write_text(text, encoding="utf-8")
    eventually(lambda: not running.voice()["problems"], within_s=10, what="no problem")


def test_a_second_up_is_refused_and_names_the_first(running: Running) -> None:
    assert running.process is not None
    assert f"pid {running.process.pid}" in running.run("up", str(running.voices), code=1)


def test_a_port_that_is_taken_is_named(running: Running, tmp_path: Path) -> None:
    port = running.up["server"].rpartition(":")[2]
    said = running.run("up", str(running.voices), "--state", str(tmp_path / "other"), "--port", port, code=1)
    assert f"port {port} on 127.0.0.1 is in use" in said


def test_a_new_file_is_a_new_voice_and_a_deleted_one_is_let_go(running: Running) -> None:
    file = running.voices / "second.yaml"
    file.write_text(VOICE.format(name="second", version="examples/cleo/v1"), encoding="utf-8")
    running.run("wait", "second", "--for", "condition=Ready", "--timeout", "60s")
    file.unlink()
    gone = "there is no voice default/second"
    eventually(lambda: "default/second" not in running.run("get", "-o", "json") or None, within_s=20, what=gone)


@pytest.mark.parametrize("name", ["operator", "sidecar", "server"])
def test_what_is_killed_is_started_again_and_speech_goes_on(running: Running, name: str) -> None:
    before, revision = running.up["children"][name], speak(running)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: running.up["children"].get(name) not in (before, None), within_s=20, what=f"a new {name}")
    assert f"{name} was ended by SIGKILL; starting it again" in running.said()
    assert eventually(lambda: speak(running), within_s=40, what="speech") == revision
    eventually(lambda: running.voice()["pods"][0]["inReach"], within_s=40, what="a sidecar in reach")


def test_sigterm_ends_everything(running: Running) -> None:
    assert running.process is not None
    pids = running.all_pids()
    assert len(pids) >= 5
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(40) == 0
    eventually(lambda: not any(alive(pid) for pid in pids), within_s=10, what="no process left")
    assert not running.layout.up_file.exists()


def test_a_restart_serves_what_was_served_and_names_a_file_that_is_broken(running: Running) -> None:
    (running.voices / "bad.yaml").write_text("kind: VoiceModel\napiVersion: segue.dev/v1alpha1\nspek: {}\n")
    running.start()
    assert f"problem: {running.voices}/bad.yaml:3: spek: " in running.said()
    assert running.voice()["status"]["attempt"] == len(
        [entry for entry in running.voice()["events"] if entry["reason"] == "Preloading"]
    )
    speak(running)


def test_kill_9_of_up_itself_leaves_no_orphan(running: Running) -> None:
    assert running.process is not None
    pids = running.all_pids()
    running.process.kill()
    running.process.wait()
    eventually(lambda: not any(alive(pid) for pid in pids), within_s=45, what=f"no orphans of {pids}")
