"""How pip reaches its packages on this machine, in a form that a build can be lent and no image keeps.

Settings come from pip itself (`pip config list` knows files and PIP_* alike). Only those about reaching an index go on;
one that names a file or folder of this machine is lent with it, under a name of its own.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CERTIFICATES = "/run/secrets/ca.pem"
WHEELS = "/wheels"

_LENT = (
    "index-url",
    "extra-index-url",
    "trusted-host",
    "proxy",
    "timeout",
    "retries",
    "no-index",
    "find-links",
    "cert",
)
_CERTIFICATE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipSettings:
    """What one build is lent.

    Attributes
    ----------
    text
        Of its pip.conf.
    certificates
        Authorities to trust, which `text` names as `CERTIFICATES`.
    wheels
        A folder of wheels, which `text` names as `WHEELS`.
    """

    text: str
    certificates: Path | None = None
    wheels: Path | None = None


def read_settings(environment: Mapping[str, str]) -> PipSettings:
    """Of this machine, asked from this interpreter's pip."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    return settings_from(done.stdout, environment)


def settings_from(listing: str, environment: Mapping[str, str]) -> PipSettings:
    """From what `pip config list` prints, later sections going first: `:env:` over `install` over `global`.

    Parameters
    ----------
    listing
        Lines `SECTION.NAME='VALUE'`.
    environment
        Where authorities are named by the variables that requests and curl read, if pip's own settings name none.
    """
    found = _chosen(listing)
    wheels = _folder(found.pop("find-links", ""))
    named = found.pop("cert", "") or next(
        (environment[one] for one in _CERTIFICATE_VARIABLES if environment.get(one)), ""
    )
    certificates = Path(named) if named and Path(named).is_file() else None
    if certificates is not None:
        found["cert"] = CERTIFICATES
    if wheels is not None:
        found["find-links"] = WHEELS
    lines = [f"{name} = {value.replace(chr(10), chr(10) + '    ')}" for name, value in sorted(found.items())]
    return PipSettings(text="\n".join(["[global]", *lines, ""]), certificates=certificates, wheels=wheels)


def _chosen(listing: str) -> dict[str, str]:
    ranks = {"global": 0, "install": 1, ":env:": 2}
    best: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        key, _, quoted = line.partition("=")
        section, _, name = key.partition(".")
        if section in ranks and name in _LENT and ranks[section] >= best.get(name, (0, ""))[0]:
            best[name] = (ranks[section], str(ast.literal_eval(quoted)))
    return {name: value for name, (_, value) in best.items()}


def _folder(find_links: str) -> Path | None:
    """The first folder of this machine among them; pages on the network are not lent."""
    return next((Path(one) for one in find_links.split() if Path(one).is_dir()), None)
