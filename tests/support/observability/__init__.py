"""`make observability`: the shipped rules and dashboards against a real Prometheus, Alertmanager and `segue up`."""
