"""How fast gpt-sovits voices speak on a processor, beside the PyPI package gsv-tts-lite in the same run.

A folder because it has a second engine in it: `peer` drives that package's networks, `voices` makes both the same
generated weights, `measures` measures, `run` is the bench.
"""

from bench.gpt_sovits.run import main

__all__ = ["main"]
