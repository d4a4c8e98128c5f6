{{/* From values to fanfare.toml. */}}

{{/* Where files with secrets are mounted in gateways. */}}
{{- define "fanfare.secretsDir" -}}/run/secrets/fanfare{{- end }}

{{/* The Secret with the key of HS256 tokens, or nothing where there is none. */}}
{{- define "fanfare.tokenSecret" -}}
{{- if .Values.auth.existingSecret -}}
{{- .Values.auth.existingSecret -}}
{{- else if include "fanfare.generatesTokenSecret" . -}}
{{- include "fanfare.fullname" . }}-auth
{{- end -}}
{{- end }}

{{/* Whether nothing else says how clients authenticate, so that the chart makes a key. */}}
{{- define "fanfare.generatesTokenSecret" -}}
{{- $auth := default dict .Values.config.auth -}}
{{- if not (or .Values.auth.existingSecret .Values.auth.keys $auth.keys $auth.jwks_url $auth.anonymous) -}}
true
{{- end -}}
{{- end }}

{{- define "fanfare.nats.secret" -}}
{{- default (printf "%s-nats" (include "fanfare.fullname" .)) .Values.nats.bundled.existingSecret -}}
{{- end }}

{{- define "fanfare.valkey.secret" -}}
{{- default (printf "%s-valkey" (include "fanfare.fullname" .)) .Values.valkey.bundled.existingSecret -}}
{{- end }}

{{/* URLs of all servers, so that a gateway finds one whichever of them is away. */}}
{{- define "fanfare.nats.url" -}}
{{- if .Values.nats.bundled.enabled -}}
{{- $name := printf "%s-nats" (include "fanfare.fullname" .) -}}
{{- $urls := list -}}
{{- range until (int .Values.nats.bundled.replicas) -}}
{{- $urls = append $urls (printf "nats://%s-%d.%s-headless:4222" $name . $name) -}}
{{- end -}}
{{- join "," $urls -}}
{{- else -}}
{{- .Values.nats.url -}}
{{- end -}}
{{- end }}

{{- define "fanfare.config.http" -}}
{{- $any := ternary "[::]" "0.0.0.0" (eq .Values.ipFamily "IPv6") -}}
listen: [{{ printf "%s:%d" $any (int .Values.ports.http) | quote }}]
admin_listen: {{ printf "%s:%d" $any (int .Values.ports.admin) | quote }}
internal_listen: {{ printf "%s:%d" $any (int .Values.ports.internal) | quote }}
{{- if .Values.tls.existingSecret }}
tls_cert: {{ include "fanfare.secretsDir" . }}/tls/tls.crt
tls_key: {{ include "fanfare.secretsDir" . }}/tls/tls.key
{{- end }}
{{- end }}

{{- define "fanfare.config.auth" -}}
{{- if include "fanfare.tokenSecret" . }}
hmac_secret_file: {{ include "fanfare.secretsDir" . }}/auth/jwt-secret
{{- end }}
{{- with .Values.auth.keys }}
keys:
  {{- range $index, $key := . }}
  - algorithm: {{ $key.algorithm }}
    {{- with $key.kid }}
    kid: {{ . | quote }}
    {{- end }}
    {{ ternary "secret_file" "public_key_file" (hasPrefix "HS" $key.algorithm) }}: {{ include "fanfare.secretsDir" $ }}/auth/key-{{ $index }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "fanfare.config.nats" -}}
{{- $dir := include "fanfare.secretsDir" . -}}
url: {{ include "fanfare.nats.url" . | quote }}
{{- if .Values.nats.bundled.enabled }}
user: gateway
password_file: {{ $dir }}/nats/password
{{- else if eq .Values.nats.auth.type "user" }}
user: {{ .Values.nats.auth.user | quote }}
password_file: {{ $dir }}/nats/password
{{- else if eq .Values.nats.auth.type "token" }}
token_file: {{ $dir }}/nats/token
{{- else if eq .Values.nats.auth.type "credentials" }}
credentials_file: {{ $dir }}/nats/credentials
{{- end }}
{{- if .Values.nats.ca.existingSecret }}
ca_file: {{ $dir }}/nats/ca.crt
{{- end }}
{{- end }}

