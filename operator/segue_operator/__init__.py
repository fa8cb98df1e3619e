"""The operator: observes voices and pods, asks the rollout engine for one action, does it."""
