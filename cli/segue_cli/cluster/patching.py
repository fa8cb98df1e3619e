"""From changes of fields to a merge patch (RFC 7386) that the API server refuses where it would overwrite somebody.

Pure. A merge patch, because a JSON patch whose `test` fails is answered as invalid, not as a conflict; `uid` and
`resourceVersion` in the patch make it a change of exactly the object that was read.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from segue.model.edit import REMOVE
from segue_cli.editing import Changes


def changed(voice: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """A copy of the object with fields set or removed."""
    after: dict[str, Any] = copy.deepcopy(dict(voice))
    for field, value in changes.items():
        *parents, last = field.split(".") if isinstance(field, str) else field
        node = after
        for part in parents:
            if not isinstance(node.get(part), dict):
                node[part] = {}
            node = node[part]
        if value is REMOVE:
            node.pop(last, None)
        else:
            node[last] = value
    return after


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What turns one object into the other; empty where they are the same."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if inner := merge_patch(old, value):
                patch[key] = inner
        elif key not in before or value != old:
            patch[key] = value
    return patch


def guarded(patch: Mapping[str, Any], voice: Mapping[str, Any]) -> dict[str, Any]:
    """The patch, valid only for exactly the object that was read."""
    metadata = voice["metadata"]
    only = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    return {**patch, "metadata": {**patch.get("metadata", {}), **only}}
