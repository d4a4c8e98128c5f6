{{/* Names, labels and images. */}}

{{- define "fanfare.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "fanfare.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end }}

{{/* Labels by which pods of one component are found: (list $ "gateway"). They can never change. */}}
{{- define "fanfare.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ default $.Chart.Name $.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of an object of one component: (list $ "gateway"). */}}
{{- define "fanfare.labels" -}}
{{- $ := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "fanfare.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: fanfare
app.kubernetes.io/managed-by: {{ $.Release.Service }}
{{- with $.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Name, namespace and labels of an object: (list $ "component" "-suffix"). */}}
{{- define "fanfare.metadata" -}}
{{- $ := index . 0 -}}
name: {{ include "fanfare.fullname" $ }}{{ index . 2 }}
namespace: {{ include "fanfare.namespace" $ }}
labels:
  {{- include "fanfare.labels" . | nindent 2 }}
{{- end }}

{{/* Labels of a pod: those of its objects but for versions, which would replace it. */}}
{{- define "fanfare.podLabels" -}}
{{- $ := index . 0 -}}
{{ include "fanfare.selector" . }}
app.kubernetes.io/part-of: fanfare
{{- with $.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Reference of an image: (list $ .Values.image "default tag"). */}}
{{- define "fanfare.image" -}}
{{- $ := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := default $image.registry $.Values.global.imageRegistry -}}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (ne $registry "") -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default (index . 2) $image.tag) -}}
{{- end -}}
{{- end }}

{{- define "fanfare.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "fanfare.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "fanfare.autoscaled" -}}
{{- if or .Values.autoscaling.hpa.enabled .Values.autoscaling.keda.enabled }}true{{ end -}}
{{- end }}

{{/* How many gateways the Deployment asks for. With an autoscaler, as many as there are: a field that
     an upgrade leaves out falls back to 1 before the autoscaler sees it. At first, and where the
     cluster cannot be asked, there is none. */}}
{{- define "fanfare.replicas" -}}
{{- if include "fanfare.autoscaled" . -}}
{{- $there := lookup "apps/v1" "Deployment" (include "fanfare.namespace" .) (include "fanfare.fullname" .) -}}
{{- with (default dict $there.spec) -}}
{{- if hasKey . "replicas" }}{{ int .replicas }}{{ end -}}
{{- end -}}
{{- else -}}
{{- .Values.replicas -}}
{{- end -}}
{{- end }}

{{/* Whether there is a cluster: else, everything is embedded in the one gateway. */}}
{{- define "fanfare.clustered" -}}
{{- if or .Values.nats.bundled.enabled .Values.nats.url }}true{{ end -}}
{{- end }}

{{/* The port of a URL: (list "redis://host:6379" 6379). */}}
{{- define "fanfare.portOf" -}}
{{- $host := (urlParse (index . 0)).host -}}
{{- if regexMatch ":[0-9]+$" $host -}}
{{- regexFind "[0-9]+$" $host -}}
{{- else -}}
{{- index . 1 -}}
{{- end -}}
{{- end }}
