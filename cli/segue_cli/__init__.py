"""The `segue` command: everything a person types."""
