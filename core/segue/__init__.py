"""Segue: change the voice of a running text-to-speech service without a restart and without a failed request.

This package holds what every process shares: the `VoiceModel` types, the pure rollout engine, the wire types of the
control API, and the shared memory through which a sidecar hands weights to server workers. It starts no process and
knows no engine.
"""

__version__ = "0.1.0"
