"""GPT-SoVITS voices (v2, v2Pro, v2ProPlus): official weight files in, speech out.

Nothing here is imported before a voice of this engine is asked for, so a server without torch runs the others.
"""