{{- define "fanfare.config.drain" -}}
{{- with .Values.drain -}}
delay: {{ .delaySeconds }}s
duration: {{ .durationSeconds }}s
grace: {{ .graceSeconds }}s
max_rate: {{ .maxRate }}
reconnect_within: {{ .reconnectWithinSeconds }}s
{{- end }}
{{- end }}

{{/* All of it, as JSON: defaults of the chart, then `config`, then what only the chart knows. */}}
{{- define "fanfare.config" -}}
{{- $defaults := dict "reload" (dict "watch" "5s") -}}
{{- if include "fanfare.clustered" . -}}
{{- /* As long as a pod may take to start: NATS may still be given its volumes. */ -}}
{{- $startup := mul .Values.probes.startup.periodSeconds .Values.probes.startup.failureThreshold -}}
{{- $_ := set $defaults "nats" (dict "connect_within" (printf "%ds" $startup)) -}}
{{- end -}}
{{- if and .Values.nats.bundled.enabled (ge (int .Values.nats.bundled.replicas) 3) -}}
{{- $_ := set $defaults "history" (dict "replicas" 3) -}}
{{- end -}}
{{- if or .Values.prober.enabled (include "fanfare.tested" .) -}}
{{- $_ := set $defaults "namespaces" (dict "probe" (include "fanfare.probe.namespace" . | fromYaml)) -}}
{{- end -}}
{{- $own := dict
  "http" (include "fanfare.config.http" . | fromYaml)
  "auth" (include "fanfare.config.auth" . | fromYaml)
  "drain" (include "fanfare.config.drain" . | fromYaml) -}}
{{- if include "fanfare.clustered" . -}}
{{- $_ := set $own "nats" (include "fanfare.config.nats" . | fromYaml) -}}
{{- end -}}
{{- mustMergeOverwrite $defaults (deepCopy .Values.config) $own | toJson -}}
{{- end }}

{{- define "fanfare.config.checksum" -}}
{{- print (include "fanfare.config" .) (toJson .Values.profiles.files) | sha256sum -}}
{{- end }}

{{/* Helm's toToml writes whole numbers as 100.0, which is no size to a gateway; JSON's scalars are
     TOML's. (dict "path" "" "table" $table) */}}
{{- define "fanfare.toml" -}}
{{- $tables := dict -}}
{{- range $key, $value := .table -}}
{{- if kindIs "map" $value -}}
{{- $_ := set $tables $key $value -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- include "fanfare.toml.key" $key }} = {{ include "fanfare.toml.value" $value }}
{{ end -}}
{{- end -}}
{{- range $key, $table := $tables -}}
{{- $path := include "fanfare.toml.key" $key -}}
{{- with $.path -}}
{{- $path = printf "%s.%s" . $path -}}
{{- end }}
{{- $lines := include "fanfare.toml" (dict "path" $path "table" $table) -}}
{{- if not (and (hasPrefix "\n[" $lines) $table) }}
[{{ $path }}]
{{ end -}}
{{ $lines -}}
{{- end -}}
{{- end }}

{{- define "fanfare.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end }}

{{- define "fanfare.toml.value" -}}
{{- if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $key, $value := . -}}
{{- $pairs = append $pairs (printf "%s = %s" (include "fanfare.toml.key" $key) (include "fanfare.toml.value" $value)) -}}
{{- end -}}
{ {{ join ", " $pairs }} }
{{- else if kindIs "slice" . -}}
{{- $items := list -}}
{{- range . -}}
{{- $items = append $items (include "fanfare.toml.value" .) -}}
{{- end -}}
[{{ join ", " $items }}]
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end }}
