"""The process that keeps the workers: starts, watches, replaces and counts them."""
