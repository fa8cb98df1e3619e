"""The sidecar: fetches, verifies, prepares and proves weights, owns the arenas, stores the pointer words."""
