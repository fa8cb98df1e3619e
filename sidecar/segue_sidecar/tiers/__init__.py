"""Voices that are not hot: who makes room for whom, and who is brought up for the request that waits.

- `rule`: which revisions may leave memory, and in which order. Pure.
- `room`: doing it, for a rollout, for a request, or because nobody has asked for long.
- `store`: prepared parts on disk, so that coming back takes no source and no engine.
- `rising`: from a worker's `want` to a word, or to the reason why not.
"""
