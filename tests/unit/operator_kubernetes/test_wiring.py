"""The watches' threads: how they end. Everything else of them is tried against servers, in `tests/integration`."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

import kopf
import pytest

from segue_operator.kubernetes.api import Api
from segue_operator.kubernetes.scope import Watch
from segue_operator.kubernetes.wiring import Watching

VOICES = Watch(name="voices", group="segue.dev", version="v1alpha1", plural="voicemodels")


class SilentApi:
    """An API server that has everything."""

    async def call(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {}


class LeftStream:
    """kopf, whose stream complains when the loop closes it."""

    def __init__(self) -> None:
        self.streams = threading.Event()

    async def operator(self, **_: Any) -> None:
        async for _event in self._stream():
            self.streams.set()
            await asyncio.Event().wait()

    async def _stream(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            raise RuntimeError("generator didn't stop after athrow()")


def test_a_stream_that_kopf_leaves_to_the_loop_is_no_error_when_the_operator_stops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left = LeftStream()
    monkeypatch.setattr(kopf, "operator", left.operator)

    async def main() -> None:
        watching = Watching(api=cast(Api, SilentApi()), watches=(VOICES,), deliver=lambda *_: None, on_gap=lambda: None)
        task = asyncio.create_task(watching.run())
        assert await asyncio.to_thread(left.streams.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    assert [each.message for each in caplog.records if each.levelno >= logging.ERROR] == []
    assert "while the watch of voices ended" in caplog.text
