"""Logging of the process: lines for people on a terminal, one JSON object a line otherwise."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from typing_extensions import override

_QUIET = {
    "httpx": logging.WARNING,
    "uvicorn.error": logging.WARNING,
    "watchfiles.main": logging.WARNING,
    "kopf": logging.WARNING,
    "kopf._core.reactor.running": logging.ERROR,  # warns at each start that signals are left to us
    "kopf._cogs.clients": logging.CRITICAL,  # every attempt of every watch while the API server is away; we say it once
}
"""Libraries that say more than anybody wants to read, and from which level on they may."""

_FIELDS = ("voice", "reason", "event_id", "pod", "revision")


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and what was given as `extra`."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if getattr(record, name, None) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(log_format: Literal["auto", "text", "json"]) -> None:
    """Log to stderr; `auto` is text on a terminal and JSON elsewhere."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json" or (log_format == "auto" and not sys.stderr.isatty()):
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
