"""The speech API against its own OpenAPI document: schemathesis tries everything, on a server that speaks.

The requests are the same each time, so that a failure here can be run again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from schemathesis import Case
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.openapi import from_dict
from schemathesis.pytest.lazy import get_all_tests
from tests.support.served import Served
from tests.support.shared_server import shared_server

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

KEY = "a key of these tests"
REFUSED_BY_MEANING = {"codec_missing", "empty_input", "invalid_value", "option_rejected", "text_rejected"}
"""Refusals that JSON Schema has no words for: an unreadable text, a sample rate that the format has not, an option of
which only the engine knows."""


def config(examples: int) -> SchemathesisConfig:
    """The same cases on each run, none remembered."""
    return SchemathesisConfig.from_dict(
        {"generation": {"deterministic": True, "max-examples": examples, "database": "none", "no-shrink": True}}
    )


@dataclass
class Api:
    """One running API, and what it says of itself."""

    description: dict[str, Any]
    base_url: str
    session: requests.Session
    examples: int

    @property
    def operations(self) -> set[str]:
        """All that can be called."""
        paths = self.description["paths"].values()
        return {operation["operationId"] for path in paths for operation in path.values()}

    def try_everything(self, operation: str, *, prepare: Callable[[Case[Any]], None]) -> Counter[int]:
        """Call one operation in every way that schemathesis can think of; how often it answered with which status.

        Parameters
        ----------
        prepare
            Makes a case mean something here: no description says which voices there are.
        """
        answers: Counter[int] = Counter()

        def call(case: Case[Any]) -> None:
            prepare(case)
            answer = case.call(session=self.session, timeout=30)
            answers[answer.status_code] += 1
            case.validate_response(answer, checks=checks_for(answer))

        schema = from_dict(self.description, config=config(self.examples)).include(operation_id=operation)
        schema.config.update(base_url=self.base_url)
        for found in get_all_tests(schema=schema, test_func=call, settings=None, given_kwargs=None):
            assert isinstance(found, Ok), found
            _, run = found.ok()
            run()
        return answers


def checks_for(answer: Any) -> list[Any]:
    """All of schemathesis' checks; without the one for well-formed requests, where one was refused for its meaning."""
    load_all_checks()
    names = set(CHECKS.get_all_names()) - {"use_after_free", "ensure_resource_availability"}
    if answer.status_code == 400 and reason(answer) in REFUSED_BY_MEANING:
        names.discard("positive_data_acceptance")
    return CHECKS.get_by_names(sorted(names))


def reason(answer: Any) -> str:
    """The machine-readable name of a refusal."""
    return str(answer.json()["error"]["code"])


def well_formed(case: Case[Any]) -> bool:
    """Whether all of a case is as the description asks for."""
    return case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with one voice, and with keys."""
    directory = tmp_path_factory.mktemp("s")
    keys = directory / "keys.yaml"
    keys.write_text(f"- {{sha256: {hashlib.sha256(KEY.encode()).hexdigest()}, namespace: default, name: tests}}\n")
    with (
        shared_server(directory, keysFile=str(keys), maxInputChars=200) as server,
        requests.Session() as session,
    ):

        async def described(served: Served) -> tuple[dict[str, Any], str]:
            return (await served.client.get("/openapi.json")).json(), str(served.client.base_url)

        description, base_url = server.run(described)
        session.headers["Authorization"] = f"Bearer {KEY}"
        yield Api(description, base_url, session, examples=60)


@pytest.mark.parametrize("operation", ["speak", "list_voices", "list_models", "get_model"])
def test_the_speech_api_does_what_it_says(speech: Api, operation: str) -> None:
    def meant(case: Case[Any]) -> None:
        if operation == "speak" and well_formed(case) and isinstance(case.body, dict):
            case.body["voice"] = "narrator"
        if operation == "get_model" and well_formed(case):
            case.path_parameters["model"] = "segue"

    answers = speech.try_everything(operation, prepare=meant)
    assert answers[200] >= 1
    assert answers.total() > 10


def test_no_operation_of_the_speech_api_is_left_out(speech: Api) -> None:
    assert speech.operations == {"speak", "list_voices", "list_models", "get_model"}
