"""More voices than fit: who comes, who goes, and how long the one who asked waits.

A folder because making the voices, asking them and looking at the processes meanwhile are three things; `run` is the
bench.
"""

from bench.residency.run import main

__all__ = ["main"]
