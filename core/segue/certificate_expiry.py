"""When does a certificate file end? For figures that are asked for several times a minute.

Separate from `tls`, which holds files that must be good: here a file that cannot be read is an answer too (none), since
nobody's figures may fail for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509


@dataclass(slots=True)
class CertificateExpiry:
    """Of the first certificate in a PEM file; read again when it is another file than before."""

    path: Path
    _seen: tuple[int, int, int] | None = None
    _at_s: float | None = None

    def at_s(self) -> float | None:
        """Unix seconds; None while the file is missing or holds no certificate."""
        try:
            status = self.path.stat()
            stamp = status.st_mtime_ns, status.st_ino, status.st_size
            if stamp != self._seen:
                certificate = x509.load_pem_x509_certificate(self.path.read_bytes())
                self._seen, self._at_s = stamp, certificate.not_valid_after_utc.timestamp()
        except (OSError, ValueError):
            self._seen, self._at_s = None, None
        return self._at_s
