{{/* Parts that pods share. */}}

{{/* What the restricted profile of Pod Security asks of a pod: (dict "user" 65532). */}}
{{- define "fanfare.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .user }}
runAsGroup: {{ .user }}
fsGroup: {{ .user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* And of a container. */}}
{{- define "fanfare.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where a pod may run, out of values that have nodeSelector, tolerations, affinity and
     priorityClassName. */}}
{{- define "fanfare.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "fanfare.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What the gateway's binary finds in its environment, in any pod. */}}
{{- define "fanfare.env" -}}
- name: FANFARE_CONFIG
  value: /etc/fanfare/config/fanfare.toml
{{- with .Values.auth.apiKeys }}
{{- if .existingSecret }}
- name: API_KEYS
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .key }}}
{{- end }}
{{- end }}
{{- if .Values.valkey.bundled.enabled }}
- name: FANFARE__REDIS__URL
  valueFrom:
    secretKeyRef: {name: {{ include "fanfare.valkey.secret" . }}, key: url}
{{- else if and .Values.redis.url .Values.redis.existingSecret }}
{{- $parts := splitList "://" .Values.redis.url }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .Values.redis.existingSecret }}, key: {{ .Values.redis.passwordKey }}}
- name: FANFARE__REDIS__URL
  value: {{ printf "%s://%s:$(REDIS_PASSWORD)@%s" (first $parts) .Values.redis.username (last $parts) | quote }}
{{- else if .Values.redis.url }}
- name: FANFARE__REDIS__URL
  value: {{ .Values.redis.url | quote }}
{{- else if .Values.redis.existingSecret }}
- name: FANFARE__REDIS__URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.redis.existingSecret }}, key: {{ .Values.redis.urlKey }}}
{{- end }}
{{- end }}

{{/* What only gateways find there. */}}
{{- define "fanfare.gatewayEnv" -}}
{{- if include "fanfare.clustered" . }}
- name: POD_IP
  valueFrom:
    fieldRef: {fieldPath: status.podIP}
- name: FANFARE__HTTP__INTERNAL_ADVERTISE
  value: {{ printf (ternary "[$(POD_IP)]:%d" "$(POD_IP):%d" (eq .Values.ipFamily "IPv6")) (int .Values.ports.internal) | quote }}
{{- end }}
{{- if (default dict .Values.config.telemetry).otlp_endpoint }}
- name: POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
{{- $given := false }}
{{- range .Values.extraEnv }}
{{- $given = or $given (eq .name "OTEL_RESOURCE_ATTRIBUTES") }}
{{- end }}
{{- if not $given }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: "k8s.namespace.name={{ include "fanfare.namespace" . }},k8s.deployment.name={{ include "fanfare.fullname" . }},k8s.pod.name=$(POD_NAME)"
{{- end }}
{{- end }}
{{- end }}

{{/* Files with secrets, each as `- secret: …, key: …, path: …`: one volume holds them all. */}}
{{- define "fanfare.secretFiles" -}}
{{- with include "fanfare.tokenSecret" . }}
- {secret: {{ . }}, key: {{ $.Values.auth.secretKey }}, path: auth/jwt-secret}
{{- end }}
{{- range $index, $key := .Values.auth.keys }}
- {secret: {{ $key.secret }}, key: {{ $key.key }}, path: auth/key-{{ $index }}}
{{- end }}
{{- if .Values.nats.bundled.enabled }}
- {secret: {{ include "fanfare.nats.secret" . }}, key: gateway-password, path: nats/password}
{{- else if ne .Values.nats.auth.type "none" }}
- {secret: {{ .Values.nats.auth.existingSecret }}, key: {{ .Values.nats.auth.key }}, path: nats/{{ get (dict "user" "password") .Values.nats.auth.type | default .Values.nats.auth.type }}}
{{- end }}
{{- with .Values.nats.ca }}
{{- if .existingSecret }}
- {secret: {{ .existingSecret }}, key: {{ .key }}, path: nats/ca.crt}
{{- end }}
{{- end }}
{{- with .Values.tls.existingSecret }}
- {secret: {{ . }}, key: tls.crt, path: tls/tls.crt}
- {secret: {{ . }}, key: tls.key, path: tls/tls.key}
{{- end }}
{{- range .Values.secretFiles }}
- {secret: {{ .secret }}, key: {{ .key }}, path: files/{{ .name }}}
{{- end }}
{{- end }}

{{- define "fanfare.volumes" -}}
- name: config
  configMap:
    name: {{ include "fanfare.fullname" . }}
{{- if include "fanfare.profiles" . }}
- name: profiles
  projected:
    sources:
      {{- if .Values.profiles.files }}
      - configMap: {name: {{ include "fanfare.fullname" . }}-profiles}
      {{- end }}
      {{- with .Values.profiles.existingConfigMap }}
      - configMap: {name: {{ . }}}
      {{- end }}
{{- end }}
{{- with include "fanfare.secretFiles" . | fromYamlArray }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - secret:
          name: {{ .secret }}
          items:
            - {key: {{ .key }}, path: {{ .path }}}
      {{- end }}
{{- end }}
{{- end }}

{{- define "fanfare.volumeMounts" -}}
- {name: config, mountPath: /etc/fanfare/config, readOnly: true}
{{- if include "fanfare.profiles" . }}
- {name: profiles, mountPath: /etc/fanfare/profiles, readOnly: true}
{{- end }}
{{- if include "fanfare.secretFiles" . | fromYamlArray }}
- {name: secrets, mountPath: {{ include "fanfare.secretsDir" . }}, readOnly: true}
{{- end }}
{{- end }}

{{/* File names of the profiles, as lines. */}}
{{- define "fanfare.profiles" -}}
{{- range $name, $_ := .Values.profiles.files }}
{{ $name }}.toml
{{- end }}
{{- range .Values.profiles.keys }}
{{ . }}
{{- end }}
{{- end }}
