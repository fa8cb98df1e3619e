"""A speech server as they are usually written, to compare with: one process, the model in an attribute, a reload call.

The same engine, the same weights, FastAPI and uvicorn as in Segue's own server. What differs is how weights change:
each half is loaded by the serving process on request and assigned, as the `set_..._weights` calls of common servers do.
A request that is being spoken meanwhile goes on with whatever the attribute holds. `Segue-Revision` names the version
that was loaded when the request came in, so that the same client and the same detector judge it.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from segue.engine import Device, PartView, PreparedPart, PrepareOptions, SynthesisRequest, Synthesizer, VoiceView
from segue_engines.demo import DemoEngine


class Pipeline:
    """The model and what it was loaded from."""

    def __init__(self, version: str, weights: dict[str, Path]) -> None:
        self.version = version
        self.weights = dict(weights)
        self._engine = DemoEngine()
        self._parts: dict[str, PreparedPart] = dict(self._engine.prepare(self.weights, PrepareOptions()).parts)
        self.synthesizer: Synthesizer = self._build()
        self._compute = threading.Lock()

    def set_weights(self, half: str, path: Path) -> None:
        """Load one half in this process and assign it."""
        files = {**self.weights, half: path}
        self._parts[half] = self._engine.prepare(files, PrepareOptions()).parts[half]
        self.weights[half] = path
        self.synthesizer = self._build()

    def speak(self, text: str, seed: int) -> Iterator[bytes]:
        """s16le, piece by piece, by whatever the attribute holds at each piece."""
        row = self.synthesizer.admit(SynthesisRequest(text=text, seed=seed, streaming=True))
        while not row.done:
            with self._compute:
                self.synthesizer.step([row])
                piece = row.take()
            if len(piece):
                yield np.rint(np.clip(piece, -1, 1) * 32767).astype("<i2").tobytes()
        row.close()

    def _build(self) -> Synthesizer:
        views = {name: PartView(tensors=part.tensors, meta=part.meta) for name, part in self._parts.items()}
        return self._engine.build(VoiceView(parts=views), Device())


def make_app(pipeline: Pipeline) -> FastAPI:
    """The HTTP side."""
    app = FastAPI()

    @app.post("/v1/audio/speech")
    async def speech(request: Request) -> Response:
        wanted = await request.json()
        pieces = pipeline.speak(wanted["input"], int(wanted.get("seed") or 0))
        return StreamingResponse(pieces, media_type="audio/pcm", headers={"Segue-Revision": pipeline.version})

    @app.post("/set_weights")
    async def set_weights(request: Request) -> Response:
        wanted = await request.json()
        pipeline.set_weights(wanted["half"], Path(wanted["path"]))
        pipeline.version = wanted["version"]
        return JSONResponse({"loaded": wanted["path"]})

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"version": pipeline.version}

    return app


def main() -> None:
    """Load, then serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--prosody", type=Path, required=True)
    parser.add_argument("--timbre", type=Path, required=True)
    options = parser.parse_args()
    pipeline = Pipeline(options.version, {"prosody": options.prosody, "timbre": options.timbre})
    uvicorn.run(make_app(pipeline), host="127.0.0.1", port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
