"""A process that does things on command, so that tests can look at memory from the other side.

A module that is run as one takes one JSON command a line on stdin and answers each with one line, so no test has to
wait and hope. Separate from what such processes can do.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

REPOSITORY = Path(__file__).resolve().parents[2]


class Peer:
    """The test's end."""

    def __init__(self, module: str, *, fds: Sequence[int] = ()) -> None:
        """Start a module with these descriptors, under the same numbers."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=fds,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, do: str, **arguments: Any) -> Any:
        """Carry out one command; what it raised comes back as text. `None`: the process died of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        return json.loads(answer) if answer else None

    def kill(self) -> int:
        """SIGKILL, and wait; its exit status."""
        self._process.kill()
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def answer_commands(
    commands: object, *, told: tuple[type[Exception], ...], what: Callable[[Exception], str] = str
) -> None:
    """Answer commands until stdin ends: methods of `commands`; errors of the types `told` become text."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer: Any = getattr(commands, request.pop("do"))(**request)
        except told as error:
            answer = f"{type(error).__name__}: {what(error)}"
        print(json.dumps(answer), flush=True)
