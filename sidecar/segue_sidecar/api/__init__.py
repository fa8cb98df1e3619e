"""The control API: HTTP in front of `commands`, `feed` and `evidence`. Decides nothing itself."""
