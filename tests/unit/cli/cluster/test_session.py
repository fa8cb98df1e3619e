"""Requests over real HTTP and TLS: who answers, as whom, through what, and what a refusal is called."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.api_server import TOKEN, FakeApiServer, Seen
from tests.support.stored_voices import stored

from segue.tls import OPERATOR_NAME, Authority, server_context, sidecar_name
from segue_cli.cluster.api import Kind, VoiceApi
from segue_cli.cluster.errors import ApiServerUnreachable, Conflict, Forbidden, NoCredentials, NoVoiceModels
from segue_cli.cluster.kubeconfig import Access, Entry, find_access
from segue_cli.cluster.session import Session, is_excepted, proxy_for
from segue_cli.place import NoSuchVoice

NAME = sidecar_name(fleet="api", namespace="test")


@pytest.fixture
def fake() -> Iterator[FakeApiServer]:
    with FakeApiServer().running() as running:
        running.put(stored())
        yield running


def api_of(fake: FakeApiServer, folder: Path, **user: Any) -> VoiceApi:
    return VoiceApi(Session(find_access(None, fake.kubeconfig(folder / "kubeconfig", **user))))


@pytest.fixture
def api(fake: FakeApiServer, tmp_path: Path) -> Iterator[VoiceApi]:
    found = api_of(fake, tmp_path)
    with closing(found.session):
        yield found


def test_a_voice_is_read(api: VoiceApi) -> None:
    assert api.get("default", "narrator")["metadata"]["uid"] == "uid-of-default-narrator"


def test_an_unknown_voice_is_answered_with_those_there_are(api: VoiceApi) -> None:
    with pytest.raises(NoSuchVoice, match="no voice default/nobody in context test; in default there are: narrator"):
        api.get("default", "nobody")


def test_all_pages_are_read(api: VoiceApi, fake: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segue_cli.cluster.api.PAGE", 2)
    for number in range(5):
        fake.put(stored(name=f"voice-{number}"))
    assert len(api.voices("default").voices) == 6
    assert sum(each.method == "GET" for each in fake.seen) == 3


def test_without_the_definition_it_is_said_how_to_install_it(api: VoiceApi, fake: FakeApiServer) -> None:
    fake.installed = False
    for ask in (lambda: api.voices("default"), lambda: api.get("default", "narrator")):
        with pytest.raises(NoVoiceModels, match=r"not installed; .* segue crd -o - \| kubectl apply"):
            ask()


def test_a_missing_permission_is_named(api: VoiceApi, fake: FakeApiServer) -> None:
    fake.forbidden.add("list")
    with pytest.raises(Forbidden, match=r"needed: list on voicemodels.segue.dev in namespace default; .*segue-user"):
        api.voices("default")
    with pytest.raises(Forbidden, match="in all namespaces"):
        api.voices(None)


def test_a_patch_of_another_version_is_a_conflict(api: VoiceApi) -> None:
    with pytest.raises(Conflict):
        api.patch("default", "narrator", {"metadata": {"resourceVersion": "7"}})


def test_a_patch_says_who_made_it(api: VoiceApi, fake: FakeApiServer) -> None:
    api.patch("default", "narrator", {"spec": {"rollout": {"paused": True}}})
    request = fake.seen[-1]
    assert request.query["fieldManager"] == "segue-cli"
    assert request.headers["content-type"] == "application/merge-patch+json"


def test_a_read_is_tried_again_while_the_server_is_overloaded(api: VoiceApi, fake: FakeApiServer) -> None:
    answers = iter([503, 429, None])
    fake.faults.append(lambda request: next(answers))
    assert api.get("default", "narrator")


def test_a_write_is_not_tried_again(api: VoiceApi, fake: FakeApiServer) -> None:
    fake.faults.append(lambda request: 503)
    with pytest.raises(Exception, match="answered 503"):
        api.patch("default", "narrator", {})
    assert len(fake.seen) == 1


def test_nobody_answers(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        fake = FakeApiServer(url=f"http://127.0.0.1:{unused.getsockname()[1]}")
    api = api_of(fake, tmp_path)
    with closing(api.session), pytest.raises(ApiServerUnreachable, match=f"context test does not answer at {fake.url}"):
        api.voices(None)


def test_something_else_answers(fake: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeApiServer, "answer", lambda self, request: (200, "<html>welcome</html>"))
    api = api_of(fake, tmp_path)
    with closing(api.session), pytest.raises(ApiServerUnreachable, match="is no API server"):
        api.voices(None)


def test_credentials_that_are_not_accepted(fake: FakeApiServer, tmp_path: Path) -> None:
    api = api_of(fake, tmp_path, token="wrong")
    with closing(api.session), pytest.raises(NoCredentials, match="log in again"):
        api.voices(None)
    assert len(fake.seen) == 1


def test_credentials_that_were_replaced_are_read_again(fake: FakeApiServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN, encoding="utf-8")
    api = api_of(fake, tmp_path, tokenFile="token")
    with closing(api.session):
        api.voices(None)

        def replaced(request: Seen) -> int | None:
            fake.faults.clear()
            return 401

        fake.faults.append(replaced)
        assert api.voices(None).voices


def test_a_watch_begins_after_its_version_and_ends_with_its_period(api: VoiceApi, fake: FakeApiServer) -> None:
    since = api.voices("default").version
    fake.put(stored(name="second"))
    fake.delete("narrator")
    changes = list(api.watch("default", since=since, period_s=1))
    assert [change.kind for change in changes] == [Kind.ADDED, Kind.DELETED, Kind.BOOKMARK]
    assert changes[-1].version == str(fake.version)


# --- TLS --------------------------------------------------------------------------------------------------------------


def secure(folder: Path, *, server_name: str | None, authority: Path, pair: Any = None) -> dict[str, Any]:
    """A kubeconfig's cluster and user for a server that asks for client certificates."""
    cluster: dict[str, Any] = {"certificate-authority": str(authority)}
    cluster |= {"tls-server-name": server_name} if server_name else {}
    return {"cluster": cluster, "user": {"client-certificate": str(pair.cert), "client-key": str(pair.key)}}


