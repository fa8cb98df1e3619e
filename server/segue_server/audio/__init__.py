"""Encoders: from the engine's samples to bytes that a client asked for, piece by piece."""
