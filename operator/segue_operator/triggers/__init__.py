"""Reasons to go back that come from outside: Alertmanager's webhook and Prometheus queries."""
