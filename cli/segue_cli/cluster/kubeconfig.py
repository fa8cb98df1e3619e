"""Which cluster, and as whom: kubeconfig files, read and merged as `kubectl` does it.

Separate from credentials, because here nothing is run and nothing is dialled: files in, names out. The rules are those
of the Kubernetes documentation ("Organizing Cluster Access Using kubeconfig Files"): `--kubeconfig` alone, else every
file of `$KUBECONFIG` (the first that says something wins), else `~/.kube/config`, else the service account of the pod.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segue_cli.cluster.errors import NoSuchContext

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
IN_CLUSTER = "in-cluster"
"""What the context of a pod's own service account is called."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One named cluster, user or context, and the folder that its relative paths start from."""

    values: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)

    def text(self, key: str) -> str | None:
        """A string, None where it is absent or empty."""
        value = self.values.get(key)
        return str(value) if value not in (None, "") else None

    def path(self, key: str) -> Path | None:
        """A path; relative ones start from the kubeconfig's folder."""
        text = self.text(key)
        return self.folder / Path(text).expanduser() if text else None

    def content(self, key: str) -> bytes | None:
        """What `KEY-data` holds in base64, else what the file at `KEY` holds; None where there is neither.

        Raises
        ------
        NoSuchContext
            The data is no base64, or the file cannot be read.
        """
        data = self.text(f"{key}-data")
        if data is not None:
            try:
                return base64.b64decode(data)
            except (binascii.Error, ValueError) as error:
                raise NoSuchContext(f"{key}-data in the kubeconfig of {self.folder} is no base64: {error}") from error
        path = self.path(key)
        try:
            return path.read_bytes() if path else None
        except OSError as error:
            raise NoSuchContext(f"{key} {path} cannot be read: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeconfig:
    """The files together.

    Attributes
    ----------
    current
        `current-context`, None where no file has one.
    """

    files: tuple[Path, ...] = ()
    current: str | None = None
    contexts: Mapping[str, Entry] = field(default_factory=dict)
    clusters: Mapping[str, Entry] = field(default_factory=dict)
    users: Mapping[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One cluster as one user.

    Attributes
    ----------
    context
        What people call it.
    is_named
        Whether a person named it, rather than `current-context`.
    namespace
        Where objects are looked for by default.
    """

    context: str
    is_named: bool
    namespace: str
    cluster: Entry
    user: Entry

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self.cluster.text("server") or "http://localhost:8080"


def find_access(
    context: str | None,
    kubeconfig: Path | None,
    *,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Access:
    """The cluster that is meant.

    Raises
    ------
    NoSuchContext
        Nothing says which, or what says so is incomplete; the message names the files and the contexts there are.
    """
    config = read_kubeconfig(_files(kubeconfig, environ))
    if not config.contexts and kubeconfig is None and context in (None, IN_CLUSTER):
        inside = _in_cluster(environ, service_account)
        if inside is not None:
            return inside
    return _access(config, context)


def read_kubeconfig(files: Sequence[Path]) -> Kubeconfig:
    """Merge files; the first that says something wins.

    Raises
    ------
    NoSuchContext
        A file cannot be read, or is no kubeconfig.
    """
    current: str | None = None
    tables: dict[str, dict[str, Entry]] = {"contexts": {}, "clusters": {}, "users": {}}
    for file in files:
        document = _read(file)
        current = current or document.get("current-context") or None
        for kind, table in tables.items():
            for name, values in _named(document, kind, file):
                table.setdefault(name, Entry(values, file.parent.absolute()))
    return Kubeconfig(files=tuple(files), current=current, **tables)


def _files(kubeconfig: Path | None, environ: Mapping[str, str]) -> list[Path]:
    if kubeconfig is not None:
        if not kubeconfig.is_file():
            raise NoSuchContext(f"the kubeconfig {kubeconfig} does not exist")
        return [kubeconfig]
    listed = environ.get("KUBECONFIG")
    home = Path(environ.get("HOME") or Path.home())
    candidates = [Path(each) for each in listed.split(os.pathsep) if each] if listed else [home / ".kube" / "config"]
    return [each for each in candidates if each.is_file()]


def _read(file: Path) -> Mapping[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        first = str(error).splitlines()[0]
        raise NoSuchContext(f"the kubeconfig {file} cannot be read: {first}") from error
    if not isinstance(document, Mapping) and document is not None:
        raise NoSuchContext(f"{file} is no kubeconfig: it holds a {type(document).__name__}")
    return document or {}


def _named(document: Mapping[str, Any], kind: str, file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """The entries of a list such as `clusters: [{name: …, cluster: {…}}]`."""
    single, found = kind.removesuffix("s"), []
    for item in document.get(kind) or ():
        if not isinstance(item, Mapping) or "name" not in item:
            raise NoSuchContext(f"{file}: an entry of {kind} has no name")
        values = item.get(single)
        found.append((str(item["name"]), values if isinstance(values, Mapping) else {}))
    return found


def _access(config: Kubeconfig, wanted: str | None) -> Access:
    name = wanted or config.current
    where = ", ".join(map(str, config.files)) or "no kubeconfig ($KUBECONFIG, ~/.kube/config)"
    there_are = f"there are: {', '.join(sorted(config.contexts)) or 'none'}"
    if name is None:
        raise NoSuchContext(f"{where} says no current context; name one with --context; {there_are}")
    context = config.contexts.get(name)
    if context is None:
        raise NoSuchContext(f"there is no context {name} in {where}; {there_are}")
    return Access(
        context=name,
        is_named=wanted is not None,
        namespace=context.text("namespace") or "default",
        cluster=_part(config.clusters, context, kind="cluster", of=name),
        user=_part(config.users, context, kind="user", of=name),
    )


def _part(table: Mapping[str, Entry], context: Entry, *, kind: str, of: str) -> Entry:
    name = context.text(kind)
    if name is None and kind == "user":
        return Entry()
    if name is None or name not in table:
        raise NoSuchContext(f"context {of} names the {kind} {name}, which the kubeconfig does not have")
    return table[name]


def _in_cluster(environ: Mapping[str, str], folder: Path) -> Access | None:
    """The pod's own service account."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not (host and port and (folder / "token").is_file()):
        return None
    address = f"[{host}]" if ":" in host else host
    namespace = folder / "namespace"
    return Access(
        context=IN_CLUSTER,
        is_named=False,
        namespace=namespace.read_text(encoding="utf-8").strip() if namespace.is_file() else "default",
        cluster=Entry({"server": f"https://{address}:{port}", "certificate-authority": "ca.crt"}, folder),
        user=Entry({"tokenFile": "token"}, folder),
    )
