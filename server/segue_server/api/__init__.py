"""The speech API: OpenAI's shapes, Segue's headers."""
