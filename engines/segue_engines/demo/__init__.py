"""The demo engine: small English voices in numpy. `DemoEngine` is the door; `text`, `network` and `vocoder` its rooms."""

from segue_engines.demo.engine import DemoEngine

__all__ = ["DemoEngine"]
