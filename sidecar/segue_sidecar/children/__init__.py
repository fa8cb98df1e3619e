"""What the sidecar has done by short-lived processes: everything slow, and everything that reads hostile bytes.

Separate processes, not threads, because a busy Python thread beside the control API takes its 99th percentile from 4
to 30 ms, and because a weight file that makes a parser eat memory must not take the sidecar with it. A child has one
thread, the lowest priority, the highest badness for the OOM killer, and dies with the sidecar.

- `fetch`: files into the cache, digests, size limits, signature.
- `models`: as `prepare`, for the models that all voices of an engine share.
- `prepare`: the engine reads the files; what it makes is written into arenas that the sidecar gave.
- `upload`: copies sealed arenas into device memory and hashes them there; where weights live on a device.
- `prove`: maps the sealed arenas as a worker would, builds, warms up and speaks.
- `probe`: the whole verification, on request.
- `builds`: asks each engine for its build id, and for the files of its shared models.
- `rehash`: hashes arenas that workers gave back after a restart.

Nothing here imports asyncio, FastAPI or pydantic models: starting one costs what its own work needs.
"""
