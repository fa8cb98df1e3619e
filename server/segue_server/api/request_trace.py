"""One request as a trace: accepted, in the queue, spoken, encoded.

Separate from the endpoint, which answers the same with and without it.
"""

from __future__ import annotations

import time

from segue.tracing import Stage, Tracing
from segue_server.synthesis.flight import Flight
from segue_server.synthesis.spec import SpeechSpec
from segue_server.synthesis.studio import Answer, Hit

NAME = "POST /v1/audio/speech"


class RequestTrace:
    """From the first byte that came to the last one that went out."""

    def __init__(self, tracing: Tracing, *, traceparent: str | None) -> None:
        """Below the caller's span, where it sent one."""
        self._span = tracing.begin(NAME, traceparent=traceparent)
        self._began_s = time.monotonic()
        self._flight: Flight | None = None
        self._stages: list[Stage] = []
        self._attributes: dict[str, str | int] = {}
        self._error = ""
        self._status = 200

    @property
    def traceparent(self) -> str:
        """For the answer."""
        return self._span.traceparent

    def admitted(self, answer: Answer, spec: SpeechSpec) -> None:
        """It was understood, and a revision was chosen."""
        self._stages.append(Stage("accept", self._began_s, time.monotonic()))
        self._attributes.update({"segue.voice": str(spec.voice), "segue.text.chars": len(spec.text)})
        if isinstance(answer, Hit):
            self._attributes.update({"segue.revision": answer.revision, "segue.cache": "hit"})
        else:
            self._flight = answer.flight if answer.fresh else None  # whoever joined waited for a part of it only
            self._attributes.update({"segue.cache": "miss" if answer.fresh else "hit"})
            self._attributes.update({"segue.revision": answer.flight.speaker.revision})

    def failed(self, why: str, *, status: int = 200) -> None:
        """It is answered with an error, or cut after its status went out. A client's mistake is no error of ours."""
        self._status = status
        self._error = "" if 400 <= status < 500 else why

    def end(self, *, request_id: str) -> None:
        """The answer is out."""
        if self._flight is not None:
            self._stages += self._flight.stages
            self._attributes.update({"segue.revision": self._flight.speaker.revision})
            if self._flight.shielded is not None:
                self._attributes.update({"segue.shielded": self._flight.shielded})
        self._attributes.update({"segue.request_id": request_id, "http.response.status_code": self._status})
        self._span.note(self._attributes)
        self._span.stages(self._stages)
        self._span.end(error=self._error)
