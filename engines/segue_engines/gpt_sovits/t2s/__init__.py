"""Text to semantic tokens: the autoregressive half of GPT-SoVITS."""
