"""Start of the sidecar: `python -m segue_sidecar --config FILE [--log-format text|json]`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from segue.errors import SegueError
from segue_sidecar.config import load_config
from segue_sidecar.logs import configure_logs
from segue_sidecar.sidecar import Sidecar

logger = logging.getLogger("segue_sidecar")


def main() -> int:
    """Run until SIGTERM or SIGINT; 0 after a clean stop, 1 when it could not start or go on."""
    arguments = _arguments()
    configure_logs(arguments.log_format)
    try:
        asyncio.run(_run(arguments.config))
    except SegueError as error:
        logger.error("%s", error)
        return 1
    except OSError as error:
        logger.error("cannot start: %s", error)
        return 1
    return 0


async def _run(config_file: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Sidecar(load_config(config_file)).run(stop)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="segue_sidecar", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML or JSON; see segue_sidecar.config")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
