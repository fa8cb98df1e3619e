"""The table of metrics in `docs/metrics.md`, made from the collectors themselves."""
