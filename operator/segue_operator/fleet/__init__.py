"""The sidecars, as the control loop sees them: polled, commanded, never older than the last command."""
