"""What a worker tells its supervisor, line by line over a socket pair.

Separate because both sides need it. Numbers do not travel here (they are in the stats page, where they survive the
worker); what does is what numbers cannot say: readiness with its reason, and which handle is which revision. The end
of the channel is the news that the other side died.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from segue.errors import SegueError


class BadReport(SegueError):
    """A line that is no report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a worker is.

    Attributes
    ----------
    listening
        It takes connections.
    unready
        Why it should get no traffic; empty: it is ready.
    replace
        Why it should be drained and replaced; empty: no.
    names
        Handle to (voice, revision), for every handle that was not told before.
    """

    listening: bool = False
    unready: str = "starting"
    replace: str = ""
    names: dict[int, tuple[str, str]] = field(default_factory=dict)

    def encode(self) -> bytes:
        """One line."""
        names = {str(handle): list(name) for handle, name in self.names.items()}
        document = {"listening": self.listening, "unready": self.unready, "replace": self.replace, "names": names}
        return json.dumps(document).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Report:
        """Read one line.

        Raises
        ------
        BadReport
            Not a report.
        """
        try:
            document: dict[str, Any] = json.loads(line)
            names = {int(handle): (str(name[0]), str(name[1])) for handle, name in document["names"].items()}
            return cls(
                listening=bool(document["listening"]),
                unready=str(document["unready"]),
                replace=str(document["replace"]),
                names=names,
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise BadReport(f"a worker sent {line[:80]!r}, which is no report: {error}") from error
