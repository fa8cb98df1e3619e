"""Semantic tokens to sound: the SoVITS half of GPT-SoVITS."""
