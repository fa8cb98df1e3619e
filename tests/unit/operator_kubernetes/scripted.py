"""An API server that answers as it is told, call by call; for what a real one does only on bad days."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from kubernetes.aio.client import ApiClient, Configuration
from typing_extensions import override

from segue_operator.kubernetes.api import ANSWER_S, JSON, Api, Body

Answer = Callable[[str, str, Any], Body]


@cache
def _client() -> ApiClient:
    """One that nothing is ever sent by; making one reads all of the system's certificates."""
    return ApiClient(Configuration())


async def _nothing() -> None:
    """Credentials are as they were."""


class ScriptedApi(Api):
    """Answers by a function of verb, path and body, which may raise what `Api.call` raises."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(client=_client(), renew=_nothing)
        self.answer = answer
        self.calls: list[tuple[str, str, Any]] = []

    @override
    async def call(
        self,
        verb: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        answer_s: float = ANSWER_S,
    ) -> Body:
        """Note the call, and answer."""
        self.calls.append((verb, path, body))
        return self.answer(verb, path, body)
