"""Shared memory between the sidecar, which owns it, and the server's workers, which only read it.

What is where, in the order in which a revision meets it:

- `arena`, `arena_header`: one part of a revision in a sealed memfd, written once and mapped many times; its layout.
- `pool`, `holds`, `eviction`: how many bytes there may be, which memory is really free again, and who makes room.
- `mode`, `interface`, `host`: what a kind of weight memory must be able to do, and host memory doing it.
- `device`: the memory of a CUDA device doing it, in two ways.
- `messages`, `connection`, `handoff`, `adoption`: how arenas reach the workers, and come back to a restarted sidecar.
- `mapped_once`, `voice_view`: what revisions have in common in a worker, and what an engine is given of all of it.
- `page`: the eight bytes per voice that say which revision speaks.
- `admission`: what a worker makes of those eight bytes for one request.
- `stats`, `stats_reader`, `stats_layout`: what the workers count, readable after their death.
- `memfd`, `lease`: the few kernel calls that all of this stands on.

Nothing in here starts a thread, a task or a process: effects are the caller's, at the time that the caller chooses.
"""
