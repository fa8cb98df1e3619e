"""When a certificate ends, as its file says now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from segue.certificate_expiry import CertificateExpiry
from segue.tls import Authority


def test_it_follows_the_file(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    files = authority.issue("one", server=True, directory=tmp_path / "pair")
    expiry = CertificateExpiry(files.cert)
    first_s = expiry.at_s()
    assert first_s is not None
    assert timedelta(0) < datetime.fromtimestamp(first_s, UTC) - datetime.now(UTC) < timedelta(days=400)
    files.cert.write_text("no certificate")
    assert expiry.at_s() is None
    files.cert.unlink()
    assert expiry.at_s() is None
    authority.issue("one", server=True, directory=tmp_path / "pair")
    assert expiry.at_s() is not None
