"""Exit codes of `segue`, in one place because scripts rely on them."""

from __future__ import annotations

EXIT_FAILED = 1
"""It did not work; the line on stderr says why."""

EXIT_USAGE = 2
"""Wrong arguments."""

EXIT_OTHERWISE = 3
"""The awaited outcome can no longer come: the version was refused or taken back."""

EXIT_TIMEOUT = 4
"""The time given ran out."""

EXIT_INTERRUPTED = 130
"""Ctrl-C."""
