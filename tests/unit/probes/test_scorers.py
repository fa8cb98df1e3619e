"""Plugged-in judges: asked as they are configured, and never quoted when they did not answer."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from typing_extensions import override

from segue_engines.probes import ScorerFailed, ScorerKind, scorer
from segue_engines.probes.scorers import SpokenText, score_all, word_error_rate

SPOKEN = SpokenText(audio=np.zeros(2400, np.float32), sample_rate=24000, text="One small step.", language="en")
READS_WAV = (
    "import os, sys, wave; w = wave.open(sys.stdin.buffer);"
    "print(w.getframerate() / 8000 if os.environ['SEGUE_TEXT'] == 'One small step.' else 'no')"
)


def script(tmp_path: Path, source: str) -> str:
    path = tmp_path / "score.py"
    path.write_text(source)
    return f"command:{sys.executable} {path}"


def test_a_command_reads_the_wav_and_prints_a_figure(tmp_path: Path) -> None:
    judge = scorer(ScorerKind.NATURALNESS, script(tmp_path, READS_WAV), minimum=2.5)
    (said, absent) = score_all([judge], [SPOKEN, SPOKEN])
    assert (said.name, said.figure, said.minimum) == ("naturalness", 3.0, 2.5)
    assert (absent.name, absent.figure, absent.reason) == ("wordErrorRate", None, "no scorer is set")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("print('very natural')", "which is no number"),
        ("print('nan')", "which is not finite"),
        ("raise SystemExit('out of memory')", "ended with 1: out of memory"),
        ("", "which is no number"),
    ],
)
def test_a_command_that_gives_no_figure_is_not_measured(tmp_path: Path, source: str, reason: str) -> None:
    said = scorer(ScorerKind.NATURALNESS, script(tmp_path, source)).score([SPOKEN])
    assert said.figure is None
    assert reason in said.reason


def test_a_command_that_does_not_exist_is_not_measured() -> None:
    said = scorer(ScorerKind.NATURALNESS, "command:/nowhere/score").score([SPOKEN])
    assert said.figure is None
    assert "No such file" in said.reason


def test_a_command_that_hangs_is_given_up(tmp_path: Path) -> None:
    hangs = script(tmp_path, "import threading; threading.Event().wait()")
    said = scorer(ScorerKind.NATURALNESS, hangs, timeout_s=0.5).score([SPOKEN])
    assert said.figure is None
    assert "timed out" in said.reason


def test_a_transcript_is_compared_word_by_word(tmp_path: Path) -> None:
    said = scorer(ScorerKind.WORD_ERROR_RATE, script(tmp_path, "print('one small stop')")).score([SPOKEN])
    assert said.figure == pytest.approx(1 / 3)


def test_nothing_to_judge_is_not_measured(tmp_path: Path) -> None:
    said = scorer(ScorerKind.NATURALNESS, script(tmp_path, "print(4)")).score([])
    assert said.figure is None
    assert said.reason == "there was no audio"


@contextmanager
def service(answer: bytes, status: int = 200) -> Iterator[tuple[str, list[bytes]]]:
    """A web service that gives one answer to everybody, and what it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        @override
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_service_is_posted_the_wav_and_gives_a_score() -> None:
    with service(json.dumps({"score": 4.25}).encode()) as (url, bodies):
        said = scorer(ScorerKind.NATURALNESS, url).score([SPOKEN])
    assert said.figure == 4.25
    assert bodies[0].startswith(b"RIFF")


def test_a_transcription_service_is_asked_as_openai_s() -> None:
    with service(json.dumps({"text": "One small step!"}).encode()) as (url, bodies):
        said = scorer(ScorerKind.WORD_ERROR_RATE, url).score([SPOKEN])
    assert said.figure == 0.0
    assert b'name="file"' in bodies[0]
    assert b'name="language"' in bodies[0]


@pytest.mark.parametrize(
    ("answer", "status"), [(b"{}", 200), (b"[1]", 200), (b"not json", 200), (b'{"score": 4}', 500)]
)
def test_a_service_that_gives_no_figure_is_not_measured(answer: bytes, status: int) -> None:
    with service(answer, status) as (url, _):
        said = scorer(ScorerKind.NATURALNESS, url).score([SPOKEN])
    assert said.figure is None
    assert url in said.reason


@pytest.mark.parametrize("address", ["", "command:", "ftp://x", "score.py", "entry-point:absent"])
def test_an_address_that_means_nothing_is_refused(address: str) -> None:
    with pytest.raises(ScorerFailed, match="scorer"):
        scorer(ScorerKind.NATURALNESS, address)


@pytest.mark.parametrize(
    ("heard", "wanted", "rate"),
    [
        ("Hello, world!", "hello world", 0.0),
        ("hello", "hello world", 0.5),
        ("it’s fine", "It's fine.", 0.0),
        ("今天下雨", "今天下雪", 0.25),
        ("", "one two", 1.0),
    ],
)
def test_word_errors_are_counted_per_word_of_the_text(heard: str, wanted: str, rate: float) -> None:
    assert word_error_rate(heard, wanted) == rate
