{{/* The prober and `helm test`: the gateway's own binary, configured as the gateways are. */}}

{{- define "fanfare.probe.namespace" -}}
subscribe: ["role:probe"]
history: {size: 1000, ttl: 10m}
{{- end }}

{{- define "fanfare.probe.url" -}}
{{- $scheme := ternary "wss" "ws" (ne .Values.tls.existingSecret "") -}}
{{- $path := index (default (list "/ws") (default dict .Values.config.http).paths) 0 -}}
{{- printf "%s://%s.%s.svc:%d%s" $scheme (include "fanfare.fullname" .) (include "fanfare.namespace" .) (int .Values.service.port) $path -}}
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
