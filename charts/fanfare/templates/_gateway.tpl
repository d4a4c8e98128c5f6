{{/* The gateway's container, and where its pods go. */}}

{{- define "fanfare.container" -}}
- name: fanfare
  image: {{ include "fanfare.image" (list . .Values.image .Chart.AppVersion) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args:
    - serve
    {{- range include "fanfare.profiles" . | trim | splitList "\n" | compact }}
    - --profile=/etc/fanfare/profiles/{{ . }}
    {{- end }}
  env:
    {{- include "fanfare.env" . | nindent 4 }}
    {{- include "fanfare.gatewayEnv" . | trim | nindent 4 }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - {name: http, containerPort: {{ .Values.ports.http }}, protocol: TCP}
    - {name: admin, containerPort: {{ .Values.ports.admin }}, protocol: TCP}
    - {name: internal, containerPort: {{ .Values.ports.internal }}, protocol: TCP}
  startupProbe:
    httpGet: {path: /healthz, port: admin}
    {{- toYaml .Values.probes.startup | nindent 4 }}
  livenessProbe:
    httpGet: {path: /healthz, port: admin}
    {{- toYaml .Values.probes.liveness | nindent 4 }}
  readinessProbe:
    httpGet: {path: /readyz, port: admin}
    {{- toYaml .Values.probes.readiness | nindent 4 }}
  {{- if gt (int .Values.drain.preStopSleepSeconds) 0 }}
  lifecycle:
    preStop:
      # The image has no shell, and SIGTERM would end the listening before load balancers know.
      sleep: {seconds: {{ .Values.drain.preStopSleepSeconds }}}
  {{- end }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    {{- $security := include "fanfare.containerSecurity" . | fromYaml }}
    {{- toYaml (mustMergeOverwrite $security .Values.securityContext) | nindent 4 }}
  volumeMounts:
    {{- include "fanfare.volumeMounts" . | nindent 4 }}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* Each revision is spread by itself: else, an update would fill the gaps of old pods. */}}
{{- define "fanfare.topologySpread" -}}
{{- if or .Values.topologySpread.zone .Values.topologySpread.node }}
topologySpreadConstraints:
  {{- range $key, $when := dict "topology.kubernetes.io/zone" .Values.topologySpread.zone "kubernetes.io/hostname" .Values.topologySpread.node }}
  {{- if $when }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: {{ $when }}
    labelSelector:
      matchLabels:
        {{- include "fanfare.selector" (list $ "gateway") | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
  {{- end }}
{{- end }}
{{- end }}
