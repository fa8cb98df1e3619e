"""Who may command a sidecar: certificates, and contexts that check names exactly.

Separate because three processes must agree on it: the sidecar serves with it, the operator dials with it, `segue up`
makes the pairs. Two rules differ from what `ssl` does by itself:

* The peer's name is compared exactly with the DNS names in its certificate, whatever address was dialled and without
  wildcards: pods are reached by address, and one fleet's certificate must not pass for another's.
* A context re-reads its files when they change. New connections use the new pair and the new authority; nothing is
  restarted, and connections that are open go on.
"""

from __future__ import annotations

import datetime
import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from typing_extensions import override

from segue.errors import SegueError

OPERATOR_NAME = "operator.segue.dev"
"""The one client that a sidecar obeys."""

_CA_LIFETIME = datetime.timedelta(days=3650)
_LEAF_LIFETIME = datetime.timedelta(days=90)
_CLOCK_SKEW = datetime.timedelta(minutes=5)

logger = logging.getLogger(__name__)


class CertificateError(SegueError):
    """A certificate or key file that cannot be used; the message names it."""


def sidecar_name(*, fleet: str, namespace: str) -> str:
    """The DNS name in the certificate of every sidecar of a fleet."""
    return f"{fleet}.{namespace}.sidecar.segue.dev"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPairFiles:
    """Where a certificate, its private key and the authority that both sides trust are kept, all PEM.

    The names are those of a Kubernetes TLS Secret, so that a mounted Secret can be used as it is.
    """

    cert: Path
    key: Path
    ca: Path

    @classmethod
    def of(cls, directory: Path) -> Self:
        """The three files in a folder: `tls.crt`, `tls.key`, `ca.crt`."""
        return cls(cert=directory / "tls.crt", key=directory / "tls.key", ca=directory / "ca.crt")


class Authority:
    """A certificate authority in a folder: `ca.crt`, and `ca.key` readable by its owner only."""

    def __init__(self, *, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, directory: Path) -> Self:
        """Make a new authority and write it to `directory`, replacing one that is there."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Segue authority")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            _builder(subject=name, issuer=name, public_key=key.public_key(), start=now, lifetime=_CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(directory / "ca.key", _key_pem(key), mode=0o600)
        _write(directory / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
        return cls(certificate=certificate, key=key)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the authority in `directory`.

        Raises
        ------
        CertificateError
            A file is missing, unreadable or not what it should be.
        """
        certificate_file, key_file = directory / "ca.crt", directory / "ca.key"
        try:
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise CertificateError(
                f"the authority in {directory} cannot be read: {error}; remove the folder to have a new one made"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise CertificateError(f"{key_file} holds a {type(key).__name__}, expected an elliptic-curve key")
        return cls(certificate=certificate, key=key)

    def issue(
        self, name: str, *, server: bool, directory: Path, lifetime: datetime.timedelta = _LEAF_LIFETIME
    ) -> KeyPairFiles:
        """Make a pair for `name` in `directory`, for serving or for dialling but never both.

        The key is replaced first and the certificate last, each atomically: a context that re-reads in between finds
        a pair that does not match, keeps the old one and looks again at the next connection.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Segue")])
        certificate = (
            _builder(
                subject=subject,
                issuer=self._certificate.subject,
                public_key=key.public_key(),
                start=datetime.datetime.now(datetime.UTC),
                lifetime=lifetime,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = KeyPairFiles.of(directory)
        _write(files.ca, self._certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
        _write(files.key, _key_pem(key), mode=0o600)
        _write(files.cert, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
        return files


def server_context(files: KeyPairFiles, *, client_name: str) -> ssl.SSLContext:
    """A context for serving: TLS 1.3, only clients whose certificate carries exactly `client_name`.

    Raises
    ------
    CertificateError
        The files cannot be used now. (Later changes that cannot be used are logged, and the last good pair stays.)
    """
    return _RotatingContext(ssl.PROTOCOL_TLS_SERVER, files=files, peer_name=client_name)


def client_context(files: KeyPairFiles, *, server_name: str) -> ssl.SSLContext:
    """A context for dialling: TLS 1.3, only servers whose certificate carries exactly `server_name`.

    Raises
    ------
    CertificateError
        As for `server_context`.
    """
    return _RotatingContext(ssl.PROTOCOL_TLS_CLIENT, files=files, peer_name=server_name)


class _RotatingContext(ssl.SSLContext):
    """Hands each new connection to a context made from what the files say now."""

    _files: KeyPairFiles
    _peer_name: str
    _stamps: tuple[tuple[int, int, int], ...]
    _current: ssl.SSLContext

    def __new__(cls, protocol: int, *, files: KeyPairFiles, peer_name: str) -> Self:
        self = super().__new__(cls, protocol)
        # A client context is made with host checking on; ours is exact and by certificate, see the module docstring.
        self.check_hostname = False
        self.verify_mode = ssl.CERT_REQUIRED
        self._files = files
        self._peer_name = peer_name
        self._stamps = _stamps(files)
        self._current = _fixed_context(protocol, files=files, peer_name=peer_name)
        return self

    def __init__(self, protocol: int, *, files: KeyPairFiles, peer_name: str) -> None:
        """All is done in `__new__`, as `ssl.SSLContext` does; this only fixes the signature."""

    def _latest(self) -> ssl.SSLContext:
        try:
            stamps = _stamps(self._files)
            if stamps != self._stamps:
                self._current = _fixed_context(self.protocol, files=self._files, peer_name=self._peer_name)
                self._stamps = stamps
                logger.info("certificate %s was re-read", self._files.cert)
        except CertificateError as error:
            logger.warning("keeping the previous certificate: %s", error)
        return self._current

    @override
    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self._latest().wrap_bio(*args, **kwargs)

    @override
    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return self._latest().wrap_socket(*args, **kwargs)


def _fixed_context(protocol: int, *, files: KeyPairFiles, peer_name: str) -> ssl.SSLContext:
    """A context from the files as they are, whose handshakes end only with a peer of that name."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=files.ca)
        context.load_cert_chain(files.cert, files.key)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(
            f"the pair {files.cert} and {files.key} with authority {files.ca} cannot be used: {error}"
        ) from error

    class NamedObject(ssl.SSLObject):
        @override
        def do_handshake(self) -> None:
            super().do_handshake()
            _require_name(self.getpeercert(), peer_name)

    class NamedSocket(ssl.SSLSocket):
        @override
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            _require_name(self.getpeercert(), peer_name)

    context.sslobject_class = NamedObject
    context.sslsocket_class = NamedSocket
    return context


def _require_name(certificate: Any, name: str) -> None:
    names = [value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "DNS"]
    if name not in names:
        raise ssl.SSLCertVerificationError(f"the peer's certificate is for {', '.join(names) or 'nobody'}, not {name}")


def _stamps(files: KeyPairFiles) -> tuple[tuple[int, int, int], ...]:
    try:
        stats = [path.stat() for path in (files.cert, files.key, files.ca)]
    except OSError as error:
        raise CertificateError(f"a certificate file is missing: {error}") from error
    return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


def _builder(
    *,
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    start: datetime.datetime,
    lifetime: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _CLOCK_SKEW)
        .not_valid_after(start + lifetime)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Replace a file atomically, never readable more widely than `mode`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
    temporary.replace(path)
