"""What the end-to-end suite (`tests/e2e`) plays on: a real cluster with the chart in it, under real traffic.

Start at `place.py` (whose cluster it is), then `installation.py` (what helm made of it), `listeners.py` (who asks for
speech all the time), `surgeon.py` (what befalls containers), `flows.py` (who dials whom), `report.py`.
"""
