"""The fetching child's work against servers that cut, lie, redirect and dawdle. Everything is on loopback."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from tests.support.web import QuietHandler, web_server
from typing_extensions import override

from segue.errors import DigestMismatch, FetchError, ForbiddenSource
from segue_sidecar.children.channel import Channel, JobError
from segue_sidecar.children.fetch import Bounds, Wanted, have
from segue_sidecar.sources import Allowed

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
BOUNDS = Bounds(file_bytes=1 << 20, cache_bytes=1 << 30, keep=frozenset(), silence_s=0.5)


class Silent(Channel):
    """A channel with nobody at the other end; remembers the progress."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, int, int]] = []

    @override
    def progress(self, stage: str, *, done: int, total: int) -> None:
        self.notes.append((stage, done, total))


@dataclass
class Site:
    """What the server does, and what it was asked."""

    url: str = ""
    ranges: bool = True
    cut_after: int | None = None
    announce: int | None = None
    redirect: str = ""
    status: int = 200
    dawdle: bool = False
    asked: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)


class Handler(QuietHandler):
    """Serves `CONTENT` under every path, in the way that the site says."""

    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        """One file."""
        site = self.site
        wanted = self.headers.get("Range", "")
        site.asked.append(f"{self.path} {wanted} {self.headers['Host']}".strip())
        if site.redirect and self.path != "/arrived":
            self.send_response(302)
            self.send_header("Location", site.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and site.ranges else 0
        body = CONTENT[start:]
        self.send_response(site.status if site.status != 200 else 206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(site.announce or len(body)))
        self.end_headers()
        if site.cut_after is not None:
            body, site.cut_after = body[: site.cut_after], None
            self.close_connection = True
        if site.dawdle:
            site.release.wait(5)
        self.wfile.write(body)
        if site.announce:
            self.close_connection = True


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """The site, up and running."""
    handler = type("SiteHandler", (Handler,), {"site": site})
    with web_server(handler, breaks=True) as site.url:
        try:
            yield site
        finally:
            site.release.set()


def fetch(
    site: Site,
    cache: Path,
    *,
    path: str = "/v/file",
    sha256: str = DIGEST,
    size: int | None = None,
    private: bool = True,
    bounds: Bounds = BOUNDS,
) -> Path:
    """One file of the site, through the child's own code."""
    allowed = Allowed(prefixes=(f"{site.url}/v", f"{site.url}/arrived"), private_addresses=private)
    wanted = Wanted(name="weights.tone", uri=site.url + path, sha256=sha256, size_bytes=size)
    return have(wanted, cache=cache, allowed=allowed, bounds=bounds, channel=Silent())


def test_a_file_is_fetched_once_and_kept_under_its_digest(tmp_path: Path) -> None:
    with serving(Site()) as site:
        path = fetch(site, tmp_path)
        assert path.read_bytes() == CONTENT
        assert path.name == DIGEST
        assert fetch(site, tmp_path) == path
        assert len(site.asked) == 1


def test_a_cut_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with serving(Site(cut_after=300_000)) as site:
        assert fetch(site, tmp_path).read_bytes() == CONTENT
        assert "bytes=300000-" in site.asked[1]


def test_a_server_without_ranges_is_read_from_the_beginning(tmp_path: Path) -> None:
    with serving(Site(cut_after=300_000, ranges=False)) as site:
        assert fetch(site, tmp_path).read_bytes() == CONTENT


def test_what_a_killed_child_left_is_used_and_a_wrong_rest_is_not(tmp_path: Path) -> None:
    partial = tmp_path / "partial" / DIGEST
    partial.parent.mkdir(parents=True)
    with serving(Site()) as site:
        partial.write_bytes(CONTENT[:100_000])
        assert fetch(site, tmp_path).read_bytes() == CONTENT
        assert "bytes=100000-" in site.asked[0]
    with serving(Site()) as site:
        partial.write_bytes(b"x" * 100_000)
        (tmp_path / "files" / DIGEST).unlink()
        assert fetch(site, tmp_path).read_bytes() == CONTENT
        assert len(site.asked) == 2


def test_a_cached_file_that_rotted_is_fetched_again(tmp_path: Path) -> None:
    with serving(Site()) as site:
        fetch(site, tmp_path).write_bytes(CONTENT[:-1] + b"?")
        assert fetch(site, tmp_path).read_bytes() == CONTENT


def test_a_wrong_digest_is_refused_with_both(tmp_path: Path) -> None:
    with serving(Site()) as site:
        with pytest.raises(DigestMismatch, match=f"sha256 {DIGEST}.*{'ab' * 32}"):
            fetch(site, tmp_path, sha256="ab" * 32)
        assert not list((tmp_path / "files").iterdir())


@pytest.mark.parametrize(
    ("site", "size", "reason"),
    [(Site(), 7, "SizeMismatch"), (Site(announce=2 << 20), None, "FileTooLarge")],
)
def test_a_wrong_or_great_size_is_refused_before_the_bytes(
    tmp_path: Path, site: Site, size: int | None, reason: str
) -> None:
    with serving(site), pytest.raises(JobError) as refused:
        fetch(site, tmp_path, size=size)
    assert refused.value.reason == reason


def test_a_file_that_grows_over_the_limit_is_cut_off(tmp_path: Path) -> None:
    with serving(Site()) as site, pytest.raises(JobError) as refused:
        fetch(site, tmp_path, bounds=Bounds(file_bytes=100_000, cache_bytes=1 << 30, keep=frozenset()))
    assert refused.value.reason == "FileTooLarge"
    assert (tmp_path / "partial" / DIGEST).stat().st_size <= 100_000


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    with (
        serving(Site(announce=len(CONTENT) + 1000, ranges=False)) as site,
        pytest.raises(FetchError, match="truncated"),
    ):
        fetch(site, tmp_path)


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with serving(Site(dawdle=True)) as site, pytest.raises(FetchError, match=r"(?i)time"):
        fetch(site, tmp_path)


def test_an_error_status_is_told(tmp_path: Path) -> None:
    with serving(Site(status=404)) as site, pytest.raises(FetchError, match="404"):
        fetch(site, tmp_path)


def test_a_redirect_to_an_allowed_place_is_followed(tmp_path: Path) -> None:
    with serving(Site()) as site:
        site.redirect = "/arrived"
        assert fetch(site, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.2:1/v/file",
        "http://example.org/v/file",
        "/elsewhere/file",
        "/v/../secret",
        "file:///etc/passwd",
        "gopher://127.0.0.1/v",
    ],
)
def test_a_redirect_anywhere_else_is_refused(tmp_path: Path, target: str) -> None:
    with serving(Site(redirect=target)) as site, pytest.raises(ForbiddenSource):
        fetch(site, tmp_path)
    assert len(site.asked) == 1


