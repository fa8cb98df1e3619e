"""What a person, a mirror or an attacker may put before Segue: a clear reason, and the live voice goes on.

One real `segue up` for all cases, asked for speech without a pause: at the end not one request has failed, nobody has
heard another version, and the YAML is as it was. What only a sidecar or a server alone can show (certificates, fences,
half requests, workers that talk nonsense, a full disk) is in `sidecar/` and `server/`; docs/bad-input.md lists all.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import pickle
import shutil
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from tests.support.running import Running, eventually
from typing_extensions import override

from segue.model import load_documents
from segue.model.edit import FieldPath, edit_yaml, file_digest

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

LARGEST_FILE_BYTES = 4 << 30
METADATA_SERVICE = "http://169.254.169.254/latest/meta-data"
WAYS = {"/metadata": METADATA_SERVICE, "/file": "file:///etc/hostname", "/round": "/round"}
"""Where a source leads that is allowed itself."""


class Gadget:
    """Unpickled by `pickle.load`, it makes a file; a real one would do worse."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    @override
    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self._proof,)


class Misleading(http.server.BaseHTTPRequestHandler):
    """A source that is allowed, and leads elsewhere."""

    def do_GET(self) -> None:
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", WAYS[self.path])
        self.end_headers()

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@dataclass
class Listener:
    """Asks for speech again and again.

    Attributes
    ----------
    heard
        Revisions that answered, and how often.
    failed
        What went wrong.
    """

    url: str
    heard: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def listen(self) -> None:
        """Until told to stop."""
        while not self.stop.wait(0.05):
            try:
                revision = speak(self.url, voice="narrator", input=f"Number {self.answers}.")
            except OSError as error:
                self.failed.append(repr(error))
            else:
                self.heard[revision] = self.heard.get(revision, 0) + 1

    def until_heard_again(self) -> None:
        """Wait for some more answers: the voice is there after all that happened."""
        wanted = self.answers + 5
        eventually(lambda: self.failed or self.answers >= wanted, within_s=60, what="the voice goes on speaking")

    @property
    def answers(self) -> int:
        """So far."""
        return sum(self.heard.values())


