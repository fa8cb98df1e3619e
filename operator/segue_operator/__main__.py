"""`python -m segue_operator --config FILE`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from segue.errors import SegueError
from segue_operator.config import load_config
from segue_operator.logs import configure_logging
from segue_operator.run import run


def main(argv: list[str] | None = None) -> int:
    """Run the operator; the exit code."""
    parser = argparse.ArgumentParser(prog="segue_operator", description="The operator, with the folder adapter.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML or JSON")
    parser.add_argument("--log-format", choices=["auto", "text", "json"], help="overrides logFormat of the file")
    arguments = parser.parse_args(argv)
    try:
        config = load_config(arguments.config)
        configure_logging(arguments.log_format or config.log_format)
        asyncio.run(run(config))
    except SegueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception:
        logging.getLogger(__name__).exception("the operator ends because of an error that it did not expect")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
