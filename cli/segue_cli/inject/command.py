"""`segue inject`: adds the sidecar to a manifest of one's own."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from segue import __version__
from segue.errors import SegueError
from segue_cli.console import say_line
from segue_cli.inject.manifest import Wish
from segue_cli.inject.manifest import inject as injected
from segue_cli.inject.shape import SOCKET_DIRECTORY, SidecarPlan
from segue_cli.up.memory import parse_bytes

STDIN = Path("-")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class CannotRead(SegueError):
    """A manifest that is not there."""


class InvalidChoice(SegueError):
    """An option that cannot mean anything."""


def inject(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Manifest with a Deployment; - is stdin.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File to write to; default: stdout.")] = None,
    container: Annotated[
        str | None, typer.Option("-c", "--container", help="The server's container; default: the only one.")
    ] = None,
    fleet: Annotated[str, typer.Option(help="The fleet that its pods become part of.")] = "default",
    source: Annotated[
        list[str] | None, typer.Option("--source", metavar="PREFIX", help="What its voices may fetch; may be repeated.")
    ] = None,
    trust: Annotated[
        list[str] | None, typer.Option("--trust", metavar="KEY", help="ed25519:BASE64, who may sign; may be repeated.")
    ] = None,
    tls_secret: Annotated[
        str | None, typer.Option(help="Secret with tls.crt, tls.key, ca.crt; default: segue-FLEET-tls.")
    ] = None,
    image: Annotated[str, typer.Option(help="The sidecar's image.")] = f"segue/sidecar:{__version__}",
    uid: Annotated[int, typer.Option(min=1, help="The sidecar's user; never the server's.")] = 10001,
    budget: Annotated[str, typer.Option(help="Memory for weights.")] = "1Gi",
    largest_file: Annotated[str, typer.Option(help="The largest file that may be fetched.")] = "512Mi",
    cache: Annotated[str, typer.Option(help="Disk for fetched files.")] = "20Gi",
    prepared: Annotated[str, typer.Option(help="Disk for prepared parts of voices that are not hot.")] = "10Gi",
    device_class: Annotated[str, typer.Option(help="What the operator calls the server's kind of device.")] = "cpu",
    socket_dir: Annotated[str, typer.Option(help="socketDir of the server's configuration.")] = SOCKET_DIRECTORY,
) -> None:
    """Add the sidecar, its volumes, ports and configuration to a Deployment whose container runs Segue's server.

    Done again on its own output it does the same again: with other options, or after an upgrade.
    """
    if not _NAME.fullmatch(fleet):
        raise InvalidChoice(f"--fleet is a name of lower-case letters, digits and '-', not {fleet!r}")
    plan = SidecarPlan(
        fleet=fleet,
        image=image,
        uid=uid,
        tls_secret=tls_secret or f"segue-{fleet}-tls",
        device_class=device_class,
        budget_bytes=parse_bytes(budget),
        largest_file_bytes=parse_bytes(largest_file),
        cache_bytes=parse_bytes(cache),
        prepared_bytes=parse_bytes(prepared),
        sources=tuple(source or ()),
        trusted_keys=tuple(trust or ()),
    )
    wish = Wish(container=container, socket_directory=socket_dir, plan=plan)
    text = injected(_read(file), wish, file=str(file))
    if out is None:
        say_line(text.rstrip("\n"))
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CannotRead(f"{out} cannot be written: {error.strerror or error}") from error
    say_line(f"{out}: apply it with: kubectl apply -f {out}")


def _read(file: Path) -> str:
    if file == STDIN:
        return sys.stdin.read()
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotRead(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
