"""What this worker can speak with: revisions mapped from the sidecar's arenas, and the link they come over."""
