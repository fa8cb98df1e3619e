"""A load generator in a process of its own, at a lower priority than what it measures.

Separate from `load` because this is the plumbing: the plan goes in on stdin, ticks come out on stdout, records go to a
file. The child stops when its stdin closes, so it never outlives who started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from segue_cli.measure.load import LoadGenerator
from segue_cli.measure.shots import LoadPlan, Record, Tick

NICENESS = 10
TICK_S = 0.25


class LoadProcess:
    """Parent's side: starts the generator, reads its ticks in a thread, collects its records.

    Used as a context manager; leaving it stops the child and, after the plan's drain time, kills it.
    """

    def __init__(
        self, plan: LoadPlan, *, directory: Path, name: str = "load", on_tick: Callable[[Tick], None] | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.ticks: list[Tick] = []
        self._plan = plan
        self._records_path = directory / f"{name}.records.jsonl"
        self._log_path = directory / f"{name}.log"
        self._on_tick = on_tick
        self._child: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._ticked = threading.Event()

    def start(self) -> Self:
        """Start the child; returns once it sends."""
        self._records_path.unlink(missing_ok=True)
        with self._log_path.open("wb") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "segue_cli.measure.load_process", str(self._records_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._child.stdin is not None
        self._child.stdin.write(self._plan.model_dump_json().encode() + b"\n")
        self._child.stdin.flush()
        self._reader = threading.Thread(target=self._read_ticks, name="load-ticks", daemon=True)
        self._reader.start()
        if not self._ticked.wait(30):
            self.kill()
            raise RuntimeError(f"the load generator did not start; see {self._log_path}")
        return self

    @property
    def running(self) -> bool:
        """Whether the child still sends or drains."""
        return self._child is not None and self._child.poll() is None

    @property
    def latest(self) -> Tick | None:
        """The latest tick."""
        return self.ticks[-1] if self.ticks else None

    def wait_for_tick(self, timeout_s: float) -> bool:
        """Wait until the child has said something new; False when it did not within the time."""
        self._ticked.clear()
        return self._ticked.wait(timeout_s)

    def wait(self, timeout_s: float) -> list[Record]:
        """Wait for the plan's own end, then hand out the records. Raises `TimeoutError`."""
        assert self._child is not None, "start it first"
        try:
            code = self._child.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"the load generator still runs after {timeout_s:.0f} s") from error
        self._close_pipes()
        if code != 0:
            raise RuntimeError(f"the load generator ended with {code}; see {self._log_path}")
        return read_records(self._records_path)

    def stop(self) -> list[Record]:
        """Send nothing more, wait for what is in flight, hand out the records."""
        assert self._child is not None, "start it first"
        if self._child.stdin is not None and not self._child.stdin.closed:
            self._child.stdin.close()
        return self.wait(self._plan.drain_s + self._plan.timeout_s + 30)

    def kill(self) -> None:
        """End the child at once."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        self._close_pipes()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _close_pipes(self) -> None:
        if self._child is None:
            return
        if self._child.stdin is not None and not self._child.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()
        if self._reader is not None:
            self._reader.join(10)
        if self._child.stdout is not None:
            self._child.stdout.close()

    def _read_ticks(self) -> None:
        assert self._child is not None
        assert self._child.stdout is not None
        for line in self._child.stdout:
            tick = Tick(*json.loads(line))
            self.ticks.append(tick)
            self._ticked.set()
            if self._on_tick is not None:
                self._on_tick(tick)


def read_records(path: Path) -> list[Record]:
    """Records that a child has written, oldest first."""
    with path.open() as lines:
        return [Record(*json.loads(line)) for line in lines]


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write all at once, then rename: a reader sees all or nothing."""
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    partial.rename(path)


# --- the child ------------------------------------------------------------------------------------------------------


async def _serve(plan: LoadPlan) -> list[Record]:
    generator = LoadGenerator(plan)
    loop = asyncio.get_running_loop()

    def wait_for_end_of_input() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        loop.call_soon_threadsafe(generator.stop)

    threading.Thread(target=wait_for_end_of_input, daemon=True).start()
    ticking = asyncio.create_task(_tick(generator))
    try:
        return await generator.run()
    finally:
        ticking.cancel()


async def _tick(generator: LoadGenerator) -> None:
    while True:
        sys.stdout.write(json.dumps(generator.tick()) + "\n")
        sys.stdout.flush()
        await asyncio.sleep(TICK_S)


def main() -> None:
    """Read a plan from stdin, run it, write the records to the path given."""
    os.nice(NICENESS)
    plan = LoadPlan.model_validate_json(sys.stdin.buffer.readline())
    began_s = time.monotonic()
    records = asyncio.run(_serve(plan))
    write_records(Path(sys.argv[1]), records)
    sys.stderr.write(f"{len(records)} requests in {time.monotonic() - began_s:.1f} s\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the thread that waits for the end of stdin holds no work


if __name__ == "__main__":
    main()
