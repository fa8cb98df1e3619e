"""The demo engine: small English voices in numpy.

`DemoEngine` is the door. `text` reads, `network` computes, `vocoder` sounds, `row` remembers, `weights` checks files.
"""

from segue_engines.demo.engine import DemoEngine

__all__ = ["DemoEngine"]
