#!/usr/bin/env bash
# cluster.sh: NATS, Redis and three gateways as local processes on free ports, until Ctrl-C.
# Data and logs are in target/cluster, and are new at every start. FANFARE_BIN names another binary.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

fanfare=${FANFARE_BIN:-target/release/fanfare}
config=scripts/cluster.toml
data=$TOP/target/cluster

[[ -x $fanfare ]] || die "$fanfare is not built: use \`make cluster\`"
rm -rf "$data"
mkdir -p "$data"

# Gateways first, so that they drain while NATS and Redis still answer.
servers=() gateways=()
# shellcheck disable=SC2317 # called by the trap
stop_all() {
  say "stopping (Ctrl-C again to kill)"
  trap 'kill -KILL "${gateways[@]}" "${servers[@]}" 2>/dev/null || true' INT TERM
  stop "${gateways[@]}"
  stop "${servers[@]}"
}
# shellcheck disable=SC2317
stop() {
  (($#)) || return 0
  kill "$@" 2>/dev/null || true
  wait "$@" 2>/dev/null || true
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME COMMAND...: as process $!, in a session of its own, so that Ctrl-C reaches only this script.
start() {
  local name=$1
  shift
  setsid "$@" >"$data/$name.log" 2>&1 &
}

read -r nats_port nats_monitor redis_port ports < <(free_ports 9)

start nats nats-server --addr 127.0.0.1 --port "$nats_port" --http_port "$nats_monitor" \
  --jetstream --store_dir "$data/jetstream"
servers+=($!)
wait_ready nats $! "$data/nats.log" http_ok "http://127.0.0.1:$nats_monitor/healthz?js-enabled-only=true"

mkdir "$data/redis"
start redis redis-server --bind 127.0.0.1 --port "$redis_port" --dir "$data/redis" --save "" --appendonly yes
servers+=($!)
wait_ready redis $! "$data/redis.log" port_open "$redis_port"

nats=nats://127.0.0.1:$nats_port redis=redis://127.0.0.1:$redis_port
urls=() publics=()
# shellcheck disable=SC2086 # the rest of the line is a list
set -- $ports
for n in 1 2 3; do
  start "gateway-$n" "$fanfare" serve --config "$config" --nats "$nats" --redis "$redis" \
    --listen "127.0.0.1:$1" --admin-listen "127.0.0.1:$2"
  gateways+=($!)
  wait_ready "gateway-$n" $! "$data/gateway-$n.log" http_ok "http://127.0.0.1:$2/readyz"
  urls+=("ws://127.0.0.1:$1/ws") publics+=("http://127.0.0.1:$1")
  echo "gateway-$n  ${urls[-1]}  admin http://127.0.0.1:$2"
  shift 2
done
token=$("$fanfare" token mint --config "$config" --user demo --ttl 1day 2>"$data/token.log")

cat <<TEXT
NATS       $nats
Redis      $redis
logs       ${data#"$TOP"/}/*.log

In another terminal, subscribe through one gateway, then publish through another:

  export FANFARE_TOKEN=$token
  $fanfare sub --server ${urls[0]} venue:42
  $fanfare pub --server ${urls[2]} venue:42 '{"open":true}'

or publish as a service, by HTTP to any gateway, or to NATS with no envelope:

  curl ${publics[1]}/v1/publish -H 'X-API-Key: cluster-demo-key' \\
    -H 'Content-Type: application/json' -d '{"channel":"venue:42","data":{"open":true}}'
  nats --server $nats pub fanfare.ch.venue.42 '{"open":true}'

What goes on in the cluster:

  curl ${publics[0]}/v1/stats -H 'X-API-Key: cluster-demo-key'

Ctrl-C stops everything.
TEXT

wait -n "${servers[@]}" "${gateways[@]}" || true
die "a process ended; the logs in $data tell why"
