"""The console of `segue up`: its port, the token that lets its owner act, and what is said about both.

Separate because a token is made here: with it, whoever may read the state directory (the owner) may act on the page,
and nobody has to think of one first.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from segue_cli.layout import Layout
from segue_cli.up.configs import ConsolePlan, Plan
from segue_cli.up.ports import PortTaken, free_port, require_free
from segue_cli.up.service import Service

if TYPE_CHECKING:
    from segue_cli.up.run import Wishes

USUAL_PORT = 8090


def plan_console(wishes: Wishes, layout: Layout) -> ConsolePlan:
    """Its port and its token's file."""
    return ConsolePlan(_port(wishes.console_port), wishes.console_token or _own_token(layout))


def console_lines(plan: Plan, services: Sequence[Service]) -> Iterator[str]:
    """What `up` says of it."""
    if plan.console is None:
        return
    ready = next((service.ready() for service in services if service.name == "operator"), None)
    if ready is not None and "console" not in ready["addresses"]:
        yield f"console:    not served; {plan.layout.logs / 'operator.log'} says why"
        return
    yield f"console:    {plan.console.url}"
    yield f"            to act on it, give it the token in {plan.console.token_file}"


def _port(wished: int | None) -> int:
    if wished is not None:
        return require_free("127.0.0.1", wished, option="--console-port")
    try:
        return require_free("127.0.0.1", USUAL_PORT)
    except PortTaken:
        return free_port()


def _own_token(layout: Layout) -> Path:
    """The same for as long as the state directory lives."""
    file = layout.root / "console-token"
    with suppress(FileNotFoundError):
        if file.read_text(encoding="ascii").strip():
            return file
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(secrets.token_urlsafe(24) + "\n")
    return file
