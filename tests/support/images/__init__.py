"""Images for tests: archives with a few files, an engine that builds nothing real, and containers of what was built."""
