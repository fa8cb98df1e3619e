"""Give a lock file another build of torch: `python3 other_torch.py LOCK "torch==2.8.0+cpu --hash=sha256:…"`.

Runs inside the images' build, on the base's bare Python. PyPI's torch for x86-64 is the CUDA build and brings gigabytes
of NVIDIA's libraries; builds for a processor alone lie on an index of their own, under another version and hash. Which
one is meant is therefore said in full, hash included, and all else stays locked. Prints the lock file as it is where
nothing is said.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_ONLY_FOR_CUDA = re.compile(r"(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
_TORCH = re.compile(r"torch==\S+( +--hash=sha256:[0-9a-f]{64})+")


def with_torch(lock: str, torch: str) -> str:
    """The lock file with this line instead of its torch and of what only that needs.

    Raises
    ------
    ValueError
        The line is not `torch==VERSION` with its hashes.
    """
    if not torch:
        return lock
    if not _TORCH.fullmatch(torch):
        raise ValueError(f"TORCH is {torch!r}; expected 'torch==VERSION --hash=sha256:…', as in a lock file")
    entries = re.split(r"^(?=\S)", lock, flags=re.MULTILINE)
    return "".join(entry for entry in entries if not _ONLY_FOR_CUDA.match(entry)) + torch + "\n"


def main() -> int:
    """Print it; the exit code."""
    lock, torch = sys.argv[1:]
    try:
        sys.stdout.write(with_torch(Path(lock).read_text(encoding="utf-8"), torch))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
