{{/*
All fleets by name, each complete: what an entry of `fleets` does not say, it takes from `fleet`. Not so its certificate,
which has the fleet's name in it.
*/}}
{{- define "segue.fleets" -}}
{{- $fleets := dict -}}
{{- if .Values.fleet.enabled -}}
{{- $_ := set $fleets "default" (deepCopy .Values.fleet) -}}
{{- end -}}
{{- range $name, $own := .Values.fleets -}}
{{- $fleet := mergeOverwrite (deepCopy $.Values.fleet) (dict "enabled" true "tlsSecret" "") (deepCopy (default dict $own)) -}}
{{- if dig "sidecar" "cacheVolume" dict $own -}}
{{- $_ := set $fleet.sidecar "cacheVolume" (deepCopy $own.sidecar.cacheVolume) -}}
{{- end -}}
{{- range $key := list "engines" "volume" -}}
{{- with dig "sharedModels" $key dict (default dict $own) -}}
{{- $_ := set $fleet.sharedModels $key (deepCopy .) -}}
{{- end -}}
{{- end -}}
{{- if $fleet.enabled -}}
{{- include "segue.fleet.check" (dict "name" $name "fleet" $fleet "root" $) -}}
{{- $_ := set $fleets $name $fleet -}}
{{- end -}}
{{- end -}}
{{- if hasKey $fleets "default" -}}
{{- include "segue.fleet.check" (dict "name" "default" "fleet" (get $fleets "default") "root" $) -}}
{{- end -}}
{{- toYaml $fleets -}}
{{- end -}}

{{/* What a schema cannot say, because it is about two values, or about one that is inherited. */}}
{{- define "segue.fleet.check" -}}
{{- $path := ternary "fleet" (printf "fleets.%s" .name) (eq .name "default") -}}
{{- if eq (int .fleet.server.uid) (int .fleet.sidecar.uid) -}}
{{- fail (printf "%s.server.uid and %s.sidecar.uid are both %d: they must differ, or a worker could write the pointer page" $path $path (int .fleet.server.uid)) -}}
{{- end -}}
{{- if and .fleet.autoscaling.enabled .fleet.keda.enabled -}}
{{- fail (printf "%s.autoscaling.enabled and %s.keda.enabled are both true: two autoscalers would fight" $path $path) -}}
{{- end -}}
{{- if and .fleet.keda.enabled (not .fleet.keda.serverAddress) -}}
{{- fail (printf "%s.keda.serverAddress is empty: KEDA has to ask a Prometheus" $path) -}}
{{- end -}}
{{- range $kind := list "autoscaling" "keda" -}}
{{- $scaling := get $.fleet $kind -}}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- fail (printf "%s.%s.minReplicas (%d) is more than maxReplicas (%d)" $path $kind (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if and (eq .root.Values.tls.mode "existing") (not .fleet.tlsSecret) -}}
{{- fail (printf "%s.tlsSecret is empty: tls.mode existing needs the name of a Secret" $path) -}}
{{- end -}}
{{- $ports := list .fleet.server.port .fleet.server.statusPort .fleet.sidecar.controlPort .fleet.sidecar.statusPort -}}
{{- $tls := .root.Values.tls -}}
{{- if and (not .root.Values.operator.enabled) (or (eq $tls.mode "chart") (and (eq $tls.mode "certManager") (not $tls.certManager.issuerRef))) -}}
{{- fail (printf "tls.mode %s makes an authority of this release's own, which an operator of another release does not know: with operator.enabled false, set certManager with tls.certManager.issuerRef, or existing" $tls.mode) -}}
{{- end -}}
{{- $seen := .root.Values.operator.namespaces -}}
{{- $shared := include "segue.fleet.shared" . -}}
{{- if and .root.Values.operator.enabled $seen (not $shared) (not (has .root.Release.Namespace $seen)) -}}
{{- fail (printf "operator.namespaces lacks %s, where %s is: name it, or let other namespaces use the fleet by its tenants" .root.Release.Namespace $path) -}}
{{- end -}}
{{- if lt (len (uniq $ports)) 4 -}}
{{- fail (printf "%s: server.port, server.statusPort, sidecar.controlPort and sidecar.statusPort must be four different ports: one network, one pod" $path) -}}
{{- end -}}
{{- end -}}

