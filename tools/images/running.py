"""Runs the long commands: each line into a file, the steps to whoever waits, and a sign of life in long silences."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from tools.images.errors import BuildFailed

Say = Callable[[str], None]

SIGN_OF_LIFE_S = 20.0

_STEP = re.compile(r"(?:^|\] )STEP (\d+/\d+: .*)|^#\d+ \[(?:\S+ )?(\d+/\d+\] .*)|^I: (Base system .*)")
"""Of buildah and podman, of docker, of debootstrap."""
_SHOWN = 90
_LAST_LINES = 15


class Runner(Protocol):
    """Runs one command to its end."""

    def __call__(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        """Raises BuildFailed where it fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRunner:
    """A `Runner` for one piece of work.

    Attributes
    ----------
    label
        What each line that is said begins with.
    log
        Where all output goes.
    """

    label: str
    log: Path
    say: Say

    def __call__(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        """Run it.

        Raises
        ------
        BuildFailed
            It ended with another code than 0.
        """
        with self.log.open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            assert process.stdout is not None
            with process.stdout as output:
                self._follow(output, log)
            code = process.wait()
        if code != 0:
            lines = self.log.read_text(encoding="utf-8").splitlines()[-_LAST_LINES:]
            said = "\n  ".join(lines)
            raise BuildFailed(f"{self.label}: {command[0]} ended with {code}; all of it is in {self.log}\n  {said}")

    def _follow(self, output: IO[bytes], log: IO[str]) -> None:
        started = time.monotonic()
        for line in _lines(output):
            if line is None:
                self.say(f"{self.label}: still at it, {time.monotonic() - started:.0f} s")
                continue
            log.write(f"{time.monotonic() - started:6.1f}  {line}\n")
            log.flush()
            if found := _STEP.search(line):
                step = " ".join((found[1] or found[2] or found[3]).replace("] ", ": ", 1).split())
                self.say(f"{self.label}: {step[:_SHOWN]}")


def _lines(output: IO[bytes]) -> Iterator[str | None]:
    """Each line as it comes; None after each time of silence."""
    kept = b""
    while True:
        if not select.select([output], [], [], SIGN_OF_LIFE_S)[0]:
            yield None
            continue
        piece = os.read(output.fileno(), 1 << 16)
        if not piece:
            break
        *whole, kept = (kept + piece).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in whole)
    if kept:
        yield kept.decode("utf-8", "replace")
