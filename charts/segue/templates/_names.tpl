{{/* Names, labels and images. */}}

{{- define "segue.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 30 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 30 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "segue.operator.name" -}}
{{- printf "%s-operator" (include "segue.fullname" .) -}}
{{- end -}}

{{- define "segue.operator.account" -}}
{{- default (ternary (include "segue.operator.name" .) "default" .Values.operator.serviceAccount.create) .Values.operator.serviceAccount.name -}}
{{- end -}}

{{/* Of one fleet; takes {root, name, fleet}, as everything named segue.fleet.* does. */}}
{{- define "segue.fleet.name" -}}
{{- printf "%s-%s" (include "segue.fullname" .root) .name -}}
{{- end -}}

{{- define "segue.fleet.account" -}}
{{- $own := .fleet.serviceAccount -}}
{{- default (ternary (include "segue.fleet.name" .) "default" $own.create) $own.name -}}
{{- end -}}

{{/* What never changes for an object's life, so that it can be selected by. */}}
{{- define "segue.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "segue.operator.selector" -}}
{{ include "segue.selector" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "segue.fleet.selector" -}}
{{ include "segue.selector" .root }}
app.kubernetes.io/component: fleet
segue.dev/fleet: {{ .name }}
{{- end -}}

{{- define "segue.labels" -}}
{{ include "segue.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: segue
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "segue.operator.labels" -}}
{{ include "segue.labels" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Without the label segue.dev/fleet: it makes a *pod* one of a fleet, and is on pods alone. */}}
{{- define "segue.fleet.labels" -}}
{{ include "segue.labels" .root }}
app.kubernetes.io/component: fleet
{{- end -}}

{{/* Takes {root, image} and, for images that come with engines, {variant}: a suffix of the chart's own tag. */}}
{{- define "segue.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default (printf "%s%s" .root.Chart.AppVersion (empty .variant | ternary "" (printf "-%s" .variant))) .image.tag) -}}
{{- end -}}
{{- end -}}
