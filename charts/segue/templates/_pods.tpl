{{/* What the restricted Pod Security profile asks of every container, and a root file system that cannot be written. */}}
{{- define "segue.container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Spread over nodes and zones; takes {spread, selector}. */}}
{{- define "segue.spread" -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: {{ $.spread.whenUnsatisfiable }}
  labelSelector:
    matchLabels:
      {{- $.selector | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end -}}

{{/* Where pods go; takes an operator or a fleet. */}}
{{- define "segue.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* `512Mi` in bytes. */}}
{{- define "segue.bytes" -}}
{{- $units := dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[KMGT]i$" . -}}
{{- mul (regexFind "^[0-9]+" . | int64) (get $units $unit | int64) -}}
{{- end -}}

{{/* Bytes as a quantity of whole MiB, rounded up. */}}
{{- define "segue.mebibytes" -}}
{{- printf "%dMi" (div (add (int64 .) 1048575) 1048576) -}}
{{- end -}}

{{/* Requests and limits with memory worked out where neither says any; takes {resources, memory}. */}}
{{- define "segue.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- $requests := default dict $resources.requests -}}
{{- $limits := default dict $resources.limits -}}
{{- if not (or (hasKey $requests "memory") (hasKey $limits "memory")) -}}
{{- $_ := set $requests "memory" .memory -}}
{{- $_ := set $limits "memory" .memory -}}
{{- end -}}
{{- toYaml (merge (dict "requests" $requests "limits" $limits) $resources) -}}
{{- end -}}
