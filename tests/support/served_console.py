"""A console over voices that a test makes up, served for real in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from tests.support.console import NEW, OLD, FakeSource, rolling, voice_document

from segue_operator.api import ApiServer, serve_on
from segue_operator.console.app import build_console, make_app
from segue_operator.console.config import ConsoleConfig
from segue_operator.console.news import News
from segue_operator.listener import address_of, bind_address, make_plain_server
from segue_operator.ports import Problem

TOKEN = "sesame-of-the-tests"
LONG = "a-name-that-is-as-long-as-kubernetes-allows-and-not-a-bit-shor"


class ServedConsole:
    """Started by `start`, with whatever is in `source`."""

    def __init__(self, folder: Path) -> None:
        token_file = folder / "token"
        token_file.write_text(TOKEN, encoding="utf-8")
        self.source = FakeSource()
        self.config = ConsoleConfig(listen="127.0.0.1:0", token_file=token_file)
        self.url = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: ApiServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> ServedConsole:
        """Serve; the second time where it was served before."""
        listening = bind_address(self.config.listen)
        self.config = self.config.model_copy(update={"listen": address_of(listening)})
        self.url = f"http://{address_of(listening)}/"
        console = build_console(self.config, source=self.source, editor=self.source, news=News())
        self._server = make_plain_server(make_app(console, self.config))
        self._streams = console.streams

        def serve() -> None:
            assert self._server is not None
            self._loop = asyncio.new_event_loop()
            self._loop.run_until_complete(serve_on(self._server, [listening]))
            self._loop.close()
            listening.close()

        self._thread = threading.Thread(target=serve, name="console")
        self._thread.start()
        httpx.get(self.url, timeout=10)
        return self

    def change(self, change: Callable[[FakeSource], Any]) -> None:
        """Change what is shown, between two looks."""
        assert self._loop is not None
        done = threading.Event()

        def carry_out() -> None:
            change(self.source)
            done.set()

        self._loop.call_soon_threadsafe(carry_out)
        assert done.wait(10)

    def stop(self) -> None:
        """End it."""
        if self._thread is None or self._server is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._streams.closing.set)
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._thread = None


REPORT: dict[str, Any] = {
    "key": "k",
    "kind": "full",
    "phase": "Failed",
    "done": 18,
    "total": 18,
    "baseline": OLD,
    "pod": "voices-6d5f-x7x2k",
    "gates": [
        {"name": "similarity", "passed": True, "figure": 0.943, "limit": 0.9, "unit": "", "message": ""},
        {
            "name": "textMatch",
            "passed": False,
            "figure": 1.1,
            "limit": 0.3,
            "unit": "errors/phone",
            "message": "18 of 18 sentences fail",
        },
        {"name": "naturalness", "passed": None, "figure": None, "limit": None, "unit": "", "message": "no scorer"},
    ],
    "continuity": [
        {"name": "loudness", "passed": False, "figure": 3.4, "limit": 2.0, "unit": "LU", "message": "louder"}
    ],
    "reasons": ["0 of 18 sentences pass all their gates, 99% are asked for"],
}

_FAILED = {
    "revision": NEW,
    "reason": "VerificationFailed",
    "message": "textMatch: 18 of 18 sentences fail (worst 1.1 errors/phone, limit 0.3)",
    "at": "2026-11-22T10:03:00Z",
    "weights": {"timbre": {"uri": "file:///voices/updates/broken/timbre.pth"}},
}
_BACK = {"fromRevision": NEW, "toRevision": OLD, "reason": "ManualRollback", "startedAt": "2026-11-22T10:06:00Z"}


def every_state() -> list[dict[str, Any]]:
    """A voice for each kind of trouble, of waiting and of getting on."""
    stalled = [{"type": "Stalled", "status": "True", "reason": "RolledBack"}]
    return [
        voice_document("default/calm"),
        voice_document("default/failed", conditions=stalled, failedRevisions=[_FAILED], message=_FAILED["message"]),
        voice_document(f"team-with-a-long-name/{LONG}", message="serves " + "w" * 200),
        voice_document("default/new", activeRevision=None, history=[], reason="NoPods", message="no pod is ready"),
        voice_document("default/still", spec={"rollout": {"paused": True}}),
        rolling("Preloading", "default/loading", reason="Queued", message="pod local queues it (PoolFull)"),
        rolling("Verifying", "default/approval", reason="AwaitingApproval", message="bbbbbbbbbb waits for promote"),
        rolling("Canary", "default/tried", deadline="2026-11-22T11:00:00Z"),
        rolling("Watching", "default/watched", activeRevision=NEW, deadline="2026-11-22T11:00:00Z"),
        rolling("RollingBack", "default/going-back", rollback=_BACK),
    ]


def troubled(source: FakeSource) -> None:
    """All of them, with figures, and a file that cannot be read."""
    source.put(*every_state())
    source.kept["default/failed"] = {NEW: REPORT}
    source.wrong.append(
        Problem(file="voices/calm.yaml", line=7, field="spec.watch", message="is no duration", voices=("default/calm",))
    )
