"""Engines: what turns weights and text into sound, and the probes that judge them."""
