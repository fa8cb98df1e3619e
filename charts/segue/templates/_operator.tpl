{{- define "segue.operator.tlsSecret" -}}
{{- $own := .Values.operator.tlsSecret -}}
{{- if eq .Values.tls.mode "existing" -}}
{{- required "operator.tlsSecret is empty: tls.mode existing needs the name of a Secret" $own -}}
{{- else -}}
{{- printf "%s-tls" (include "segue.operator.name" .) -}}
{{- end -}}
{{- end -}}

{{- define "segue.operator.priorityClass" -}}
{{- default (ternary (include "segue.operator.name" .) "" .Values.priorityClass.create) .Values.operator.priorityClassName -}}
{{- end -}}

{{/* Every fleet that it is told of: those of this release that are shared, and those that `operator.fleets` names. */}}
{{- define "segue.operator.fleets" -}}
{{- $configured := deepCopy .Values.operator.fleets -}}
{{- range $name, $fleet := include "segue.fleets" . | fromYaml -}}
{{- $one := dict "root" $ "name" $name "fleet" $fleet -}}
{{- if hasKey $configured $name -}}
{{- fail (printf "operator.fleets.%s: this release installs a fleet of that name; use its tenants, or another name" $name) -}}
{{- end -}}
{{- if include "segue.fleet.shared" $one -}}
{{- $selector := include "segue.fleet.selector" $one | fromYaml -}}
{{- $entry := dict "namespace" $.Release.Namespace "podSelector" $selector -}}
{{- with $fleet.tenants.allowedNamespaces }}{{ $_ := set $entry "allowedNamespaces" . }}{{ end -}}
{{- with $fleet.tenants.sources }}{{ $_ := set $entry "sources" . }}{{ end -}}
{{- $_ := set $configured $name $entry -}}
{{- end -}}
{{- end -}}
{{- toYaml $configured -}}
{{- end -}}

{{/* Its configuration file. */}}
{{- define "segue.operator.config" -}}
{{- $operator := .Values.operator -}}
{{- $lease := dict "name" (include "segue.operator.name" .) "namespace" .Release.Namespace -}}
{{- $config := dict
  "adapter" "kubernetes"
  "listen" (printf "%s:8080" .Values.listenAddress)
  "lease" $lease
  "tls" (dict "cert" "/tls/tls.crt" "key" "/tls/tls.key" "ca" "/tls/ca.crt")
-}}
{{- with $operator.namespaces }}{{ $_ := set $config "namespaces" . }}{{ end -}}
{{- with include "segue.operator.fleets" . | fromYaml }}{{ $_ := set $config "fleets" . }}{{ end -}}
{{- with $operator.hooks -}}
{{- if .enabled -}}
{{- $_ := set $config "hooks" (dict "tokenFile" (printf "/hooks/%s" .tokenSecret.key) "maxBodyBytes" .maxBodyBytes "alertTtlS" .alertTtlS) -}}
{{- end -}}
{{- end -}}
{{- with $operator.prometheus -}}
{{- if .url -}}
{{- $prometheus := dict "url" .url "timeoutS" .timeoutS "intervalS" .intervalS "concurrency" .concurrency -}}
{{- if .tokenSecret.name }}{{ $_ := set $prometheus "tokenFile" (printf "/prometheus-token/%s" .tokenSecret.key) }}{{ end -}}
{{- if .caSecret.name }}{{ $_ := set $prometheus "caFile" (printf "/prometheus-ca/%s" .caSecret.key) }}{{ end -}}
{{- $_ := set $config "prometheus" $prometheus -}}
{{- end -}}
{{- end -}}
{{- with include "segue.operator.console" . | fromYaml }}{{ $_ := set $config "console" . }}{{ end -}}
{{- toYaml (mergeOverwrite (dict "logFormat" "json") (deepCopy $operator.config) $config) -}}
{{- end -}}

{{/* The console's section of it; empty: none is served. */}}
{{- define "segue.operator.console" -}}
{{- $console := .Values.operator.console -}}
{{- if $console.enabled -}}
{{- $section := dict "listen" (printf "127.0.0.1:%d" (int $console.port)) -}}
{{- if $console.tokenSecret.name }}{{ $_ := set $section "tokenFile" (printf "/console/%s" $console.tokenSecret.key) }}{{ end -}}
{{- if $console.listening -}}
{{- $ports := dict -}}
{{- range $name, $fleet := include "segue.fleets" . | fromYaml }}{{ $_ := set $ports $name (int $fleet.server.port) }}{{ end -}}
{{- $_ := set $section "speech" (dict "ports" $ports) -}}
{{- end -}}
{{- toYaml $section -}}
{{- end -}}
{{- end -}}

{{/* The Secrets that it mounts besides its certificate, as {NAME: {secret, path}}. */}}
{{- define "segue.operator.secrets" -}}
{{- $operator := .Values.operator -}}
{{- $secrets := dict "tls" (dict "secret" (include "segue.operator.tlsSecret" .) "path" "/tls") -}}
{{- if $operator.hooks.enabled -}}
{{- $_ := set $secrets "hooks" (dict "secret" $operator.hooks.tokenSecret.name "path" "/hooks") -}}
{{- end -}}
{{- if and $operator.console.enabled $operator.console.tokenSecret.name -}}
{{- $_ := set $secrets "console" (dict "secret" $operator.console.tokenSecret.name "path" "/console") -}}
{{- end -}}
{{- if and $operator.prometheus.url $operator.prometheus.tokenSecret.name -}}
{{- $_ := set $secrets "prometheus-token" (dict "secret" $operator.prometheus.tokenSecret.name "path" "/prometheus-token") -}}
{{- end -}}
{{- if and $operator.prometheus.url $operator.prometheus.caSecret.name -}}
{{- $_ := set $secrets "prometheus-ca" (dict "secret" $operator.prometheus.caSecret.name "path" "/prometheus-ca") -}}
{{- end -}}
{{- toYaml $secrets -}}
{{- end -}}
