"""The speech server: HTTP API, queue, batching, result cache; one supervisor and N workers."""
