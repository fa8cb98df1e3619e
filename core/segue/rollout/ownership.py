"""Who else writes this spec? Decides whether a revert in mode Auto would be fought.

Argo CD's self-heal re-applies Git within five seconds, Flux and Helm at their next reconciliation; and a field owned by
a server-side apply comes back with its next run. Separate because it reads metadata that nothing else does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segue.model.voice import Metadata

REVERTED_FIELDS = ("f:weights", "f:reference", "f:options")
"""What a revert would write."""

_ANNOTATIONS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "meta.helm.sh/release-name": "Helm",
}
_LABELS = {
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}


def spec_owner(metadata: Metadata) -> str | None:
    """Name of the tool that owns the spec, None when a revert would stay."""
    for marks, table in ((metadata.annotations, _ANNOTATIONS), (metadata.labels, _LABELS)):
        for mark, tool in table.items():
            if mark in marks:
                return tool
    if metadata.labels.get("app.kubernetes.io/managed-by") == "Helm":
        return "Helm"
    for entry in metadata.managed_fields:
        if entry.get("operation") == "Apply" and _owns_content(entry.get("fieldsV1")):
            return f"server-side apply by {entry.get('manager', 'an unnamed manager')}"
    return None


def _owns_content(fields: Any) -> bool:
    spec = fields.get("f:spec") if isinstance(fields, Mapping) else None
    return isinstance(spec, Mapping) and any(field in spec for field in REVERTED_FIELDS)
