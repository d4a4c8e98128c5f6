#!/usr/bin/env bash
# secrets.sh [NAMESPACE]: prints the Secrets of the base, with new passwords. Once for a cluster:
#   k8s/secrets.sh | kubectl create -f -
# `create`, and not `apply`: passwords that are in use are not replaced by accident.
set -euo pipefail
namespace=${1:-fanfare}

password() { openssl rand -hex 32; }

# secret NAME KEY VALUE...: a manifest; values may have several lines.
secret() {
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ntype: Opaque\ndata:\n' "$1" "$namespace"
  shift
  while (($#)); do
    printf '  %s: %s\n' "$1" "$(printf '%s' "$2" | base64 | tr -d '\n')"
    shift 2
  done
}

sum() { printf '%s' "$1" | sha256sum | cut -d ' ' -f 1; }

valkey=$(password) exporter=$(password)
acl="user default on nopass resetkeys resetchannels -@all +ping
user fanfare on #$(sum "$valkey") ~* &* +@all -@admin -flushall -flushdb -keys
user exporter on #$(sum "$exporter") resetkeys resetchannels -@all +ping +info +client|setname +slowlog|len +slowlog|get +latency|latest +latency|histogram
"

secret fanfare-auth jwt-secret "$(password)"
secret fanfare-nats gateway-password "$(password)" service-password "$(password)" route-password "$(password)"
secret fanfare-valkey users.acl "$acl" url "redis://fanfare:$valkey@fanfare-valkey:6379/0" \
  password "$valkey" exporter-password "$exporter"
