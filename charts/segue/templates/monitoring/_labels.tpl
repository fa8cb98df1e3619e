{{/* Of an alert; takes {root, severity}. */}}
{{- define "segue.alert.labels" -}}
severity: {{ .severity }}
{{- with .root.Values.monitoring.rules.alertLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where it is explained what to do; takes {root, name}. */}}
{{- define "segue.alert.runbook" -}}
runbook_url: {{ printf "%s/%s.md" (trimSuffix "/" .root.Values.monitoring.rules.runbooks) .name | quote }}
{{- end -}}