{{- define "segue.fleet.tlsSecret" -}}
{{- ternary .fleet.tlsSecret (printf "%s-tls" (include "segue.fleet.name" .)) (eq .root.Values.tls.mode "existing") -}}
{{- end -}}

{{/* Secret to host name, for every sidecar pair that is made here: fleets of this release, and those of `tls.fleets`. */}}
{{- define "segue.fleet.pairs" -}}
{{- $pairs := dict -}}
{{- range $name, $fleet := include "segue.fleets" . | fromYaml -}}
{{- $secret := include "segue.fleet.tlsSecret" (dict "root" $ "name" $name "fleet" $fleet) -}}
{{- $_ := set $pairs $secret (printf "%s.%s.sidecar.segue.dev" $name $.Release.Namespace) -}}
{{- end -}}
{{- range $name := .Values.tls.fleets -}}
{{- $secret := printf "%s-tls" (include "segue.fleet.name" (dict "root" $ "name" $name)) -}}
{{- $_ := set $pairs $secret (printf "%s.%s.sidecar.segue.dev" $name $.Release.Namespace) -}}
{{- end -}}
{{- toYaml $pairs -}}
{{- end -}}

{{/* Whether the operator is told of the fleet: then its name is one for all namespaces, else one of this namespace. */}}
{{- define "segue.fleet.shared" -}}
{{- if or .fleet.tenants.allowedNamespaces .fleet.tenants.sources }}true{{ end -}}
{{- end -}}

{{/*
How many pods; empty where an autoscaler says. At the upgrade that switches one on, helm still owns the number: to leave it
out then would take it back to one pod. So the number of that moment stays, until the autoscaler has set one.
*/}}
{{- define "segue.fleet.replicas" -}}
{{- if or .fleet.autoscaling.enabled .fleet.keda.enabled -}}
{{- $live := lookup "apps/v1" "Deployment" .root.Release.Namespace (include "segue.fleet.name" .) -}}
{{- $kept := "" -}}
{{- range $owner := dig "metadata" "managedFields" list $live -}}
{{- if and (eq $owner.manager "helm") (hasKey (dig "fieldsV1" "f:spec" dict $owner) "f:replicas") -}}
{{- $kept = int $live.spec.replicas -}}
{{- end -}}
{{- end -}}
{{- $kept -}}
{{- else -}}
{{- .fleet.replicas -}}
{{- end -}}
{{- end -}}

{{/* Bytes of the shared models; 0 where none are named. */}}
{{- define "segue.fleet.modelBytes" -}}
{{- ternary (include "segue.bytes" .fleet.sharedModels.memory) "0" (gt (len .fleet.sharedModels.engines) 0) -}}
{{- end -}}

{{/*
The fetched files, and two that are just coming; the prepared parts, and one that is being written; shared models, which
are kept beside them.
*/}}
{{- define "segue.fleet.cacheLimit" -}}
{{- $sidecar := .fleet.sidecar -}}
{{- $largest := include "segue.bytes" $sidecar.largestFile | int64 -}}
{{- $kept := add (include "segue.bytes" $sidecar.cacheSize | int64) (include "segue.bytes" $sidecar.preparedSize | int64) -}}
{{- include "segue.mebibytes" (add $kept (mul 3 $largest) (include "segue.fleet.modelBytes" . | int64)) -}}
{{- end -}}

{{/* What arenas may take: the budget of voices, and the shared models. */}}
{{- define "segue.fleet.poolBudget" -}}
{{- $models := include "segue.fleet.modelBytes" . | int64 -}}
{{- if $models -}}
{{- include "segue.mebibytes" (add (include "segue.bytes" .fleet.sidecar.budget | int64) $models) -}}
{{- else -}}
{{- .fleet.sidecar.budget -}}
{{- end -}}
{{- end -}}

