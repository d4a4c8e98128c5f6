{{/* What values contradict each other in. All of it is said at once, one line each. */}}

{{- define "fanfare.validate" -}}
{{- $problems := list -}}
{{- range $part := list "backends" "secrets" "config" "drain" "scaling" "access" "names" -}}
{{- range include (printf "fanfare.problems.%s" $part) $ | splitList "\n" -}}
{{- $problems = append $problems (trim .) -}}
{{- end -}}
{{- end -}}
{{- with compact $problems -}}
{{- fail (printf "\n\nThese values cannot be:\n\n- %s\n" (join "\n- " .)) -}}
{{- end -}}
{{- end }}

{{- define "fanfare.problems.backends" -}}
{{- $nats := or .Values.nats.bundled.enabled .Values.nats.url -}}
{{- $redis := or .Values.valkey.bundled.enabled .Values.redis.url .Values.redis.existingSecret -}}
{{- if and .Values.nats.bundled.enabled .Values.nats.url }}
nats.url and nats.bundled.enabled are both set: for your own NATS, set nats.bundled.enabled=false
{{- end }}
{{- if and .Values.nats.bundled.enabled (ne .Values.nats.auth.type "none") }}
nats.auth is for your own NATS: with nats.bundled.enabled, give passwords by nats.bundled.existingSecret
{{- end }}
{{- if and .Values.valkey.bundled.enabled (or .Values.redis.url .Values.redis.existingSecret) }}
redis.* and valkey.bundled.enabled are both set: for your own Redis, set valkey.bundled.enabled=false
{{- end }}
{{- if and $nats (not $redis) }}
there is NATS and no Redis, and gateways need both: set redis.url or redis.existingSecret, or valkey.bundled.enabled=true
{{- end }}
{{- if and $redis (not $nats) }}
there is Redis and no NATS, and gateways need both: set nats.url or nats.bundled.enabled=true (for one gateway with everything embedded, neither)
{{- end }}
{{- if and (not $nats) (or (include "fanfare.autoscaled" .) (gt (int .Values.replicas) 1)) }}
several gateways need NATS to hear of each other's messages: set nats.url or nats.bundled.enabled=true, or replicas=1 without autoscaling
{{- end }}
{{- $replicas := int .Values.nats.bundled.replicas }}
{{- $copies := dig "history" "replicas" 0 .Values.config | int }}
{{- if and .Values.nats.bundled.enabled (gt $copies $replicas) }}
config.history.replicas is {{ $copies }}, and nats.bundled.replicas only {{ $replicas }}
{{- end }}
{{- end }}

