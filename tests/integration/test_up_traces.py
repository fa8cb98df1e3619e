"""One trace follows a rollout through operator and sidecar; the requests of its revision name it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from tests.support.otlp import Received, Receiver, receiving
from tests.support.running import VOICE, Running, eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


def rollouts(receiver: Receiver) -> list[Received]:
    return [span for span in list(receiver.spans) if span.name == "rollout"]


def speak(running: Running) -> None:
    body = json.dumps({"input": "Hello.", "voice": "narrator", "response_format": "wav", "model": "segue"}).encode()
    request = urllib.request.Request(
        f"{running.up['server']}/v1/audio/speech", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.read()[:4] == b"RIFF"


def test_one_trace_follows_a_rollout_and_another_one_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        running = Running.prepare(tmp_path)
        try:
            running.start()
            eventually(lambda: len(rollouts(receiver)) == 1, within_s=60, what="the first rollout is over")
            file = running.voices / "narrator.yaml"
            file.write_text(VOICE.format(name="narrator", version="updates/narrator/v2"), encoding="utf-8")
            eventually(lambda: len(rollouts(receiver)) == 2, within_s=90, what="the second rollout is over")
            speak(running)
            revision = running.voice()["status"]["activeRevision"]
            (spoken,) = eventually(
                lambda: [span for span in list(receiver.spans) if span.name.endswith("/audio/speech")],
                within_s=20,
                what="the request's span",
            )
        finally:
            running.stop()
        first, second = rollouts(receiver)
        assert first.trace != second.trace
        assert second.attributes["segue.revision"] == spoken.attributes["segue.revision"] == revision
        spans = receiver.trace(second.trace)
        by_service = {
            name: [span for span in spans if span.service == name] for name in ("segue-operator", "segue-sidecar")
        }
        assert sum(map(len, by_service.values())) == len(spans)
        assert {span.parent for span in spans if span is not second} == {second.span}
        assert second.parent == ""
        phases = [span.name for span in by_service["segue-operator"] if span is not second]
        assert phases == ["Preloading", "Verifying", "Flipping", "Watching"]
        done = {span.name for span in by_service["segue-sidecar"]}
        assert {"PUT revision", "POST probe", "PUT pointer", "Fetching", "Preparing", "Proving"} <= done
        assert all(span.start_ns <= span.end_ns for span in spans)
        assert all(second.start_ns <= span.start_ns for span in by_service["segue-operator"])
        assert not any(span.failed for span in spans)
