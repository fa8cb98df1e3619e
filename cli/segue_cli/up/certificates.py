"""The authority of one `segue up`, and the two pairs it issues: sidecar and operator prove who they are even here.

Separate because pairs end after 90 days and `up` may run longer: they are renewed while everything goes on (contexts
re-read their files).
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from segue.tls import OPERATOR_NAME, Authority, CertificateError, KeyPairFiles, sidecar_name
from segue_cli.up.configs import FLEET, NAMESPACE

RENEW_BEFORE = timedelta(days=30)


def ensure_certificates(directory: Path) -> tuple[KeyPairFiles, Path]:
    """The operator's pair and the folder of the sidecar's, made or renewed where needed."""
    authority = _authority(directory / "ca")
    operator = _pair(authority, directory / "operator", OPERATOR_NAME, server=False)
    _pair(authority, directory / "sidecar", sidecar_name(fleet=FLEET, namespace=NAMESPACE), server=True)
    return operator, directory / "sidecar"


def _authority(directory: Path) -> Authority:
    if (directory / "ca.crt").exists() and (directory / "ca.key").exists():
        with suppress(CertificateError):
            return Authority.load(directory)
    return Authority.create(directory)


def _pair(authority: Authority, directory: Path, name: str, *, server: bool) -> KeyPairFiles:
    files = KeyPairFiles.of(directory)
    if _lasts(files) and files.ca.read_bytes() == (directory.parent / "ca" / "ca.crt").read_bytes():
        return files
    return authority.issue(name, server=server, directory=directory)


def _lasts(files: KeyPairFiles) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
        return files.key.exists() and certificate.not_valid_after_utc - datetime.now(UTC) > RENEW_BEFORE
    except (OSError, ValueError):
        return False
