"""`python -m segue_server --config FILE`: the speech server's supervisor."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from segue_server.logs import LogFormat
from segue_server.supervisor.main import run_supervisor


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="segue-server", description="Segue's speech server.")
    parser.add_argument("--config", type=Path, required=True, help="YAML or JSON; see segue_server/config.py")
    parser.add_argument("--log-format", choices=[f.value for f in LogFormat], default=LogFormat.AUTO.value)
    arguments = parser.parse_args()
    return run_supervisor(arguments.config.resolve(), log_format=LogFormat(arguments.log_format))


if __name__ == "__main__":
    sys.exit(main())
