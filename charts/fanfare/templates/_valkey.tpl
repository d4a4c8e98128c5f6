{{/* The bundled Valkey server. */}}

{{- define "fanfare.valkey.conf" -}}
{{- with .Values.valkey.bundled -}}
port 6379
# The user that has no password may only ping.
protected-mode no
dir /data
aclfile /run/secrets/valkey/users.acl
appendonly yes
appendfsync {{ .appendFsync }}
# Everything is in the append-only file: no snapshots beside it.
save ""
maxmemory {{ .maxMemory }}
# Nothing that is stored may vanish: writes are refused instead, and gateways say so.
maxmemory-policy noeviction
# Queues of a few messages in one node each.
stream-node-max-bytes 512
timeout 0
tcp-keepalive 60
{{- end }}
{{- end }}

{{/* Users: the probes, which may only ping; gateways, who administer nothing; and the exporter, which
     sees no data. (list "gateways' password" "exporter's password") */}}
{{- define "fanfare.valkey.acl" -}}
user default on nopass resetkeys resetchannels -@all +ping
user fanfare on #{{ index . 0 | sha256sum }} ~* &* +@all -@admin -flushall -flushdb -keys
user exporter on #{{ index . 1 | sha256sum }} resetkeys resetchannels -@all +ping +info +client|setname +slowlog|len +slowlog|get +latency|latest +latency|histogram
{{ end }}

{{/* Fails where there is no answer, and with -e also where the answer is an error, as it is while data
     is being loaded. It is one on a full disk too, where a restart would lose what is in memory:
     (list "-e") or (list). */}}
{{- define "fanfare.valkey.ping" -}}
exec: {command: [{{ concat (list "valkey-cli") . (list "ping") | join ", " }}]}
timeoutSeconds: 5
{{- end }}