{{/*
Budget, what a child holds while it reads and prepares (two of the largest file, or all shared models and the file that it
reads), and 512Mi for the process and its children.
*/}}
{{- define "segue.fleet.sidecarMemory" -}}
{{- $largest := include "segue.bytes" .fleet.sidecar.largestFile | int64 -}}
{{- $models := include "segue.fleet.modelBytes" . | int64 -}}
{{- $budget := include "segue.bytes" (include "segue.fleet.poolBudget" .) | int64 -}}
{{- include "segue.mebibytes" (add $budget (max (mul 2 $largest) (add $models $largest)) 536870912) -}}
{{- end -}}

{{/* Workers, result cache, and 256Mi for the supervisor. Weights are the sidecar's memory and not the server's. */}}
{{- define "segue.fleet.serverMemory" -}}
{{- $server := .fleet.server -}}
{{- $workers := mul (int64 $server.workers) (include "segue.bytes" $server.workerMemory | int64) -}}
{{- include "segue.mebibytes" (add $workers (include "segue.bytes" $server.resultCache | int64) 268435456) -}}
{{- end -}}

{{/* The sidecar's configuration file; who the pod is comes from the environment. */}}
{{- define "segue.fleet.sidecarConfig" -}}
{{- $fleet := .fleet -}}
{{- $sidecar := $fleet.sidecar -}}
{{- $config := dict
  "pod" (dict "fleet" .name "deviceClass" $fleet.device.class)
  "controlListen" (printf "%s:%d" .root.Values.listenAddress (int $sidecar.controlPort))
  "statusListen" (printf "%s:%d" .root.Values.listenAddress (int $sidecar.statusPort))
  "tls" (dict "directory" "/tls")
  "handoffDirectory" "/run/segue"
  "serverUids" (list $fleet.server.uid)
  "journalDirectory" "/journal"
  "cacheDirectory" "/cache"
  "desiredDirectory" "/desired"
  "pool" (dict "budgetBytes" (include "segue.fleet.poolBudget" .))
  "limits" (dict "fileBytes" $sidecar.largestFile "cacheBytes" $sidecar.cacheSize)
  "tiers" (dict "diskBytes" $sidecar.preparedSize "waitS" (dig "timeouts" "coldStartS" 5 $fleet.server.config))
-}}
{{- range $key := list "sources" "trustedKeys" "engines" -}}
{{- with get $fleet $key }}{{ $_ := set $config $key . }}{{ end -}}
{{- end -}}
{{- with $fleet.sharedModels.engines }}{{ $_ := set $config "sharedModels" . }}{{ end -}}
{{- toYaml (mergeOverwrite (deepCopy $sidecar.config) $config) -}}
{{- end -}}

{{/* The server's configuration file. */}}
{{- define "segue.fleet.serverConfig" -}}
{{- $fleet := .fleet -}}
{{- $server := $fleet.server -}}
{{- $config := dict
  "listen" (printf "%s:%d" .root.Values.listenAddress (int $server.port))
  "statusListen" (printf "%s:%d" .root.Values.listenAddress (int $server.statusPort))
  "workers" $server.workers
  "threads" $server.threads
  "device" $fleet.device.name
  "socketDir" "/run/segue"
  "cacheBytes" (include "segue.bytes" $server.resultCache | int64)
  "drainSeconds" $server.drainSeconds
-}}
{{- with $fleet.engines }}{{ $_ := set $config "engines" . }}{{ end -}}
{{- if $fleet.keysSecret }}{{ $_ := set $config "keysFile" "/keys/keys.yaml" }}{{ end -}}
{{- if not $server.config.defaultNamespace }}{{ $_ := set $config "defaultNamespace" .root.Release.Namespace }}{{ end -}}
{{- toYaml (mergeOverwrite (deepCopy $server.config) $config) -}}
{{- end -}}