{{- define "fanfare.problems.secrets" -}}
{{- with .Values.nats.auth }}
{{- if and (ne .type "none") (not .existingSecret) }}
nats.auth.type is {{ .type }}: nats.auth.existingSecret must name the Secret that holds it
{{- end }}
{{- if and (eq .type "user") (not .user) }}
nats.auth.type is user: nats.auth.user must say which
{{- end }}
{{- end }}
{{- range $name, $url := dict "nats.url" .Values.nats.url "redis.url" .Values.redis.url }}
{{- if contains "@" $url }}
{{ $name }} holds credentials, and would be readable in a ConfigMap: put them into a Secret
{{- end }}
{{- end }}
{{- if and .Values.redis.username (not (and .Values.redis.url .Values.redis.existingSecret)) }}
redis.username is given: redis.url and redis.existingSecret, with the password, must be too
{{- end }}
{{- include "fanfare.problems.open" (list "config" .Values.config) }}
{{- if .Values.prober.enabled }}
{{- with include "fanfare.probe.lacks" . }}
prober.enabled: there is {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Secrets that stand in the configuration itself: (list "path" $value). */}}
{{- define "fanfare.problems.open" -}}
{{- $path := index . 0 }}
{{- $value := index . 1 }}
{{- if kindIs "map" $value }}
{{- range $key, $inner := $value }}
{{- if and (has $key (list "secret" "hmac_secret" "password" "token")) (kindIs "string" $inner) }}
{{ $path }}.{{ $key }} would be readable in a ConfigMap: put it into a Secret (auth.existingSecret, auth.keys, nats.auth, secretFiles)
{{- else }}
{{- include "fanfare.problems.open" (list (printf "%s.%s" $path $key) $inner) }}
{{- end }}
{{- end }}
{{- else if kindIs "slice" $value }}
{{- range $index, $inner := $value }}
{{- include "fanfare.problems.open" (list (printf "%s[%d]" $path $index) $inner) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Options that the chart sets itself, and which of its values does. */}}
{{- define "fanfare.problems.config" -}}
{{- $owned := dict
  "http.listen" "ports.http and ipFamily"
  "http.admin_listen" "ports.admin and ipFamily"
  "http.internal_listen" "ports.internal and ipFamily"
  "http.internal_advertise" "ports.internal and ipFamily"
  "http.tls_cert" "tls.existingSecret"
  "http.tls_key" "tls.existingSecret"
  "auth.hmac_secret_file" "auth.existingSecret"
  "nats.url" "nats.url"
  "nats.user" "nats.auth"
  "nats.password_file" "nats.auth"
  "nats.token_file" "nats.auth"
  "nats.credentials_file" "nats.auth"
  "nats.ca_file" "nats.ca"
  "redis.url" "redis.url"
  "redis.url_file" "redis.existingSecret" }}
{{- range $option, $value := $owned }}
{{- $path := splitList "." $option }}
{{- if hasKey (get $.Values.config (first $path) | default dict) (last $path) }}
config.{{ $option }} is set by the chart: use {{ $value }}
{{- end }}
{{- end }}
{{- if .Values.config.drain }}
config.drain is set by the chart, and the time that pods have to end with it: use drain.*
{{- end }}
{{- if and .Values.auth.keys (default dict .Values.config.auth).keys }}
auth.keys and config.auth.keys are both set: use one of them
{{- end }}
{{- if and .Values.auth.apiKeys.existingSecret (default dict .Values.config.auth).api_keys }}
auth.apiKeys and config.auth.api_keys are both set, and gateways would take the former alone: use one of them
{{- end }}
{{- if and .Values.profiles.keys (not .Values.profiles.existingConfigMap) }}
profiles.keys are keys of profiles.existingConfigMap, which is not set
{{- end }}
{{- if and .Values.profiles.existingConfigMap (not .Values.profiles.keys) }}
profiles.keys must say which keys of profiles.existingConfigMap are profiles
{{- end }}
{{- $own := list "FANFARE_CONFIG" "FANFARE__REDIS__URL" "FANFARE__HTTP__INTERNAL_ADVERTISE" "API_KEYS" "POD_IP" "POD_NAME" "REDIS_PASSWORD" }}
{{- $seen := list }}
{{- range .Values.extraEnv }}
{{- if has .name $own }}
extraEnv: {{ .name }} is set by the chart
{{- else if has .name $seen }}
extraEnv: {{ .name }} is there twice
{{- end }}
{{- $seen = append $seen .name }}
{{- end }}
{{- end }}

{{- define "fanfare.problems.drain" -}}
{{- $whole := include "fanfare.drain.whole" . | int }}
{{- $grace := include "fanfare.terminationGracePeriod" . | int }}
{{- if lt $grace $whole }}
terminationGracePeriodSeconds is {{ $grace }}, and a drain may take {{ $whole }} (drain.preStopSleepSeconds + delaySeconds + durationSeconds + graceSeconds + marginSeconds): connections would be cut
{{- end }}
{{- $ready := include "fanfare.minReadySeconds" . | int }}
{{- if lt (mul $ready 2) (int .Values.drain.durationSeconds) }}
rollout.minReadySeconds is {{ $ready }}, under half of drain.durationSeconds ({{ .Values.drain.durationSeconds }}): more than three waves of pods would drain at once
{{- end }}
{{- $deadline := include "fanfare.progressDeadline" . | int }}
{{- $startup := include "fanfare.startup" . | int }}
{{- if lt $deadline $startup }}
rollout.progressDeadlineSeconds is {{ $deadline }}, and a pod may take {{ $startup }} until it counts (probes.startup, rollout.minReadySeconds)
{{- end }}
{{- if has (toString .Values.rollout.maxSurge) (list "0" "0%") }}
rollout.maxSurge is 0: clients of a drained pod would come back to pods that are still to be drained, and be sent on again
{{- end }}
{{- $most := dig "http" "max_connections" 0 .Values.config | int }}
{{- with .Values.drain }}
{{- if gt $most (mul .maxRate .durationSeconds) }}
config.http.max_connections is {{ $most }}, and drain.maxRate × drain.durationSeconds only {{ mul .maxRate .durationSeconds }}: a drain would take longer than drain.durationSeconds
{{- end }}
{{- if and (include "fanfare.autoscaled" $) (gt (int $.Values.autoscaling.connections) (mul .maxRate .durationSeconds | int)) }}
autoscaling.connections is {{ int $.Values.autoscaling.connections }}, and drain.maxRate × drain.durationSeconds only {{ mul .maxRate .durationSeconds }}: a drain would take longer than drain.durationSeconds
{{- end }}
{{- end }}
{{- end }}

