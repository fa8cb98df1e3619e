"""One worker process: a loop that talks, a thread that speaks."""
