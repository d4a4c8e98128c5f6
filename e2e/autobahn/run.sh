#!/usr/bin/env bash
# run.sh [--all] [URL]: Autobahn's fuzzing client against a gateway of its own, or against the echo at URL.
# README.md says more.
set -euo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"

if [[ -e $TOOLS/autobahn.skipped ]]; then
  cat "$TOOLS/autobahn.skipped"
  exit 0
fi

work=$TOP/target/autobahn
rm -rf "$work"
mkdir -p "$work"

cases=517 # of autobahntestsuite 25.10.1
exclude=()
if [[ ${1:-} == --all ]]; then
  shift
else
  # Of the 18 sizes in each group of sections 12 and 13, the 7 longest, which take most of the time.
  for size in 9 10 14 15 16 17 18; do
    exclude+=("\"12.*.$size\"" "\"13.*.$size\"")
  done
  ((cases -= 7 * (5 + 7)))
fi

url=${1:-}
if [[ ! $url ]]; then
  read -r public admin < <(free_ports 2)
  FANFARE__TESTING__ECHO=true \
    FANFARE__LIMITS__MESSAGE_BYTES=16777216 \
    FANFARE__LIMITS__QUEUE_BYTES=67108864 \
    FANFARE__WEBSOCKET__COMPRESSION=true \
    FANFARE__WEBSOCKET__COMPRESSION_MIN_BYTES=0 \
    "${FANFARE_BIN:-target/debug/fanfare}" serve \
    --listen "127.0.0.1:$public" --admin-listen "127.0.0.1:$admin" >"$work/gateway.log" 2>&1 &
  gateway=$!
  trap 'kill "$gateway" 2>/dev/null || true; wait "$gateway" || true' EXIT
  wait_ready gateway "$gateway" "$work/gateway.log" http_ok "http://127.0.0.1:$admin/readyz"
  url=ws://127.0.0.1:$public/ws
fi

cat >"$work/spec.json" <<JSON
{
  "outdir": "$work/report",
  "servers": [{"agent": "fanfare", "url": "$url", "protocols": ["fanfare.echo"]}],
  "cases": ["*"],
  "exclude-cases": [$(IFS=,; echo "${exclude[*]-}")],
  "exclude-agent-cases": {}
}
JSON
with_python2 timeout 3600 "$TOOLS/autobahn/bin/wstest" -m fuzzingclient -s "$work/spec.json" >"$work/wstest.log" 2>&1 ||
  { tail -n 20 "$work/wstest.log" >&2; die "wstest failed; its log is $work/wstest.log"; }
python3 e2e/autobahn/check.py "$work/report/index.json" e2e/autobahn/baseline.json "$cases"
