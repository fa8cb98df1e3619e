"""API keys: who may speak, and with the voices of which namespace.

The file holds hashes, never keys. It is read again when it changes; a version that cannot be read changes nothing, so
that a slip of the editor locks nobody out.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from segue_server.api.errors import ApiError
from segue_server.config import InvalidConfig, read_yaml

LOOK_EVERY_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `key` is the name of the API key, never the key; empty where none is needed."""

    namespace: str
    key: str = ""


class _KeyEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    namespace: str = Field(min_length=1, max_length=253)
    name: str = Field(default="", max_length=253)


_ENTRIES = TypeAdapter(tuple[_KeyEntry, ...])


class KeyRing:
    """All keys, or nobody's."""

    def __init__(self, path: Path | None, *, default_namespace: str) -> None:
        """Read `path`; None: no key is asked for, and everybody is in `default_namespace`.

        Raises
        ------
        InvalidConfig
            The file cannot be read.
        """
        self._path = path
        self._open_caller = Caller(default_namespace)
        self._seen: tuple[int, int, int] | None = None
        self._entries: tuple[_KeyEntry, ...] = ()
        if path is not None:
            self._seen = _stamp(path)
            self._entries = load_keys(path)

    @property
    def required(self) -> bool:
        """Whether callers need a key."""
        return self._path is not None

    def caller(self, authorization: str | None) -> Caller | None:
        """Who sent this `Authorization` header; None: nobody that is known.

        Takes the same time whichever key it is, and whether it is one.
        """
        if self._path is None:
            return self._open_caller
        scheme, _, key = (authorization or "").partition(" ")
        presented = hashlib.sha256(key.strip().encode()).hexdigest() if scheme.lower() == "bearer" else ""
        found: Caller | None = None
        for entry in self._entries:
            if hmac.compare_digest(presented, entry.sha256):
                found = Caller(entry.namespace, entry.name or entry.sha256[:8])
        return found

    def reload_if_changed(self) -> None:
        """Read the file again if it changed; what cannot be read is logged and ignored."""
        if self._path is None:
            return
        stamp = _stamp(self._path)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._entries = load_keys(self._path)
        except InvalidConfig as error:
            log.error("the API keys stay as they were: %s", error)
        else:
            log.info("read %d API keys from %s", len(self._entries), self._path)


def authorized(keys: KeyRing, authorization: str | None) -> Caller:
    """Who sent this `Authorization` header.

    Raises
    ------
    ApiError
        401: no key, or one that is not known.
    """
    caller = keys.caller(authorization)
    if caller is None:
        raise ApiError(
            401, "this server needs a valid API key: send 'Authorization: Bearer KEY'", code="invalid_api_key"
        )
    return caller


def load_keys(path: Path) -> tuple[_KeyEntry, ...]:
    """Read a keys file: a list of {sha256, namespace, name}.

    Raises
    ------
    InvalidConfig
        Unreadable, or an entry that is none.
    """
    try:
        return _ENTRIES.validate_python(read_yaml(path) or [])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the list"
        raise InvalidConfig(f"{path}: {place}: {first['msg']}; an entry is {{sha256, namespace, name}}") from error


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
