"""`python -m segue_server.worker`: started by the supervisor only, with descriptors that it inherits.

Nothing heavy is imported before the thread limits are in the environment: numpy reads them once.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Run one worker until its supervisor lets it go."""
    parser = argparse.ArgumentParser(prog="segue-server-worker", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--generation", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--stats-fd", type=int, required=True)
    parser.add_argument("--channel-fd", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log-format", default="auto")
    arguments = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(arguments.threads)
    from segue_server.worker.main import Inheritance, run_worker

    return run_worker(
        Inheritance(
            name=arguments.name,
            generation=arguments.generation,
            listen_fd=arguments.listen_fd,
            stats_fd=arguments.stats_fd,
            channel_fd=arguments.channel_fd,
        ),
        config_path=arguments.config,
        log_format=arguments.log_format,
    )


if __name__ == "__main__":
    sys.exit(main())
