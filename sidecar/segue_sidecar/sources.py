"""Which URIs a voice may name, and which addresses may be dialled for them.

Pure, and used twice: when a command comes in, so that a refusal is immediate, and again by the fetching child at every
hop, because a host name can point anywhere and a redirect can lead anywhere.
"""

from __future__ import annotations

import ipaddress
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from segue.errors import ForbiddenSource

SCHEMES = ("file", "http", "https", "s3", "gs", "hf")

_NEVER = (ipaddress.ip_network("100.100.100.200/32"), ipaddress.ip_network("fd00:ec2::254/128"))
"""Metadata services that are not link-local."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What the voices of one namespace may name.

    Attributes
    ----------
    prefixes
        URI prefixes, each complete up to a `/` or the end of a URI.
    private_addresses
        Whether hosts may be at loopback or private addresses.
    """

    prefixes: tuple[str, ...]
    private_addresses: bool = False


def require_allowed(uri: str, allowed: Allowed) -> SplitResult:
    """Check scheme, form and prefix of a URI; returns its parts.

    Raises
    ------
    ForbiddenSource
        Which rule it breaks.
    """
    parts = _split(uri)
    if parts.scheme not in SCHEMES:
        raise ForbiddenSource(f"{uri}: the scheme {parts.scheme!r} is not read; write one of {', '.join(SCHEMES)}")
    if parts.username is not None or parts.password is not None:
        raise ForbiddenSource("a URI must not carry credentials: they belong to the fleet's configuration")
    if any(segment == ".." for segment in unquote(parts.path).replace("\\", "/").split("/")):
        raise ForbiddenSource(f"{uri}: `..` is not allowed in a path")
    if "\0" in unquote(uri):
        raise ForbiddenSource("a URI must not contain a zero byte")
    if not any(_is_under(uri, prefix) for prefix in allowed.prefixes):
        listed = ", ".join(allowed.prefixes) or "none"
        raise ForbiddenSource(f"{uri}: outside the sources allowed for this namespace ({listed})")
    return parts


def local_path(parts: SplitResult, allowed: Allowed) -> Path:
    """The file that a `file:` URI names, after every symbolic link was followed; still inside an allowed root.

    Raises
    ------
    ForbiddenSource
        Another host, or a link that leads outside.
    """
    if parts.netloc not in ("", "localhost"):
        raise ForbiddenSource(f"{parts.geturl()}: a file URI names no host; write file:///absolute/path")
    resolved = Path(unquote(parts.path)).resolve()
    roots = [Path(unquote(urlsplit(prefix).path)).resolve() for prefix in allowed.prefixes if _is_file(prefix)]
    if not any(resolved.is_relative_to(root) for root in roots):
        raise ForbiddenSource(f"{parts.geturl()}: is a link to {resolved}, outside the allowed folders")
    return resolved


def require_dialable(address: str, *, host: str, private_addresses: bool) -> None:
    """Refuse an address that a host name resolved to.

    Raises
    ------
    ForbiddenSource
        Link-local, multicast, unspecified or a metadata service, always; loopback or private unless allowed.
    """
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or any(ip in network for network in _NEVER):
        raise ForbiddenSource(f"{host} is at {ip}: link-local and metadata addresses are never dialled")
    if not ip.is_global and not private_addresses:
        raise ForbiddenSource(f"{host} is at {ip}, a private address: the fleet's sources must allow privateAddresses")


def sibling(uri: str, name: str) -> str:
    """The URI of `name` in the folder of `uri`."""
    parts = _split(uri)
    return parts._replace(path=posixpath.join(posixpath.dirname(parts.path), name), query="", fragment="").geturl()


def merged(rules: Iterable[Allowed]) -> Allowed:
    """All rules that apply to a namespace as one."""
    listed = tuple(rules)
    return Allowed(
        prefixes=tuple(prefix for rule in listed for prefix in rule.prefixes),
        private_addresses=any(rule.private_addresses for rule in listed),
    )


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError as error:
        raise ForbiddenSource(f"{uri[:200]!r} is no URI: {error}") from error
    if parts.scheme in ("http", "https", "s3", "gs", "hf") and not parts.netloc:
        raise ForbiddenSource(f"{uri}: names no host")
    return parts


def _is_file(prefix: str) -> bool:
    return urlsplit(prefix).scheme == "file"


def _is_under(uri: str, prefix: str) -> bool:
    """Whether `uri` is `prefix` or lies below it: `s3://a/b` covers `s3://a/b/c`, never `s3://a/bc` or `s3://ab`.

    `https://*.example.com/` covers every host below example.com, and not example.com itself.
    """
    ours, theirs = _split(uri), _split(prefix)
    if (ours.scheme, ours.port) != (theirs.scheme, theirs.port):
        return False
    if not _is_host(ours.hostname or "", theirs.hostname or ""):
        return False
    root = theirs.path.rstrip("/")
    return ours.path == root or ours.path.startswith(f"{root}/")


def _is_host(host: str, wanted: str) -> bool:
    return host.endswith(wanted[1:]) if wanted.startswith("*.") else host == wanted
