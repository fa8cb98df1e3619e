{{/* Names may be asked of any DNS server: where it is differs from cluster to cluster. */}}
{{- define "segue.policy.dns" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* Ports of a list. */}}
{{- define "segue.policy.ports" -}}
{{- range $index, $port := . }}
{{- if $index }}{{ "\n" }}{{ end -}}
- {port: {{ $port }}, protocol: TCP}
{{- end }}
{{- end -}}

{{/* Who reads figures: every pod of the cluster, unless peers are named. */}}
{{- define "segue.policy.monitoring" -}}
{{- if .Values.networkPolicies.monitoring -}}
{{- toYaml .Values.networkPolicies.monitoring -}}
{{- else -}}
- namespaceSelector: {}
{{- end -}}
{{- end -}}

{{/* Who commands: this release's operator, and others that are named; empty: nobody. */}}
{{- define "segue.policy.operators" -}}
{{- if .Values.operator.enabled }}
- podSelector:
    matchLabels: {{- include "segue.operator.selector" . | nindent 6 }}
{{- end }}
{{- with .Values.networkPolicies.operators }}
{{ toYaml . }}
{{- end }}
{{- end -}}
