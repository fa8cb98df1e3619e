"""Makes the files of the chart that follow from others: CRD template, schema and table of the values, dashboards.

Start at `__main__.py`. Outside the packages, because nobody needs it who does not change the chart.
"""
