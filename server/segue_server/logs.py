"""Logging of supervisor and workers: lines for people on a terminal, one JSON object a line otherwise."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum

from typing_extensions import override


class LogFormat(StrEnum):
    """`--log-format`; `auto` is text on a terminal and JSON elsewhere."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


class JsonFormatter(logging.Formatter):
    """One object a line."""

    def __init__(self, process: str) -> None:
        """`process` names who logs: `supervisor`, `w0`."""
        super().__init__()
        self._process = process

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(log_format: LogFormat, *, process: str) -> None:
    """Log to stderr as `process`."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format is LogFormat.JSON or (log_format is LogFormat.AUTO and not sys.stderr.isatty()):
        handler.setFormatter(JsonFormatter(process))
    else:
        handler.setFormatter(
            logging.Formatter(f"%(asctime)s %(levelname)-7s server {process}: %(message)s", "%H:%M:%S")
        )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    # Requests are counted, not logged.
    logging.getLogger("uvicorn.access").disabled = True
