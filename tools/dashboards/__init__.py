"""Grafana dashboards as code; `tools.chart` writes them into the chart.

Start at `render.py`. A file per dashboard, each reads from top to bottom as the page does; `parts.py` is how a panel
looks here, `promql.py` how a query is written. Outside the packages, because nobody needs it who does not change them.
"""
