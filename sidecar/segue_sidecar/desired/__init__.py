"""What the pod does by itself when nobody commands it: follow the desired set that it mounts."""
