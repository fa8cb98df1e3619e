"""`segue up`: sidecar, server and operator as real processes on one machine."""
