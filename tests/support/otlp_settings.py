"""Settings of a sender of traces, with what a test does not care about filled in."""

from __future__ import annotations

from segue.otlp.settings import Settings, read_settings

QUEUE = "OTEL_BSP_MAX_QUEUE_SIZE"
BATCH = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
DELAY_MS = "OTEL_BSP_SCHEDULE_DELAY"


def settings(**environment: str) -> Settings:
    """Of an environment that names a receiver nobody listens as."""
    return read_settings("segue-test", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **environment})
