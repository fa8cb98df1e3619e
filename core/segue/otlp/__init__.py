"""Spans over OTLP by HTTP, at a cost that a busy worker can bear.

Separate from `segue.tracing`, which says what is told: nothing in here is imported where nobody configured a receiver.
"""
