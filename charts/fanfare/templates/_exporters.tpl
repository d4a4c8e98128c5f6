{{/* Sidecars that translate what NATS and Valkey say of themselves for Prometheus. */}}

{{- define "fanfare.exporter" -}}
{{- $ := index . 0 -}}
{{- $exporter := index . 1 -}}
- name: exporter
  image: {{ include "fanfare.image" (list $ $exporter.image "") }}
  imagePullPolicy: {{ $exporter.image.pullPolicy }}
  {{- with index . 3 }}
  args:
    {{- range . }}
    - {{ . }}
    {{- end }}
  {{- end }}
  {{- with index . 4 }}
  env:
    {{- . | nindent 4 }}
  {{- end }}
  ports:
    - {name: metrics, containerPort: {{ index . 2 }}, protocol: TCP}
  resources:
    {{- toYaml $exporter.resources | nindent 4 }}
  securityContext:
    {{- include "fanfare.containerSecurity" $ | nindent 4 }}
{{- end }}

{{/* The prefix is what dashboards and alerts expect. */}}
{{- define "fanfare.nats.exporter" -}}
{{- $args := list "-port=7777" "-prefix=nats" "-use_internal_server_id" "-varz" "-connz" "-routez" "-subz" "-healthz" "-jsz=all" "http://127.0.0.1:8222" -}}
{{- include "fanfare.exporter" (list . .Values.nats.bundled.exporter 7777 $args "") -}}
{{- end }}

{{- define "fanfare.valkey.exporter" -}}
{{- include "fanfare.exporter" (list . .Values.valkey.bundled.exporter 9121 (list "--config-command=-") (include "fanfare.valkey.exporter.env" .)) -}}
{{- end }}

{{- define "fanfare.valkey.exporter.env" -}}
- {name: REDIS_ADDR, value: "redis://127.0.0.1:6379"}
- {name: REDIS_USER, value: exporter}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ include "fanfare.valkey.secret" . }}, key: exporter-password}
{{- end }}
