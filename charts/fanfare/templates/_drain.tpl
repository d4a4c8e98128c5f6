{{/* How long things take, in seconds. Everything follows from the values of `drain`. */}}

{{/* From the pod's end being asked for to the last connection's end. */}}
{{- define "fanfare.drain.connections" -}}
{{- with .Values.drain -}}
{{- add .preStopSleepSeconds .delaySeconds .durationSeconds .graceSeconds -}}
{{- end -}}
{{- end }}

{{/* From SIGTERM until a drain counts as stuck. */}}
{{- define "fanfare.drain.stuck" -}}
{{- with .Values.drain -}}
{{- add .delaySeconds .durationSeconds .graceSeconds 10 -}}
{{- end -}}
{{- end }}

{{- define "fanfare.drain.whole" -}}
{{- add (include "fanfare.drain.connections" .) .Values.drain.marginSeconds -}}
{{- end }}

{{- define "fanfare.terminationGracePeriod" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- include "fanfare.drain.whole" . -}}
{{- else -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end }}

{{- define "fanfare.minReadySeconds" -}}
{{- if kindIs "invalid" .Values.rollout.minReadySeconds -}}
{{- div (add1 .Values.drain.durationSeconds) 2 -}}
{{- else -}}
{{- int .Values.rollout.minReadySeconds -}}
{{- end -}}
{{- end }}

{{/* Until a pod that was just made counts as available, at worst. */}}
{{- define "fanfare.startup" -}}
{{- add (mul .Values.probes.startup.periodSeconds .Values.probes.startup.failureThreshold) (include "fanfare.minReadySeconds" .) -}}
{{- end }}

{{/* As many pods as there can be; the Deployment's, or the autoscaler's. */}}
{{- define "fanfare.mostReplicas" -}}
{{- if include "fanfare.autoscaled" . -}}
{{- int .Values.autoscaling.maxReplicas -}}
{{- else -}}
{{- int .Values.replicas -}}
{{- end -}}
{{- end }}

{{/* How many pods an update makes at once: a share is rounded up. */}}
{{- define "fanfare.surge" -}}
{{- $surge := toString .Values.rollout.maxSurge -}}
{{- if hasSuffix "%" $surge -}}
{{- divf (mul (trimSuffix "%" $surge | atoi) (include "fanfare.mostReplicas" . | atoi)) 100 | ceil | int -}}
{{- else -}}
{{- atoi $surge -}}
{{- end -}}
{{- end }}

{{- define "fanfare.progressDeadline" -}}
{{- if kindIs "invalid" .Values.rollout.progressDeadlineSeconds -}}
{{- $waves := divf (include "fanfare.mostReplicas" .) (max 1 (include "fanfare.surge" . | atoi)) | ceil | int -}}
{{- max 600 (mul $waves (include "fanfare.startup" .)) -}}
{{- else -}}
{{- int .Values.rollout.progressDeadlineSeconds -}}
{{- end -}}
{{- end }}
