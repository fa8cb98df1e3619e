"""The console as a part of the operator's process: its listener, and its end.

Separate so that both adapters do the same in one line. A console that cannot listen is said and left out: rollouts
matter more than a page.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass

from segue_operator.api import ApiServer
from segue_operator.console.app import Console, make_app
from segue_operator.console.config import ConsoleConfig
from segue_operator.listener import CannotListen, address_of, bind_address, make_plain_server

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedConsole:
    """A server and the socket that it is to serve on."""

    console: Console
    server: ApiServer
    socket: socket.socket

    @property
    def address(self) -> str:
        """`ADDRESS:PORT`."""
        return address_of(self.socket)

    def close(self) -> None:
        """Let open pages go."""
        self.console.streams.closing.set()
        self.server.should_exit = True


def open_console(console: Console, config: ConsoleConfig) -> ServedConsole | None:
    """Listen; None: that is not possible, and it was said why."""
    try:
        listening = bind_address(config.listen)
    except CannotListen as error:
        logger.warning("the console is not served: %s", error)
        return None
    return ServedConsole(console, make_plain_server(make_app(console, config)), listening)
