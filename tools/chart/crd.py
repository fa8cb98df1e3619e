"""The CRD as a template of the chart.

Not in the chart's `crds/` folder: what lies there helm installs once and never upgrades.
"""

from __future__ import annotations

from segue.model.crd import render_crd

HEAD = """\
{{- /* Generated from crds/ by `python -m tools.chart`. */}}
{{- if .Values.crds.enabled }}
"""
ANNOTATED = """\
metadata:
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
  labels: {{- include "segue.labels" . | nindent 4 }}
"""
TAIL = "{{- end }}\n"


def render_template() -> str:
    """The CRD of this checkout, as a template."""
    content = render_crd()
    assert content.count("\nmetadata:\n") == 1, "one `metadata` at the left margin, which gets the annotation"
    escaped = content.replace("{{", '{{ "{{" }}')
    return HEAD + escaped.replace("metadata:\n", ANNOTATED, 1) + TAIL