def test_a_redirect_that_never_arrives_ends(tmp_path: Path) -> None:
    with serving(Site(redirect="/v/again")) as site, pytest.raises(FetchError, match="redirects"):
        fetch(site, tmp_path)


def test_link_local_is_refused_even_where_the_prefix_is_allowed(tmp_path: Path) -> None:
    allowed = Allowed(prefixes=("http://169.254.169.254/v",), private_addresses=True)
    wanted = Wanted(name="x", uri="http://169.254.169.254/v/x", sha256=DIGEST, size_bytes=None)
    with pytest.raises(ForbiddenSource, match="never dialled"):
        have(wanted, cache=tmp_path, allowed=allowed, bounds=BOUNDS, channel=Silent())


def test_private_addresses_are_refused_unless_allowed(tmp_path: Path) -> None:
    with serving(Site()) as site, pytest.raises(ForbiddenSource, match="private"):
        fetch(site, tmp_path, private=False)
    assert not site.asked


def test_a_full_cache_drops_what_was_not_used_for_longest(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    kept, dropped = files / ("aa" * 32), files / ("bb" * 32)
    for path in (dropped, kept):
        path.write_bytes(b"x" * 400_000)
    bounds = Bounds(file_bytes=1 << 20, cache_bytes=1_000_000, keep=frozenset({kept.name}), silence_s=0.5)
    with serving(Site()) as site:
        fetch(site, tmp_path, size=len(CONTENT), bounds=bounds)
    assert kept.exists()
    assert not dropped.exists()


def test_object_stores_are_read_through_fsspec(tmp_path: Path) -> None:
    class FakeStore(MemoryFileSystem):  # type: ignore[misc]
        protocol = "s3"
        store: Mapping[str, object] = {}

        @classmethod
        @override
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.removeprefix("s3://").strip("/")

    fsspec.register_implementation("s3", FakeStore, clobber=True)
    with fsspec.open("s3://voices/a/7.ckpt", "wb") as file:
        file.write(CONTENT)
    partial = tmp_path / "partial" / DIGEST
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT[:1000])
    wanted = Wanted(name="x", uri="s3://voices/a/7.ckpt", sha256=DIGEST, size_bytes=len(CONTENT))
    allowed = Allowed(prefixes=("s3://voices/a",))
    assert have(wanted, cache=tmp_path, allowed=allowed, bounds=BOUNDS, channel=Silent()).read_bytes() == CONTENT


def test_a_store_whose_client_is_missing_says_what_to_install(tmp_path: Path) -> None:
    wanted = Wanted(name="x", uri="gs://voices/a/7.ckpt", sha256=DIGEST, size_bytes=None)
    with pytest.raises(FetchError, match=r"pip install segue\[gcs\]"):
        have(wanted, cache=tmp_path, allowed=Allowed(prefixes=("gs://voices",)), bounds=BOUNDS, channel=Silent())
