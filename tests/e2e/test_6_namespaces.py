"""Two tenants of one fleet, who cannot hear each other's voices."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import httpx
import pytest
from tests.support.e2e.installation import Installation
from tests.support.e2e.scene import Theatre
from tests.support.e2e.shipped import shipped
from tests.support.pods.versions import SPLIT

TENANTS = ("tenant-a", "tenant-b")
KEYS = {"tenant-a": "key-of-a", "tenant-b": "key-of-b"}
SECRET = "speech-keys"
SPEECH = "/v1/audio/speech"
OWN = {"tenant-a": "voices/aria/v1", "tenant-b": "voices/bert/v1"}


@pytest.fixture(scope="module")
def shared(installation: Installation) -> Iterator[Installation]:
    """The fleet, for both, by keys."""
    keys = [
        {"sha256": hashlib.sha256(key.encode()).hexdigest(), "namespace": tenant, "name": tenant}
        for tenant, key in KEYS.items()
    ]
    cluster = installation.cluster
    for namespace in (installation.namespace, *TENANTS):
        cluster.kubectl("create", "namespace", namespace, check=False)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET},
        "stringData": {"keys.yaml": json.dumps(keys)},
    }
    installation.kubectl("apply", "-f", "-", input=json.dumps(secret))
    tenants = ",".join(TENANTS)
    installation.upgrade("--set", f"fleet.keysSecret={SECRET},fleet.tenants.allowedNamespaces={{{tenants}}}")
    installation.wait_ready()
    yield installation
    for tenant in TENANTS:
        cluster.kubectl("delete", "namespace", tenant, "--wait=false")


@pytest.fixture(scope="module")
def api(shared: Installation, theatre: Theatre) -> Iterator[httpx.Client]:
    """The Service."""
    service = theatre.service()
    with httpx.Client(base_url=f"http://{service.address}:{service.port}", timeout=60, trust_env=False) as client:
        yield client


def ask(api: httpx.Client, tenant: str, voice: str, **headers: str) -> httpx.Response:
    body = {"voice": voice, "input": "Nobody else can hear this.", "response_format": "pcm", "seed": 1}
    return api.post(SPEECH, json=body, headers={"Authorization": f"Bearer {KEYS[tenant]}", **headers})


@pytest.fixture(scope="module")
def revisions(shared: Installation, theatre: Theatre) -> dict[str, str]:
    """Each tenant has a voice `mine`, and the two are not alike; tenant-b also has one called `secret`."""
    found = {}
    for tenant, folder in OWN.items():
        voice = theatre.voice("mine", SPLIT, namespace=tenant)
        found[tenant] = voice.apply(shipped(folder))
        voice.wait_promoted(found[tenant], within_s=240)
    secret = theatre.voice("secret", namespace="tenant-b")
    secret.wait_promoted(secret.apply(shipped("voices/cleo/v1")), within_s=240)
    return found


def test_a_name_means_each_tenants_own_voice(api: httpx.Client, revisions: dict[str, str]) -> None:
    answers = {tenant: ask(api, tenant, "mine") for tenant in TENANTS}
    for tenant, answer in answers.items():
        assert answer.status_code == httpx.codes.OK, answer.text
        assert answer.headers["Segue-Voice"] == f"{tenant}/mine"
        assert answer.headers["Segue-Revision"] == revisions[tenant]
    assert answers["tenant-a"].content != answers["tenant-b"].content


@pytest.mark.parametrize("name", ["secret", "tenant-b/secret", "tenant-b.secret", "../tenant-b/secret"])
def test_no_name_reaches_the_other_tenants_voice(api: httpx.Client, revisions: dict[str, str], name: str) -> None:
    assert ask(api, "tenant-b", "secret").status_code == httpx.codes.OK
    refused = ask(api, "tenant-a", name)
    assert refused.status_code in (httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST), refused.text
    assert "audio" not in refused.headers["content-type"]


def test_a_pin_to_the_other_tenants_revision_is_refused(api: httpx.Client, revisions: dict[str, str]) -> None:
    refused = ask(api, "tenant-a", "mine", **{"Segue-Pin": revisions["tenant-b"]})
    assert refused.status_code >= httpx.codes.BAD_REQUEST, refused.headers


def test_lists_name_ones_own_voices_only(api: httpx.Client, revisions: dict[str, str]) -> None:
    for tenant, own in (("tenant-a", {"mine"}), ("tenant-b", {"mine", "secret"})):
        listed = api.get("/v1/audio/voices", headers={"Authorization": f"Bearer {KEYS[tenant]}"}).json()
        assert {each["id"] for each in listed["voices"]} == own


def test_without_a_key_nothing_is_said(api: httpx.Client, revisions: dict[str, str]) -> None:
    answer = api.post(SPEECH, json={"voice": "mine", "input": "Hello."})
    assert answer.status_code == httpx.codes.UNAUTHORIZED
