{{/* Of an alert; takes {root, severity}. */}}
{{- define "segue.alert.labels" -}}
severity: {{ .severity }}
{{- with .root.Values.monitoring.rules.alertLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}
