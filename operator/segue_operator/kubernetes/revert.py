"""The one patch that writes an earlier version back into a spec.

A JSON patch, because nothing else does all of this at once: it holds only for exactly the object that was read (uid and
resourceVersion are tested), it writes whole values (a field that the bad version added goes away, a union changes
sides), and it does the same in kubectl's memory of what was applied, or the next `kubectl apply` of a good manifest
would compute its difference against the bad one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from segue.model import RevisionSource
from segue_operator.kubernetes.api import Body

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

logger = logging.getLogger(__name__)

Operation = dict[str, Any]


def revert_patch(body: Body, to: RevisionSource) -> list[Operation]:
    """The operations that put `to` into exactly this object.

    Parameters
    ----------
    body
        As it was read, with its annotations.
    """
    metadata = body["metadata"]
    trees = subtrees_of(to)
    operations: list[Operation] = [
        {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
    ]
    for name, tree in trees.items():
        if tree is not None:
            operations.append({"op": "add", "path": f"/spec/{name}", "value": tree})
        elif name in body["spec"]:
            operations.append({"op": "remove", "path": f"/spec/{name}"})
    applied = _last_applied(metadata.get("annotations") or {}, trees)
    if applied is not None:
        operations.append({"op": "add", "path": f"/metadata/annotations/{_escaped(LAST_APPLIED)}", "value": applied})
    return operations


def subtrees_of(source: RevisionSource) -> dict[str, Any]:
    """`weights`, `reference` and `options` as they stand in a spec; None: absent."""
    dumped = source.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"weights": dumped["weights"], "reference": dumped.get("reference"), "options": dumped["options"] or None}


def _last_applied(annotations: Mapping[str, str], trees: Mapping[str, Any]) -> str | None:
    """What kubectl shall believe that it applied; None where it applied nothing (or nothing that can be read)."""
    text = annotations.get(LAST_APPLIED)
    if text is None:
        return None
    try:
        applied = json.loads(text)
        spec = {**applied["spec"]}
    except (ValueError, TypeError, KeyError) as error:
        logger.warning("the annotation %s is left as it is, because it cannot be read: %s", LAST_APPLIED, error)
        return None
    for name, tree in trees.items():
        spec.pop(name, None)
        if tree is not None:
            spec[name] = tree
    return _as_kubectl({**applied, "spec": spec})


def _as_kubectl(applied: Mapping[str, Any]) -> str:
    """The same bytes that kubectl would write, so that applying the good manifest again finds nothing to do."""
    text = json.dumps(applied, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    for char in "<>&\u2028\u2029":  # as Go's encoder has it
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text + "\n"


def _escaped(key: str) -> str:
    """A key as a part of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
