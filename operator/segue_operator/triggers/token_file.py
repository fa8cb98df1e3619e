"""Bearer tokens in a file that is rotated under a running process.

Separate because the receiver checks callers against one and the Prometheus client presents one.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from segue.errors import SegueError


class NoToken(SegueError):
    """A token file that cannot be read, or has nothing in it."""


@dataclass(slots=True)
class TokenFile:
    """One token a line. Looked at whenever a token is needed, read when it is another file than before."""

    path: Path
    _seen: tuple[int, int, int] | None = None
    _tokens: tuple[str, ...] = ()

    def tokens(self) -> tuple[str, ...]:
        """All of them, at least one.

        Raises
        ------
        NoToken
            The file cannot be read, or is empty.
        """
        try:
            stamp = file_stamp(self.path)
            if stamp != self._seen:
                lines = self.path.read_text(encoding="utf-8").splitlines()
                self._tokens = tuple(line.strip() for line in lines if line.strip())
                self._seen = stamp
        except (OSError, UnicodeDecodeError) as error:
            self._seen, self._tokens = None, ()
            raise NoToken(f"the token file {self.path} cannot be read: {error}") from error
        if not self._tokens:
            raise NoToken(f"the token file {self.path} is empty; write a token into it")
        return self._tokens

    def opens(self, authorization: str | None) -> bool:
        """Whether this `Authorization` header carries one of the tokens; takes as long for a wrong one as for any.

        Raises
        ------
        NoToken
            The file cannot be read, or is empty.
        """
        scheme, _, presented = (authorization or "").partition(" ")
        digest = sha256(presented.strip().encode()).digest()
        matches = [hmac.compare_digest(digest, sha256(token.encode()).digest()) for token in self.tokens()]
        return any(matches) and scheme.lower() == "bearer"


def file_stamp(path: Path) -> tuple[int, int, int]:
    """What changes when the file is written or replaced, also by a symbolic link that is swapped."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
