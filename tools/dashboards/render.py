"""The dashboards as the files that Grafana reads, the same each time."""

from __future__ import annotations

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from tools.dashboards.control import control
from tools.dashboards.fleet import fleet
from tools.dashboards.overview import overview
from tools.dashboards.voice import voice


def render_dashboards() -> dict[str, str]:
    """JSON of each dashboard by its file's name."""
    encoder = JSONEncoder(sort_keys=True, indent=2)
    pages = (overview(), voice(), fleet(), control())
    return {f"{page.name}.json": encoder.encode(page.build()) + "\n" for page in pages}
