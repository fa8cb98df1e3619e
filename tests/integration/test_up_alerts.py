"""Alerts on one machine, for real: `segue up`, a storm of calls as Alertmanager and strangers make them, a listener."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.alerts import CALLS, storm
from tests.support.running import VOICE, Running, eventually

from segue_cli.up.ports import free_port

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

TOKEN = "a token of thirty-two characters"
BRIEFLY = "watch: {duration: 1s, sustainedFor: 1s,"
LONG = "watch: {duration: 10m, sustainedFor: 5m,"


class Machine:
    """A running `segue up` that Alertmanager may call."""

    def __init__(self, root: Path) -> None:
        self.running = Running.prepare(root)
        self.token = root / "token"
        self.token.write_text(TOKEN + "\n", encoding="utf-8")
        self.port = free_port()

    def start(self) -> Machine:
        self.running.start("--hooks-token", str(self.token), "--hooks-listen", f"127.0.0.1:{self.port}")
        return self

    def speak(self) -> str:
        body = json.dumps({"input": "Hello.", "voice": "narrator", "response_format": "wav", "model": "segue"}).encode()
        headers = {"Content-Type": "application/json", "Segue-Cache": "no-store"}
        request = urllib.request.Request(f"{self.running.up['server']}/v1/audio/speech", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            assert response.read()[:4] == b"RIFF"
            return str(response.headers["Segue-Revision"])


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    try:
        yield made.start()
    finally:
        made.running.stop()


def test_a_storm_of_alerts_takes_one_revision_back_and_fails_nobody(machine: Machine) -> None:
    running = machine.running
    running.run("wait", "narrator", "--for", "condition=Promoted", "--timeout", "60s")
    good, file = machine.speak(), running.voices / "narrator.yaml"
    text = VOICE.format(name="narrator", version="updates/narrator/v2")
    assert BRIEFLY in text
    file.write_text(text.replace(BRIEFLY, LONG), encoding="utf-8")
    eventually(lambda: running.voice()["status"]["phase"] == "Watching", within_s=90, what="an open watch")
    bad = machine.speak()
    assert bad != good
    time.sleep(0.01)  # the alert begins after the flip
    spoken: list[str] = []
    over = threading.Event()

    def listen() -> None:
        while not over.is_set():
            spoken.append(machine.speak())

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        began = time.monotonic()
        answers = asyncio.run(storm(machine.port, token=TOKEN, key="default/narrator"))
        took_s = time.monotonic() - began
        eventually(lambda: running.voice()["status"]["phase"] == "Idle", within_s=60, what="the end of the rollback")
    finally:
        over.set()
        listener.join(60)
    assert answers == {200: CALLS // 2, 401: CALLS // 4, 400: CALLS // 4}
    assert took_s < 20  # about a second on an idle machine; this one may be busy with other tests
    assert machine.speak() == good
    assert len(spoken) > 1
    assert set(spoken) <= {bad, good}
    voice = running.voice()
    assert [event["reason"] for event in voice["events"]].count("RollingBack") == 1
    assert voice["status"]["lastRollback"]["reason"] == "AlertFiring"
    assert "updates/narrator/v2" not in file.read_text(encoding="utf-8")
