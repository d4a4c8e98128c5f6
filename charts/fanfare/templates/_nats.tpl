{{/* The bundled NATS servers. */}}

{{/* Their configuration. What begins with $ comes from the environment: passwords are not in the
     ConfigMap. */}}
{{- define "fanfare.nats.conf" -}}
{{- $prefix := default "fanfare" (default dict .Values.config.nats).prefix -}}
{{- with .Values.nats.bundled -}}
server_name: $POD_NAME
port: 4222
http_port: 8222
pid_file: /run/nats/nats.pid
lame_duck_grace_period: 10s
lame_duck_duration: 30s
max_payload: {{ .maxPayload }}

jetstream {
  store_dir: /data
  max_file_store: {{ .maxFileStore }}
  max_memory_store: {{ .maxMemoryStore }}
  sync_interval: {{ .syncInterval }}
}

authorization {
  users: [
    {
      user: gateway
      password: $GATEWAY_PASSWORD
      permissions: {
        publish: ["{{ $prefix }}.>", "_INBOX.>", "$JS.API.>", "$JS.ACK.>"]
        subscribe: ["{{ $prefix }}.>", "_INBOX.>"]
      }
    }
    {
      user: service
      password: $SERVICE_PASSWORD
      permissions: {
        publish: {
          allow: ["{{ $prefix }}.ch.>", "{{ $prefix }}.api.publish", "_INBOX.>"]
          deny: ["{{ $prefix }}.ch.presence.>"]
        }
        subscribe: ["{{ $prefix }}.rq.>", "_INBOX.>"]
      }
    }
  ]
}
{{- if gt (int .replicas) 1 }}

cluster {
  name: {{ include "fanfare.fullname" $ }}
  port: 6222
  authorization { user: route, password: $ROUTE_PASSWORD }
  routes: $ROUTES
  # Gateways know the servers by name: addresses of pods change.
  no_advertise: true
}
{{- end }}
{{- end }}
{{- end }}

{{- define "fanfare.nats.container" -}}
{{- $name := printf "%s-nats" (include "fanfare.fullname" .) -}}
{{- $secret := include "fanfare.nats.secret" . -}}
{{- with .Values.nats.bundled -}}
- name: nats
  image: {{ include "fanfare.image" (list $ .image "") }}
  imagePullPolicy: {{ .image.pullPolicy }}
  command: [nats-server]
  args: [--config, /etc/nats/nats.conf]
  env:
    - name: POD_NAME
      valueFrom:
        fieldRef: {fieldPath: metadata.name}
    - {name: GOMEMLIMIT, value: {{ .goMemLimit }}}
    # Twice, and in quotes: without, NATS takes what begins with a digit for a number.
    {{- range $user := list "gateway" "service" "route" }}
    - name: {{ upper $user }}_SECRET
      valueFrom:
        secretKeyRef: {name: {{ $secret }}, key: {{ $user }}-password}
    - name: {{ upper $user }}_PASSWORD
      value: '"$({{ upper $user }}_SECRET)"'
    {{- end }}
    {{- if gt (int .replicas) 1 }}
    {{- $routes := list }}
    {{- range until (int .replicas) }}
    {{- $routes = append $routes (printf "nats://route:$(ROUTE_SECRET)@%s-%d.%s-headless:6222" $name . $name) }}
    {{- end }}
    - name: ROUTES
      value: {{ $routes | toJson | squote }}
    {{- end }}
  ports:
    - {name: client, containerPort: 4222, protocol: TCP}
    - {name: cluster, containerPort: 6222, protocol: TCP}
    - {name: monitor, containerPort: 8222, protocol: TCP}
  # Until what is stored has been read.
  startupProbe:
    httpGet: {path: /healthz, port: monitor}
    periodSeconds: 5
    failureThreshold: 120
    timeoutSeconds: 5
  livenessProbe:
    httpGet: {path: "/healthz?js-enabled-only=true", port: monitor}
    periodSeconds: 30
    failureThreshold: 3
    timeoutSeconds: 5
  readinessProbe:
    httpGet: {path: "/healthz?js-server-only=true", port: monitor}
    periodSeconds: 10
    failureThreshold: 3
    timeoutSeconds: 5
  lifecycle:
    preStop:
      # Clients are sent to the other servers first; SIGTERM is ignored from then on.
      exec: {command: [nats-server, -sl=ldm=/run/nats/nats.pid]}
  resources:
    {{- toYaml .resources | nindent 4 }}
  securityContext:
    {{- include "fanfare.containerSecurity" $ | nindent 4 }}
  volumeMounts:
    - {name: config, mountPath: /etc/nats, readOnly: true}
    - {name: pid, mountPath: /run/nats}
    - {name: data, mountPath: /data}
{{- end }}
{{- end }}
