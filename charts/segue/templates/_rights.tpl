{{/*
The operator's rights, the same rules as in deploy/rights.yaml: a test compares them.
`voices` are needed where voices are, `pods` where fleets are.
*/}}
{{- define "segue.rules.voices" -}}
- apiGroups: [segue.dev]
  resources: [voicemodels]
  verbs: [get, list, watch, patch]
- apiGroups: [segue.dev]
  resources: [voicemodels/status]
  verbs: [update]
{{- end -}}

{{- define "segue.rules.pods" -}}
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, update]
{{- end -}}

{{- define "segue.rules.events" -}}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* Binds a role to the operator; takes {root, kind, role}. */}}
{{- define "segue.binding" -}}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .role }}
subjects:
  - kind: ServiceAccount
    name: {{ include "segue.operator.account" .root }}
    namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{/* A Role and its binding in a namespace; takes {root, namespace, name, rules}. */}}
{{- define "segue.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels: {{- include "segue.operator.labels" .root | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels: {{- include "segue.operator.labels" .root | nindent 4 }}
{{ include "segue.binding" (dict "root" .root "kind" "Role" "role" .name) }}
{{- end -}}
