{{/*
A pod of a fleet. Two users share it: the sidecar owns weights and pointer page, the server can only read them. What
guards that is that the hand-off directory is read-only for the server, that their users differ, and that journal,
cache, certificate and desired set are mounted by the sidecar alone.
*/}}
{{- define "segue.fleet.pod" -}}
{{- $fleet := .fleet -}}
serviceAccountName: {{ include "segue.fleet.account" . }}
automountServiceAccountToken: false
enableServiceLinks: false
# The server's preStop and drain, then the sidecar's end, and some air.
terminationGracePeriodSeconds: {{ add $fleet.server.preStopSeconds $fleet.server.drainSeconds 20 }}
{{- with $fleet.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  fsGroup: {{ $fleet.fsGroup }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- if $fleet.topologySpread.enabled }}
topologySpreadConstraints:
  {{- include "segue.spread" (dict "spread" $fleet.topologySpread "selector" (include "segue.fleet.selector" .)) | nindent 2 }}
{{- end }}
{{- with include "segue.placement" $fleet }}
{{ . }}
{{- end }}
{{- if $fleet.gpu.enabled }}
resourceClaims:
  - name: gpu
    resourceClaimTemplateName: {{ include "segue.fleet.name" . }}
{{- end }}
initContainers:
  {{- include "segue.fleet.sidecar" . | nindent 2 }}
containers:
  {{- include "segue.fleet.server" . | nindent 2 }}
volumes:
  {{- include "segue.fleet.volumes" . | nindent 2 }}
{{- end -}}

{{/* Requests and limits of one container, with the device that both share. */}}
{{- define "segue.fleet.resources" -}}
{{- include "segue.resources" . }}
{{- if .gpu }}
claims: [{name: gpu}]
{{- end }}
{{- end -}}

{{/* A native sidecar: it starts before the server, and ends after it. */}}
{{- define "segue.fleet.sidecar" -}}
{{- $sidecar := .fleet.sidecar -}}
{{- $looks := div (add $sidecar.startupSeconds 1) 2 -}}
- name: sidecar
  image: {{ include "segue.image" (dict "root" .root "image" $sidecar.image "variant" .fleet.imageVariant) }}
  imagePullPolicy: {{ $sidecar.image.pullPolicy }}
  command: [python, -m, segue_sidecar, --config, /config/sidecar.yaml, --log-format, json]
  restartPolicy: Always
  env:
    - {name: HOME, value: /tmp}
    - name: SEGUE_POD_UID
      valueFrom: {fieldRef: {fieldPath: metadata.uid}}
    - name: SEGUE_POD_NAME
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
    - name: SEGUE_POD_NAMESPACE
      valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
    {{- with $sidecar.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $sidecar.envFrom }}
  envFrom: {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - {name: segue-control, containerPort: {{ $sidecar.controlPort }}}
    - {name: sidecar-status, containerPort: {{ $sidecar.statusPort }}}
  # Passes when the pod speaks what the fleet speaks: only then is the server started.
  startupProbe:
    httpGet: {path: /readyz, port: sidecar-status}
    periodSeconds: 2
    timeoutSeconds: 2
    failureThreshold: {{ max $looks 1 }}
  readinessProbe:
    httpGet: {path: /readyz, port: sidecar-status}
    periodSeconds: 5
    timeoutSeconds: 2
  livenessProbe:
    httpGet: {path: /healthz, port: sidecar-status}
    timeoutSeconds: 5
    failureThreshold: 6
  resources:
    {{- include "segue.fleet.resources" (dict "resources" $sidecar.resources "memory" (include "segue.fleet.sidecarMemory" .) "gpu" .fleet.gpu.enabled) | nindent 4 }}
  securityContext:
    runAsUser: {{ $sidecar.uid }}
    runAsGroup: {{ $sidecar.uid }}
    {{- include "segue.container.security" . | nindent 4 }}
  volumeMounts:
    - {name: segue-sidecar-config, mountPath: /config, readOnly: true}
    - {name: segue-tls, mountPath: /tls, readOnly: true}
    - {name: segue-handoff, mountPath: /run/segue}
    - {name: segue-journal, mountPath: /journal}
    - {name: segue-cache, mountPath: /cache}
    - {name: segue-desired, mountPath: /desired, readOnly: true}
    {{- if .fleet.sharedModels.volume }}
    - {name: segue-models, mountPath: /models, readOnly: true}
    {{- end }}
    - {name: segue-sidecar-tmp, mountPath: /tmp}
    {{- with $sidecar.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "segue.fleet.server" -}}
{{- $server := .fleet.server -}}
- name: server
  image: {{ include "segue.image" (dict "root" .root "image" $server.image "variant" .fleet.imageVariant) }}
  imagePullPolicy: {{ $server.image.pullPolicy }}
  command: [python, -m, segue_server, --config, /config/server.yaml, --log-format, json]
  env:
    - {name: HOME, value: /tmp}
    {{- with $server.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - {name: http, containerPort: {{ $server.port }}}
    - {name: status, containerPort: {{ $server.statusPort }}}
  startupProbe:
    httpGet: {path: /healthz, port: status}
    periodSeconds: 2
    timeoutSeconds: 2
    failureThreshold: 60
  readinessProbe:
    httpGet: {path: /readyz, port: status}
    periodSeconds: 5
    timeoutSeconds: 2
  livenessProbe:
    httpGet: {path: /healthz, port: status}
    timeoutSeconds: 5
    failureThreshold: 6
  {{- if $server.preStopSeconds }}
  # Listeners are still sent here until every node has heard that the pod leaves.
  lifecycle:
    preStop: {sleep: {seconds: {{ $server.preStopSeconds }}}}
  {{- end }}
  resources:
    {{- include "segue.fleet.resources" (dict "resources" $server.resources "memory" (include "segue.fleet.serverMemory" .) "gpu" .fleet.gpu.enabled) | nindent 4 }}
  securityContext:
    runAsUser: {{ $server.uid }}
    runAsGroup: {{ $server.uid }}
    {{- include "segue.container.security" . | nindent 4 }}
  volumeMounts:
    - {name: segue-server-config, mountPath: /config, readOnly: true}
    - {name: segue-handoff, mountPath: /run/segue, readOnly: true}
    {{- if .fleet.keysSecret }}
    - {name: segue-keys, mountPath: /keys, readOnly: true}
    {{- end }}
    - {name: segue-server-tmp, mountPath: /tmp}
    {{- with $server.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "segue.fleet.volumes" -}}
{{- $name := include "segue.fleet.name" . -}}
- name: segue-sidecar-config
  configMap: {name: {{ $name }}, items: [{key: sidecar.yaml, path: sidecar.yaml}]}
- name: segue-server-config
  configMap: {name: {{ $name }}, items: [{key: server.yaml, path: server.yaml}]}
- name: segue-tls
  secret: {secretName: {{ include "segue.fleet.tlsSecret" . }}, defaultMode: 288}  # 0440; an octal number is not the same to every reader of YAML
- name: segue-handoff
  emptyDir: {sizeLimit: 1Mi}
- name: segue-journal
  emptyDir: {sizeLimit: 1Gi}
- name: segue-cache
  {{- if .fleet.sidecar.cacheVolume }}
  {{- toYaml .fleet.sidecar.cacheVolume | nindent 2 }}
  {{- else }}
  emptyDir: {sizeLimit: {{ include "segue.fleet.cacheLimit" . }}}
  {{- end }}
# What the fleet spoke when it was last confirmed: the operator makes those of the 32 that it needs.
- name: segue-desired
  projected:
    sources:
      {{- range $shard := until 32 }}
      - configMap: {name: segue-desired-{{ $.name }}-{{ $shard }}, optional: true}
      {{- end }}
- name: segue-sidecar-tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
- name: segue-server-tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- with .fleet.keysSecret }}
- name: segue-keys
  secret: {secretName: {{ . }}, defaultMode: 288}  # 0440; an octal number is not the same to every reader of YAML
{{- end }}
{{- with .fleet.sharedModels.volume }}
- name: segue-models
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .fleet.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
