"""`python -m segue_operator --config FILE`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, assert_never

from segue.errors import SegueError
from segue.garbage import settle_garbage
from segue_operator.config import AnyConfig, KubernetesConfig, OperatorConfig, load_config
from segue_operator.logs import configure_logging
from segue_operator.run import run


class ExtraMissing(SegueError):
    """The configuration asks for an adapter that is not installed."""


def main(argv: list[str] | None = None) -> int:
    """Run the operator; the exit code."""
    parser = argparse.ArgumentParser(prog="segue_operator", description="The operator, over a folder or a cluster.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML or JSON")
    parser.add_argument("--log-format", choices=["auto", "text", "json"], help="overrides logFormat of the file")
    arguments = parser.parse_args(argv)
    try:
        config = load_config(arguments.config)
        configure_logging(arguments.log_format or config.log_format)
        operator = _operator(config)
        settle_garbage()
        asyncio.run(operator)
    except SegueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception:
        logging.getLogger(__name__).exception("the operator ends because of an error that it did not expect")
        return 1
    return 0


def _operator(config: AnyConfig) -> Coroutine[Any, Any, None]:
    match config:
        case OperatorConfig():
            return run(config)
        case KubernetesConfig():
            return _in_cluster(config)
        case _:
            assert_never(config)


def _in_cluster(config: KubernetesConfig) -> Coroutine[Any, Any, None]:
    """The cluster's adapter is imported only where it is asked for: a plain install has neither kopf nor the client."""
    try:
        from segue_operator.kubernetes import run as in_cluster
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("kopf", "kubernetes", "aiohttp", "yaml"):
            raise
        raise ExtraMissing(
            f"adapter kubernetes needs {error.name}, which is not installed: pip install 'segue[operator]'"
        ) from error
    return in_cluster.run(config)


if __name__ == "__main__":
    sys.exit(main())
