{{/* The prober and `helm test`: the gateway's own binary, configured as the gateways are. */}}

{{- define "fanfare.probe.namespace" -}}
subscribe: ["role:probe"]
history: {size: 1000, ttl: 10m}
{{- end }}

{{/* Why there can be no probe, or nothing. */}}
{{- define "fanfare.probe.lacks" -}}
{{- $keys := list -}}
{{- range .Values.auth.keys -}}
{{- $keys = append $keys (hasPrefix "HS" .algorithm) -}}
{{- end -}}
{{- if not (or (include "fanfare.tokenSecret" .) (has true $keys) .Values.prober.tokenSecret) -}}
no HS key to make a token with: give a token by prober.tokenSecret
{{- else if not (or (include "fanfare.clustered" .) .Values.prober.apiKeySecret) -}}
no NATS to publish over: give an API key by prober.apiKeySecret
{{- end -}}
{{- end }}

{{- define "fanfare.tested" -}}
{{- if and .Values.tests.enabled (not (include "fanfare.probe.lacks" .)) }}true{{ end -}}
{{- end }}

{{/* Where clients find gateways in the cluster: (list $ "ws" "/path"). */}}
{{- define "fanfare.clientUrl" -}}
{{- $ := index . 0 -}}
{{- $tls := ternary "s" "" (ne $.Values.tls.existingSecret "") -}}
{{- printf "%s%s://%s.%s.svc:%d%s" (index . 1) $tls (include "fanfare.fullname" $) (include "fanfare.namespace" $) (int $.Values.service.port) (index . 2) -}}
{{- end }}

{{- define "fanfare.probe.args" -}}
- probe
{{- range .Values.prober.servers | default (list (include "fanfare.probe.url" .)) }}
- --server={{ . }}
{{- end }}
{{- if .Values.prober.apiKeySecret }}
- --api={{ include "fanfare.clientUrl" (list . "http" "") }}
{{- end }}
{{- end }}

{{- define "fanfare.probe.url" -}}
{{- include "fanfare.clientUrl" (list . "ws" (include "fanfare.path" .)) -}}
{{- end }}

{{/* A path where the native protocol is spoken. */}}
{{- define "fanfare.path" -}}
{{- index (default (list "/ws") (default dict .Values.config.http).paths) 0 -}}
{{- end }}

{{- define "fanfare.probe.pod" -}}
serviceAccountName: {{ include "fanfare.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with include "fanfare.pullSecrets" . | trim }}
{{- . | nindent 0 }}
{{- end }}
securityContext:
  {{- include "fanfare.podSecurity" (dict "user" 65532) | nindent 2 }}
{{- with include "fanfare.scheduling" (pick .Values "nodeSelector" "tolerations") | trim }}
{{- . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "fanfare.probe.container" -}}
image: {{ include "fanfare.image" (list . .Values.image .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- include "fanfare.env" . | nindent 2 }}
  {{- with .Values.prober.apiKeySecret }}
  - name: FANFARE_API_KEY
    valueFrom:
      secretKeyRef: {name: {{ . }}, key: api-key}
  {{- end }}
  {{- with .Values.prober.tokenSecret }}
  - name: FANFARE_TOKEN
    valueFrom:
      secretKeyRef: {name: {{ . }}, key: token}
  {{- end }}
securityContext:
  {{- include "fanfare.containerSecurity" . | nindent 2 }}
volumeMounts:
  {{- include "fanfare.volumeMounts" . | nindent 2 }}
{{- end }}
