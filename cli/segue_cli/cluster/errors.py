"""What goes wrong between a person and an API server.

ClusterError (a SegueError)
├── NoSuchContext        a kubeconfig that names no such cluster, user or context, or cannot be read
├── NoCredentials        credentials that cannot be had: a login command that fails, a missing key file
├── ApiServerUnreachable no answer, or none that can be trusted
└── Answered             the API server said no; carries its Status
    ├── Forbidden        a permission is missing; the message says which
    ├── NoVoiceModels    the CustomResourceDefinition is not installed
    ├── Conflict         the object is not the one that was read
    └── Expired          a watch that is too old to go on (410): list again
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segue.errors import SegueError


class ClusterError(SegueError):
    """Root of what goes wrong between a person and an API server."""


class NoSuchContext(ClusterError):
    """A kubeconfig that cannot be read, or names no such cluster, user or context."""


class NoCredentials(ClusterError):
    """Credentials that cannot be had."""


class ApiServerUnreachable(ClusterError):
    """No answer, or none that can be trusted."""


class Answered(ClusterError):
    """The API server said no.

    Attributes
    ----------
    code
        HTTP status.
    status
        The `Status` object of the answer; empty where the answer was no such object.
    """

    def __init__(self, message: str, *, code: int, status: Mapping[str, Any] | None = None) -> None:
        self.code = code
        self.status: Mapping[str, Any] = status or {}
        super().__init__(message)

    @property
    def is_about_an_object(self) -> bool:
        """Whether the answer names an object: an unknown path is answered with bare text, or without a name."""
        details = self.status.get("details")
        return isinstance(details, Mapping) and bool(details.get("name"))


class Forbidden(Answered):
    """A permission is missing."""


class NoVoiceModels(Answered):
    """The CustomResourceDefinition is not installed."""


class Conflict(Answered):
    """The object is not the one that was read."""


class Expired(Answered):
    """A watch or a page that is too old to go on."""