{{- define "fanfare.problems.scaling" -}}
{{- with .Values.autoscaling }}
{{- if and .hpa.enabled .keda.enabled }}
autoscaling.hpa and autoscaling.keda are both enabled, and KEDA makes a HorizontalPodAutoscaler of its own: choose one
{{- end }}
{{- if include "fanfare.autoscaled" $ }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
autoscaling.minReplicas is {{ .minReplicas }}, and autoscaling.maxReplicas only {{ .maxReplicas }}
{{- end }}
{{- if not (or .connections .cpuPercent) }}
autoscaling has nothing to go by: set autoscaling.connections or autoscaling.cpuPercent
{{- end }}
{{- $drain := include "fanfare.drain.connections" $ | int }}
{{- if lt (int .scaleDown.periodSeconds) $drain }}
autoscaling.scaleDown.periodSeconds is {{ .scaleDown.periodSeconds }}, and a drain may take {{ $drain }}: a second gateway would go before the first one's clients are back
{{- end }}
{{- if and .cpuPercent (not (dig "requests" "cpu" "" $.Values.resources)) }}
autoscaling.cpuPercent is a share of resources.requests.cpu, which is not set
{{- end }}
{{- end }}
{{- if and .keda.enabled .connections (not .keda.serverAddress) }}
autoscaling.keda asks Prometheus for connections: autoscaling.keda.serverAddress must say where
{{- end }}
{{- end }}
{{- with .Values.monitoring }}
{{- if and .podMonitor.enabled .serviceMonitor.enabled }}
monitoring.podMonitor and monitoring.serviceMonitor are both enabled, and every pod would be scraped twice: choose one
{{- end }}
{{- end }}
{{- end }}

{{- define "fanfare.problems.access" -}}
{{- with .Values.service }}
{{- if and (eq .type "ClusterIP") (or .nodePort .externalTrafficPolicy .loadBalancerClass .loadBalancerSourceRanges) }}
service.nodePort, externalTrafficPolicy, loadBalancerClass and loadBalancerSourceRanges are for service.type NodePort or LoadBalancer
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
ingress.enabled needs ingress.hosts
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
httpRoute.enabled needs httpRoute.parentRefs: the Gateway that it belongs to
{{- end }}
{{- $ports := list (int .Values.ports.http) (int .Values.ports.admin) (int .Values.ports.internal) }}
{{- if lt (len (uniq $ports)) 3 }}
ports.http, ports.admin and ports.internal must differ
{{- end }}
{{- end }}

{{/* Names and labels that are the chart's own: Services find pods by them. */}}
{{- define "fanfare.problems.names" -}}
{{- range .Values.extraVolumes }}
{{- if has .name (list "config" "secrets" "profiles") }}
extraVolumes: {{ .name }} is a volume of the chart
{{- end }}
{{- end }}
{{- $labels := dict
  "commonLabels" .Values.commonLabels
  "podLabels" .Values.podLabels
  "service.labels" .Values.service.labels
  "httpRoute.labels" .Values.httpRoute.labels
  "prober.podLabels" .Values.prober.podLabels
  "nats.bundled.podLabels" .Values.nats.bundled.podLabels
  "valkey.bundled.podLabels" .Values.valkey.bundled.podLabels }}
{{- range $path, $given := $labels }}
{{- range $label, $_ := $given }}
{{- if regexMatch "^(app\\.kubernetes\\.io/(name|instance|component|part-of|version|managed-by)$|helm\\.sh/)" $label }}
{{ $path }}: {{ $label }} is set by the chart
{{- end }}
{{- end }}
{{- end }}
{{- end }}
