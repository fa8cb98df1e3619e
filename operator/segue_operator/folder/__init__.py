"""The folder adapter: a directory of YAML files in the place of the API server."""
