"""An in-memory API server for VoiceModels: resourceVersion, generation, uid, the status subresource, conflicts.

Not a mock: it refuses what a real one refuses. `crash` kills the caller at the n-th write, before or after it took
effect, because an operator may die between any two instructions.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segue.model import VoiceModel


class ApiConflict(Exception):
    """409: the object is not at the resourceVersion that was named."""


class ApiNotFound(Exception):
    """404."""


class ApiDown(Exception):
    """No answer."""


class Crashed(BaseException):
    """The operator died here. No `except Exception` survives it, as none survives SIGKILL."""


@dataclass
class CrashSwitch:
    """Kills at the n-th write from now.

    Attributes
    ----------
    at
        1 is the next write; None: never.
    after
        Whether the write still takes effect.
    """

    at: int | None = None
    after: bool = False
    writes: int = field(default=0, init=False)

    def arm(self, at: int | None, *, after: bool = False) -> None:
        """Count from here."""
        self.at, self.after, self.writes = at, after, 0

    def wrap(self, write: Callable[[], Any]) -> Any:
        """Do a write, or die before or after it."""
        self.writes += 1
        dies = self.at is not None and self.writes == self.at
        if dies and not self.after:
            raise Crashed(f"before write {self.writes}")
        result = write()
        if dies:
            raise Crashed(f"after write {self.writes}")
        return result


class FakeCluster:
    """VoiceModels of a cluster, by `namespace/name`.

    Attributes
    ----------
    on_status
        Called after each status write with what was written.
    """

    def __init__(self, crash: CrashSwitch | None = None) -> None:
        self.crash = crash or CrashSwitch()
        self.down = False
        self.on_status: Callable[[Mapping[str, Any]], None] = lambda status: None
        self._objects: dict[str, dict[str, Any]] = {}
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)

    # --- what users do (never crashes the operator) ---------------------------------------------------------------

    def apply(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Create, or replace spec, labels and annotations, as `kubectl apply` does."""
        new = copy.deepcopy(dict(document))
        metadata = new.setdefault("metadata", {})
        key = f"{metadata.setdefault('namespace', 'default')}/{metadata['name']}"
        old = self._objects.get(key)
        if old is None:
            metadata.update(uid=f"uid-{next(self._uids)}", generation=1)
            self._objects[key] = new
        else:
            old["metadata"].update({each: metadata.get(each, {}) for each in ("annotations", "labels")})
            self._set_spec(old, new["spec"])
        self._touch(self._objects[key])
        return copy.deepcopy(self._objects[key])

    def annotate(self, key: str, **annotations: str) -> None:
        """Set annotations; names are given without `segue.dev/`."""
        stored = self._find(key)
        stored["metadata"].setdefault("annotations", {}).update({f"segue.dev/{k}": v for k, v in annotations.items()})
        self._touch(stored)

    def edit_spec(self, key: str, edit: Callable[[dict[str, Any]], None]) -> None:
        """Change the spec, as `kubectl edit` does."""
        stored = self._find(key)
        spec = copy.deepcopy(stored["spec"])
        edit(spec)
        self._set_spec(stored, spec)
        self._touch(stored)

    def edit_status(self, key: str, edit: Callable[[dict[str, Any]], object]) -> None:
        """Change the status, as `kubectl edit --subresource=status` and restores from backups do."""
        stored = self._find(key)
        edit(stored["status"])
        self._touch(stored)

    def delete(self, key: str) -> None:
        """Gone at once: there is no finalizer."""
        self._find(key)
        del self._objects[key]

    def read(self, key: str) -> VoiceModel:
        """The object, for assertions: answers while the API server is down."""
        return VoiceModel.parse(self._find(key))

    def has(self, key: str) -> bool:
        """Whether it exists, for assertions."""
        return key in self._objects

    # --- what the operator does -----------------------------------------------------------------------------------

    def get(self, key: str) -> VoiceModel | None:
        """A direct GET; None is a 404."""
        self._answer()
        stored = self._objects.get(key)
        return None if stored is None else VoiceModel.parse(stored)

    def keys(self) -> list[str]:
        """All there are."""
        self._answer()
        return sorted(self._objects)

    def write_status(self, key: str, status: Mapping[str, Any], *, resource_version: str) -> str:
        """Replace the status subresource; returns the new resourceVersion."""
        return str(self.crash.wrap(lambda: self._write_status(key, dict(status), resource_version)))

    def patch_spec(self, key: str, fields: Mapping[str, Any], *, uid: str, resource_version: str) -> str:
        """The guarded JSON patch: test uid and resourceVersion, whole-value add (None: remove)."""
        return str(self.crash.wrap(lambda: self._patch_spec(key, fields, uid, resource_version)))

    # --- inside ---------------------------------------------------------------------------------------------------

    def _write_status(self, key: str, status: dict[str, Any], resource_version: str) -> str:
        stored = self._checked(key, resource_version)
        stored["status"] = copy.deepcopy(status)
        version = self._touch(stored)
        self.on_status(status)
        return version

    def _patch_spec(self, key: str, fields: Mapping[str, Any], uid: str, resource_version: str) -> str:
        stored = self._checked(key, resource_version)
        if stored["metadata"]["uid"] != uid:
            raise ApiConflict(f"{key} is another object now")
        spec = {
            name: value
            for name, value in {**stored["spec"], **copy.deepcopy(dict(fields))}.items()
            if value is not None
        }
        self._set_spec(stored, spec)
        return self._touch(stored)

    def _checked(self, key: str, resource_version: str) -> dict[str, Any]:
        self._answer()
        stored = self._find(key)
        if stored["metadata"]["resourceVersion"] != resource_version:
            raise ApiConflict(f"{key} is at {stored['metadata']['resourceVersion']}, not at {resource_version}")
        return stored

    def _set_spec(self, stored: dict[str, Any], spec: dict[str, Any]) -> None:
        if stored["spec"] != spec:
            stored["spec"] = copy.deepcopy(spec)
            stored["metadata"]["generation"] += 1

    def _touch(self, stored: dict[str, Any]) -> str:
        stored["metadata"]["resourceVersion"] = str(next(self._versions))
        return str(stored["metadata"]["resourceVersion"])

    def _find(self, key: str) -> dict[str, Any]:
        if key not in self._objects:
            raise ApiNotFound(key)
        return self._objects[key]

    def _answer(self) -> None:
        if self.down:
            raise ApiDown("the API server does not answer")
