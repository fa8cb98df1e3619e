"""Measuring a running Segue from outside: load, latency, and whether any answer mixed two versions.

Separate from the benches because the demo measures with the same code, and the demo must work from an installed wheel,
where `bench/` is not.
"""