def speak(url: str, **body: Any) -> str:
    """Ask for speech; the revision that answered."""
    request = urllib.request.Request(
        f"{url}/v1/audio/speech", data=json.dumps(body).encode(), headers={"Segue-Cache": "no-store"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.read()
        return str(answer.headers["Segue-Revision"])


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    """Address of a web server of somebody else's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Misleading) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, source: str) -> Iterator[Running]:
    """A voice that is listened to all the time."""
    made = Running.prepare(tmp_path_factory.mktemp("bad"))
    (made.voices / "bad").mkdir()
    try:
        made.start("--allow", f"{source}/")
        listener = Listener(str(made.up["server"]))
        thread = threading.Thread(target=listener.listen)
        thread.start()
        try:
            yield made
            listener.until_heard_again()
        finally:
            listener.stop.set()
            thread.join()
        assert listener.failed == []
        assert len(listener.heard) == 1
    finally:
        made.stop()


def digest_of(name: str) -> str:
    """Some sha256, another one for each name: the same digests would be the same version."""
    return hashlib.sha256(name.encode()).hexdigest()


def good(running: Running, name: str) -> Path:
    """A weight file of the live version."""
    return running.voices / "examples" / "narrator" / "v1" / f"{name}.pth"


def bad(running: Running, name: str, content: bytes) -> Path:
    """A file in the voices' folder."""
    path = running.voices / "bad" / name
    path.write_bytes(content)
    return path


def refused(running: Running, *, uri: str, sha256: str | None = None) -> str:
    """Have the voice speak with other weights, see that taken back, and say why."""
    file = running.voices / "narrator.yaml"
    (written,), before = load_documents(file), running.voice()["status"]
    changes: dict[FieldPath, Any] = {"spec.weights.prosody.uri": uri}
    edit_yaml(file, "default/narrator", changes | ({"spec.weights.prosody.sha256": sha256} if sha256 else {}))

    def taken_back() -> str | None:
        status = running.voice()["status"]
        done = status["attempt"] > before["attempt"] and status["phase"] == "Idle"
        return str(status["lastRollback"]["message"]) if done and status["lastRollback"] else None

    why = eventually(taken_back, within_s=30, what="a rollback")
    eventually(lambda: load_documents(file)[0].spec == written.spec, within_s=5, what="the YAML as it was")
    assert running.voice()["status"]["activeRevision"] == before["activeRevision"]
    return why


def test_truncated_weights(running: Running) -> None:
    whole = good(running, "prosody").read_bytes()
    why = refused(running, uri=str(bad(running, "cut.pth", whole[: len(whole) // 2])))
    assert "WeightsError: prosody: its zip directory cannot be read" in why
    assert "cut or corrupt" in why


def test_weights_of_another_shape(running: Running) -> None:
    why = refused(running, uri=str(good(running, "timbre")))
    assert "WeightsError: prosody: config.half is 'timbre'; expected 'prosody'" in why


def test_oversized_weights_are_refused_before_they_are_read(running: Running) -> None:
    path = bad(running, "huge.pth", b"")
    with path.open("r+b") as file:
        file.truncate(LARGEST_FILE_BYTES + 1)
    why = refused(running, uri=str(path), sha256=digest_of("huge"))
    assert f"FileTooLarge: prosody: {path.as_uri()} has {LARGEST_FILE_BYTES + 1} bytes or more" in why


def test_weights_with_another_digest_than_promised(running: Running) -> None:
    path = Path(shutil.copy(good(running, "prosody"), running.voices / "bad" / "swapped.pth"))
    wrong = digest_of("another")
    why = refused(running, uri=str(path), sha256=wrong)
    assert f"DigestMismatch: prosody: {path.as_uri()} has sha256 {file_digest(path)}" in why
    assert wrong in why


def test_a_pickle_gadget_is_named_and_never_run(running: Running) -> None:
    proof = running.home / "proof"
    path = bad(running, "gadget.pth", b"")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"config": Gadget(proof)}, protocol=2))
        archive.writestr("archive/version", "3\n")
    why = refused(running, uri=str(path))
    assert "UnsafePickle: prosody: it asks for " in why
    assert not proof.exists()


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("file:///etc/hostname", "outside the sources allowed"),
        ("../home", "outside the sources allowed"),
        ("file://{voices}/../home", "`..` is not allowed"),
        ("file://{voices}/%2e%2e/home", "`..` is not allowed"),
        (METADATA_SERVICE, "outside the sources allowed"),
        ("ftp://example.org/x", "the scheme 'ftp' is not read"),
        ("{source}/metadata", f"{METADATA_SERVICE}: outside the sources allowed"),
        ("{source}/file", "file:///etc/hostname: outside the sources allowed"),
    ],
)
def test_a_uri_outside_the_allowed_ones(running: Running, source: str, uri: str, reason: str) -> None:
    why = refused(running, uri=uri.format(voices=running.voices, source=source), sha256=digest_of(uri))
    assert "ForbiddenSource: " in why
    assert reason in why


def test_a_redirect_that_never_arrives(running: Running, source: str) -> None:
    assert f"{source}/round: more than 5 redirects" in refused(
        running, uri=f"{source}/round", sha256=digest_of("round")
    )


def test_what_failed_before_is_refused_for_its_own_reason_and_not_for_the_latest(running: Running) -> None:
    path = bad(running, "empty.pth", b"")
    assert "prosody" in refused(running, uri=str(path))
    refused(running, uri="file:///etc/hosts", sha256=digest_of("hosts"))
    said = running.run("roll", "narrator", "--prosody", str(path), "--wait", "--timeout", "20s", code=3)
    edit_yaml(
        running.voices / "narrator.yaml",
        "default/narrator",
        {"spec.weights.prosody.uri": str(good(running, "prosody"))},
    )
    assert "is not tried again" in said.splitlines()[-1]
    assert "/etc/hosts" not in said.splitlines()[-1]


@pytest.mark.parametrize("name", ["narrator\r\nSet-Cookie: a=b", "../narrator", "n\x00", "\u202enarrator", "x" * 253])
def test_a_voice_name_that_is_none_is_not_found_and_breaks_no_header(running: Running, name: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        speak(running.up["server"], voice=name, input="Hello.")
    with caught.value as answer:
        assert answer.code == HTTPStatus.NOT_FOUND
        assert answer.headers["Set-Cookie"] is None
        assert json.load(answer)["error"]["code"] == "voice_not_found"
