"""Every answer that is no success: `{"error": {message, type, param, code}}`, as OpenAI's clients expect it.

Separate because each way to fail must have one status code, decided in one place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from segue.errors import SegueError, TextRejected
from segue_server.synthesis.failures import (
    DeadlinePassed,
    NotServing,
    QueueFull,
    RevisionUnknown,
    SpeechFailed,
    VoiceUnknown,
)


class ApiError(SegueError):
    """An answer with a status code.

    Attributes
    ----------
    status
        HTTP status.
    type, code, param
        As OpenAI's errors have them; `param` names the field of the body.
    retry_after_s
        Sent as Retry-After, in whole seconds.
    extra
        Further fields of the error object (`span`).
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        self.extra = extra or {}
        super().__init__(message)

    @property
    def body(self) -> bytes:
        """JSON."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code, **self.extra}
        return json.dumps({"error": error}).encode()

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Content type, and Retry-After where it makes sense."""
        headers = [(b"content-type", b"application/json")]
        if self.retry_after_s is not None:
            headers.append((b"retry-after", str(max(1, math.ceil(self.retry_after_s))).encode()))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return headers


def explain(error: SegueError) -> ApiError:
    """Put a failure into HTTP's words."""
    match error:
        case ApiError():
            return error
        case VoiceUnknown():
            return ApiError(404, str(error), code="voice_not_found", param="voice")
        case RevisionUnknown():
            return ApiError(404, str(error), code="revision_not_found", param="Segue-Pin")
        case TextRejected():
            span = {"span": list(error.span)}
            return ApiError(400, str(error), code="text_rejected", param="input", extra=span)
        case QueueFull():
            return ApiError(
                429, str(error), type="rate_limit_error", code="queue_full", retry_after_s=error.retry_after_s
            )
        case NotServing():
            return ApiError(
                503, str(error), type="server_error", code="not_available", retry_after_s=error.retry_after_s
            )
        case DeadlinePassed():
            return ApiError(504, str(error), type="server_error", code="deadline_passed")
        case SpeechFailed():
            return ApiError(500, str(error), type="server_error", code="synthesis_failed")
        case _:
            return ApiError(500, f"{type(error).__name__}: {error}", type="server_error", code="internal_error")
