"""The operator in a cluster. Only what is below here imports kopf and the Kubernetes client (extra `operator`)."""
