"""From an admitted request to encoded speech: rows, batches, flights, cache."""
