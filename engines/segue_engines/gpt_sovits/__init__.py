"""GPT-SoVITS voices: v2, v2Pro and v2ProPlus."""