def test_the_authority_the_name_and_the_client_certificate_count(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    server = authority.issue(NAME, server=True, directory=tmp_path / "server")
    jane = authority.issue(OPERATOR_NAME, server=False, directory=tmp_path / "jane")
    other = Authority.create(tmp_path / "other").issue(NAME, server=True, directory=tmp_path / "foreign")
    with FakeApiServer().running(server_context(server, client_name=OPERATOR_NAME)) as fake:
        fake.put(stored())
        for name, trusted, fails in (
            (NAME, server.ca, None),
            (None, server.ca, "mismatch|not valid for|doesn't match"),
            (NAME, other.ca, "self-signed|verify failed"),
        ):
            file = fake.kubeconfig(tmp_path / "kubeconfig")
            document = json.loads(file.read_text(encoding="utf-8"))
            said = secure(tmp_path, server_name=name, authority=trusted, pair=jane)
            document["clusters"][0]["cluster"] |= said["cluster"]
            document["users"][0]["user"] = said["user"]
            file.write_text(json.dumps(document), encoding="utf-8")
            api = VoiceApi(Session(find_access(None, file)))
            with closing(api.session):
                if fails is None:
                    assert len(api.voices(None).voices) == 1
                else:
                    with pytest.raises(ApiServerUnreachable, match=fails):
                        api.voices(None)


# --- proxies ----------------------------------------------------------------------------------------------------------


def access(server: str, **cluster: str) -> Access:
    entry = Entry({"server": server, **cluster}, Path())
    return Access(context="dev", is_named=True, namespace="default", cluster=entry, user=Entry())


def test_the_clusters_own_proxy_goes_first() -> None:
    dev = access("https://api.example:6443", **{"proxy-url": "http://own:3128"})
    assert proxy_for(dev, {"HTTPS_PROXY": "http://other"}) == "http://own:3128"


def test_the_environment_names_a_proxy_and_exceptions() -> None:
    dev = access("https://api.example:6443")
    assert proxy_for(dev, {"HTTPS_PROXY": "proxy:3128"}) == "http://proxy:3128"
    assert proxy_for(dev, {"https_proxy": "http://proxy", "NO_PROXY": "x, .example"}) is None
    assert proxy_for(dev, {"HTTP_PROXY": "http://proxy"}) is None
    assert proxy_for(dev, {}) is None


@pytest.mark.parametrize(
    ("host", "no_proxy", "excepted"),
    [
        ("127.0.0.1", "", True),
        ("localhost", "", True),
        ("10.96.0.1", "10.0.0.0/8", True),
        ("10.96.0.1", "10.96.0.1", True),
        ("11.96.0.1", "10.0.0.0/8", False),
        ("fd00::1", "fd00::/8", True),
        ("api.example", "example", True),
        ("api.example", "*.example", True),
        ("badexample", "example", False),
        ("api.example", "*", True),
        ("api.example", "10.0.0.0/8,other", False),
    ],
)
def test_exceptions_are_names_domains_addresses_and_ranges(host: str, no_proxy: str, *, excepted: bool) -> None:
    assert is_excepted(host, no_proxy) is excepted
