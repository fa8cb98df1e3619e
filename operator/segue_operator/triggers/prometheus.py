"""One instant query against Prometheus' HTTP API, and what its answer means for a voice.

Separate from `queries.py`, which decides when to ask. The rule: a result is a failure; no result is none; everything
that leaves room for doubt (an error, NaN, a warning, an answer that is no vector) is inconclusive and says why.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from segue.errors import SegueError
from segue.rollout import Verdict
from segue_operator.triggers.config import PrometheusConfig
from segue_operator.triggers.token_file import NoToken, TokenFile, file_stamp

ANSWER_LIMIT_BYTES = 1 << 20
TEXT_SHOWN = 200

logger = logging.getLogger(__name__)


class PrometheusUnusable(SegueError):
    """A configuration with which nothing can be asked."""


class PrometheusAway(SegueError):
    """No answer: the next query would have none either."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one query says now."""

    verdict: Verdict
    message: str = ""


class _Series(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None
    """None: a native histogram."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    result_type: str = Field(alias="resultType")
    result: list[Any]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    status: str
    data: _Data | None = None
    error: str = ""
    warnings: list[str] = []


_VECTOR = TypeAdapter(list[_Series])


class PrometheusClient:
    """Keeps its connections open between queries; an async context manager.

    Parameters
    ----------
    transport
        Test seam.

    Raises
    ------
    PrometheusUnusable
        `caFile` holds no certificates.
    """

    def __init__(self, config: PrometheusConfig, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._config = config
        self._token = TokenFile(config.token_file) if config.token_file is not None else None
        self._trust = _Trust(config)
        self._client = httpx.AsyncClient(
            verify=self._trust.context,
            timeout=config.timeout_s,
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def ask(self, promql: str) -> Answer:
        """Evaluate a query now.

        Raises
        ------
        PrometheusAway
            Nobody answered in time, or the token cannot be read.
        """
        timeout_s = self._config.timeout_s
        try:
            self._trust.renew()
            async with asyncio.timeout(timeout_s):
                status, content = await self._post(promql)
        except TimeoutError as error:
            raise PrometheusAway(f"Prometheus gave no answer within {timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise PrometheusAway(f"Prometheus cannot be asked: {_shown(str(error)) or type(error).__name__}") from error
        except NoToken as error:
            raise PrometheusAway(str(error)) from error
        if content is None:
            return Answer(Verdict.INCONCLUSIVE, f"the answer is longer than {ANSWER_LIMIT_BYTES} bytes")
        return judge(status, content)

    async def vector(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an instant vector, for figures that decide nothing.

        Raises
        ------
        PrometheusAway
            Nobody answered in time, or what was answered is no vector.
        """
        try:
            self._trust.renew()
            async with asyncio.timeout(self._config.timeout_s):
                _, content = await self._post(promql)
            body = _Body.model_validate_json(content or b"")
            series = _VECTOR.validate_python(body.data.result if body.data is not None else None)
        except TimeoutError as error:
            raise PrometheusAway(f"Prometheus gave no answer within {self._config.timeout_s:g} s") from error
        except (httpx.HTTPError, NoToken) as error:
            raise PrometheusAway(f"Prometheus cannot be asked: {_shown(str(error)) or type(error).__name__}") from error
        except ValidationError as error:
            raise PrometheusAway("Prometheus answered with something that is no vector") from error
        return [(each.metric, float(each.value[1])) for each in series if each.value is not None]

    async def _post(self, promql: str) -> tuple[int, bytes | None]:
        """A form, not a URL: queries may be longer than proxies let URLs be."""
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.tokens()[0]}"
        form = {"query": promql, "timeout": f"{self._config.timeout_s:g}"}
        url = f"{self._config.url}/api/v1/query"
        async with self._client.stream("POST", url, data=form, headers=headers) as response:
            return response.status_code, await _read(response.aiter_bytes())


@dataclass(slots=True)
class _Trust:
    """The authorities, with those that are added to the file while we run."""

    config: PrometheusConfig
    context: ssl.SSLContext = field(init=False)
    _seen: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        try:
            self.context = ssl.create_default_context(cafile=self.config.ca_file)
            self._seen = file_stamp(self.config.ca_file) if self.config.ca_file is not None else None
        except OSError as error:  # ssl.SSLError is one
            raise PrometheusUnusable(f"prometheus.caFile {self.config.ca_file} cannot be used: {error}") from error

    def renew(self) -> None:
        """Load the file again if it changed; one that cannot be read changes nothing."""
        if self.config.ca_file is None:
            return
        try:
            stamp = file_stamp(self.config.ca_file)
            if stamp != self._seen:
                self._seen = stamp
                self.context.load_verify_locations(self.config.ca_file)
        except OSError as error:
            logger.warning("prometheus.caFile %s cannot be read again: %s", self.config.ca_file, error)


async def _read(chunks: AsyncIterator[bytes]) -> bytes | None:
    """The whole answer, None if it is too long."""
    content = bytearray()
    async for chunk in chunks:
        content += chunk
        if len(content) > ANSWER_LIMIT_BYTES:
            return None
    return bytes(content)


def judge(status: int, content: bytes) -> Answer:
    """What an answer of the HTTP API means."""
    try:
        body = _Body.model_validate_json(content)
        if body.status != "success" or body.data is None:
            return Answer(Verdict.INCONCLUSIVE, f"Prometheus says: {_shown(body.error) or f'HTTP {status}'}")
        if body.warnings:
            return Answer(Verdict.INCONCLUSIVE, f"Prometheus warns: {_shown('; '.join(body.warnings))}")
        if body.data.result_type != "vector":
            kind = _shown(body.data.result_type)
            text = f"the result is a {kind}, not an instant vector; write a comparison that is empty while all is well"
            return Answer(Verdict.INCONCLUSIVE, text)
        return _judge_vector(_VECTOR.validate_python(body.data.result))
    except ValidationError:
        return Answer(Verdict.INCONCLUSIVE, f"HTTP {status} with something that is no answer of Prometheus")


def _judge_vector(series: list[_Series]) -> Answer:
    if not series:
        return Answer(Verdict.PASSING)
    real = [each for each in series if not _is_nan(each)]
    if not real:
        return Answer(Verdict.INCONCLUSIVE, f"the result is NaN ({len(series)} series)")
    first = real[0]
    value = first.value[1] if first.value is not None else "a histogram"
    labels = ", ".join(f'{name}="{text}"' for name, text in sorted(first.metric.items()))
    return Answer(Verdict.FAILING, f"{_shown(value)} for {{{_shown(labels)}}} ({len(series)} series)")


def _is_nan(series: _Series) -> bool:
    try:
        return series.value is not None and math.isnan(float(series.value[1]))
    except ValueError:
        return True


def _shown(text: str) -> str:
    """Words of another program in a status: no control characters, and not a whole page."""
    return "".join(char if char.isprintable() else " " for char in text[:TEXT_SHOWN])
