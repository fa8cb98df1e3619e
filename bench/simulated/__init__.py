"""A fleet that is not there: thousands of sidecars in one process, and an operator without a cluster."""
