"""What the API server says to a VoiceModel, valid or not, and that `segue.model` says the same.

Everything is a dry run with strict field validation, as `kubectl apply` asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from tests.support.cluster import TestCluster
from tests.support.voice_table import Document, Invalid, changed, table, valid_documents, whole_document

from segue.model import defaulted
from segue.model.crd import crd

pytestmark = pytest.mark.cluster

VOICES = "/apis/segue.dev/v1alpha1/namespaces/default/voicemodels"
DRY_RUN = {"dryRun": "All", "fieldValidation": "Strict"}


@pytest.fixture(scope="module")
def api(cluster: TestCluster) -> Iterator[httpx.Client]:
    with cluster.client() as client:
        yield client


@pytest.fixture(scope="module")
def answers(api: httpx.Client) -> Mapping[str, httpx.Response]:
    """What the API server says to each row of the table."""
    return {row.name: api.post(VOICES, params=DRY_RUN, json=row.document) for row in table()}


@pytest.mark.parametrize("row", table(), ids=lambda row: row.name)
def test_an_invalid_voice_is_refused_with_a_message_that_names_the_field(
    answers: Mapping[str, httpx.Response], row: Invalid
) -> None:
    answer = answers[row.name]
    assert answer.status_code in (400, 422), answer.text
    assert row.field in answer.json()["message"]


def test_every_rule_of_the_crd_refuses_something(
    api: httpx.Client, answers: Mapping[str, httpx.Response], stored: Document
) -> None:
    said = [answer.json()["message"] for answer in answers.values()]
    said += [_change(api, stored, name, value).json()["message"] for name, value in IMMUTABLE]
    silent = [message for message in set(_messages(_schema())) if not any(message in each for each in said)]
    assert silent == []


IMMUTABLE = [("engine", "gpt-sovits"), ("fleet", "other")]


@pytest.fixture(scope="module")
def stored(cluster: TestCluster, api: httpx.Client) -> Document:
    """A voice that is on the server."""
    document = changed(whole_document(), ("metadata", "namespace"), cluster.new_namespace("rules"))
    answer = api.post(_path(document, ""), json=document)
    assert answer.status_code == 201, answer.text
    created: Document = answer.json()
    return created


@pytest.mark.parametrize(("field", "value"), IMMUTABLE)
def test_what_cannot_be_changed_stays(api: httpx.Client, stored: Document, field: str, value: str) -> None:
    answer = _change(api, stored, field, value)
    assert answer.status_code == 422
    assert f"spec.{field}: Invalid value" in answer.json()["message"]
    assert f"{field} cannot be changed" in answer.json()["message"]


def test_fleet_cannot_be_changed_by_leaving_it_out_either(api: httpx.Client, stored: Document) -> None:
    elsewhere = changed(changed(stored, ("spec", "fleet"), "gpu-24g"), ("metadata",), {"name": "elsewhere"})
    assert api.post(_path(stored, ""), json=elsewhere).status_code == 201
    patch = {"spec": {"fleet": None}}
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = api.patch(_path(stored, "elsewhere"), json=patch, headers=headers, params=DRY_RUN)
    assert "fleet cannot be changed" in answer.json()["message"]


def test_everything_else_can_be_changed(api: httpx.Client, stored: Document) -> None:
    for document in valid_documents(30, seed=5):
        spec = document["spec"] | {name: stored["spec"][name] for name in ("engine", "fleet")}
        answer = api.put(_path(stored, "narrator"), params=DRY_RUN, json=changed(stored, ("spec",), spec))
        assert answer.is_success, answer.text


def test_valid_voices_are_accepted_and_get_the_defaults_of_the_types(api: httpx.Client) -> None:
    for document in [whole_document(), *valid_documents(200, seed=4)]:
        answer = api.post(VOICES, params=DRY_RUN, json=document)
        assert answer.status_code == 201, answer.text
        assert answer.json()["spec"] == defaulted(document)["spec"]


def test_a_voice_that_says_nothing_gets_every_default(api: httpx.Client) -> None:
    document = changed(
        whole_document(), ("spec",), {name: whole_document()["spec"][name] for name in ("engine", "weights")}
    )
    answer = api.post(VOICES, params=DRY_RUN, json=document)
    assert answer.json()["spec"] == defaulted(document)["spec"]


def _change(api: httpx.Client, stored: Document, field: str, value: str) -> httpx.Response:
    return api.put(_path(stored, "narrator"), params=DRY_RUN, json=changed(stored, ("spec", field), value))


def _path(document: Document, name: str) -> str:
    collection = f"/apis/segue.dev/v1alpha1/namespaces/{document['metadata']['namespace']}/voicemodels"
    return f"{collection}/{name}" if name else collection


def _schema() -> dict[str, Any]:
    found: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def _messages(node: Any) -> Iterator[str]:
    """Of all rules."""
    if isinstance(node, dict):
        for key, child in node.items():
            if key == "x-kubernetes-validations":
                yield from (rule["message"] for rule in child)
            else:
                yield from _messages(child)
