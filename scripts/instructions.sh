#!/usr/bin/env bash
# instructions.sh [--optimised] [--update]: counts, under callgrind, the instructions that one
# delivery costs on the hot path from encoding to the frame in the queue, and compares them with
# what is committed. Wall time says nothing on a busy machine; this number is the same on each.
# The build of the tests shows what a change adds as well as the optimised one, for which
# everything would have to be built once more; the latter's figures are those to quote.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

profile=test BASELINE=scripts/instructions.txt
if [[ ${1:-} == --optimised ]]; then
  profile=instructions BASELINE=scripts/instructions-optimised.txt
  shift
fi
TOLERANCE=5 # per cent: what a change of the standard library or of a dependency may move
OUT=target/instructions
# test, deliveries
CASES='one_message_to_1000_subscribers 1000
a_batch_of_64_to_1000_subscribers 64000
a_message_to_each_of_1000_channels 1000
one_message_to_1000_socketio_subscribers 1000
a_batch_of_64_to_1000_socketio_subscribers 64000'

mkdir -p "$OUT"
# All of the workspace, as other parts build it: alone, the gateway's dependencies have other features.
tests=$(cargo test ${CI:+--locked} --profile "$profile" --workspace --no-run --message-format=json-render-diagnostics |
  python3 -c 'import json, sys
print(*(m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable") and m["profile"]["test"] and m["target"]["name"] == "fanfare"))')

: >"$OUT/measured.txt"
while read -r case deliveries; do
  valgrind --tool=callgrind --callgrind-out-file="$OUT/$case.out" --collect-atstart=no \
    --toggle-collect='*fanout::instructions::measured*' --log-file="$OUT/$case.log" \
    "$tests" --ignored --exact --test-threads=1 "fanout::instructions::$case" >"$OUT/$case.stdout" ||
    { cat "$OUT/$case.stdout" "$OUT/$case.log"; exit 1; }
  instructions=$(sed -nE 's/^(summary|totals): ([0-9]+).*/\2/p' "$OUT/$case.out" | head -1)
  echo "$case $((instructions / deliveries))" >>"$OUT/measured.txt"
done <<<"$CASES"

if [[ ${1:-} == --update ]]; then
  cp "$OUT/measured.txt" "$BASELINE"
  cat "$BASELINE"
  exit
fi
python3 - "$BASELINE" "$OUT/measured.txt" "$TOLERANCE" <<'PYTHON'
import sys

def read(path):
    return {case: int(count) for case, count in (line.split() for line in open(path))}

baseline, measured, tolerance = read(sys.argv[1]), read(sys.argv[2]), int(sys.argv[3])
worse = False
print(f"{'instructions per delivery':40} {'committed':>9} {'now':>9}")
for case in sorted(baseline.keys() | measured.keys()):
    before, now = baseline.get(case), measured.get(case)
    verdict = ""
    if before is None or now is None or now == 0:
        verdict, worse = "not in both: scripts/instructions.sh --update", True
    elif now * 100 > before * (100 + tolerance):
        verdict, worse = f"more than {tolerance} % worse: say why in the commit, and --update", True
    elif now * 100 < before * (100 - tolerance):
        verdict = "better: keep it with --update"
    print(f"{case:40} {before or '-':>9} {now or '-':>9} {verdict}")
sys.exit(worse)
PYTHON
