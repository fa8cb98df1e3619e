"""Free TCP ports, and a clear word when the wanted one is taken."""

from __future__ import annotations

import errno
import socket
from contextlib import closing

from segue.errors import SegueError


class PortTaken(SegueError):
    """Somebody else listens there, or we may not."""


def require_free(host: str, port: int, *, option: str = "--port") -> int:
    """The port if it can be had, or a free one for port 0. `option` is what a person would change.

    Raises
    ------
    PortTaken
        In use, not allowed, or no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
            return int(probe.getsockname()[1])
        except (OSError, OverflowError) as error:
            raise PortTaken(_why(host, port, error, option)) from error


def free_port() -> int:
    """Any free port of 127.0.0.1."""
    return require_free("127.0.0.1", 0)


def _why(host: str, port: int, error: Exception, option: str) -> str:
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; stop what listens there, or choose another with {option}"
    if code == errno.EACCES:
        return f"port {port} needs rights that you do not have; choose one over 1023 with {option}"
    hint = " and --host" if option == "--port" else ""
    return f"{host}:{port} cannot be listened on: {error}; check {option}{hint}"
