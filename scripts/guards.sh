#!/usr/bin/env bash
# The rules that neither the compiler nor clippy knows. Each guard is a function that prints
# what breaks its rule; one that prints nothing and succeeds is ok.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

failures=0
guard() {
  local name=$1 remedy=$2 found
  shift 2
  if found=$("$@" 2>&1) && [[ ! $found ]]; then
    echo "guard ok      $name"
  else
    echo "guard FAILED  $name: $remedy"
    [[ ! $found ]] || echo "    ${found//$'\n'/$'\n    '}"
    failures=$((failures + 1))
  fi
}

# matches GREP-ARGUMENT...: grep, for which finding nothing is success.
matches() { grep "$@" || [[ $? == 1 ]]; }

# Everything that is or would be committed, but for files deleted in the work tree.
files() { git ls-files -z -co --exclude-standard -- "$@" | xargs -0r ls -d 2>/dev/null || true; }

# pure CRATE DEPENDENCY|DEPENDENCY…: the crate's normal dependency tree, all levels.
pure() {
  local tree
  tree=$(cargo tree -q -p "$1" -e normal --prefix none) || { echo "$tree"; return 1; }
  matches -E "^($2)[-_a-z]* " <<<"$tree" | sort -u
}

direct_dependencies() {
  cargo metadata -q --format-version 1 --no-deps | python3 -c '
import json, sys
ONLY_IN = {  # dependency: the crates that may name it in their Cargo.toml, for tests too
    "async-nats": {"broker-backends"},
    "fred": {"broker-backends"},
    "axum": {"gateway"},
    "clap": {"gateway", "loadtest"},
    "jsonwebtoken": {"gateway"},
    "broker-backends": {"gateway"},
    "gateway": set(),
}
FOR_TESTS = {"broker-testkit"}
for package in json.load(sys.stdin)["packages"]:
    for dependency in package["dependencies"]:
        name = dependency["name"]
        if package["name"] not in ONLY_IN.get(name, {package["name"]}):
            print(package["name"], "depends on", name)
        if name in FOR_TESTS and dependency["kind"] != "dev":
            print(package["name"], "depends on", name, "outside its tests")
'
}

file_sizes() { files '*.rs' '*.py' '*.sh' '*.ts' '*.tsx' '*.js' '*.mjs' | xargs -r wc -l | awk '$2 != "total" && $1 > 600'; }

unfinished() { files '*.rs' | xargs -r grep -nE '\b(todo|unimplemented)!' || [[ $? == 1 || $? == 123 ]]; }

machine_paths() {
  files | xargs -d '\n' grep -nIE '(^|[^[:alnum:]_./-])/(work|root|home/[a-z]+|opt/wheels)/' || [[ $? == 1 || $? == 123 ]]
}

lock_files() {
  matches -n '^source = ' Cargo.lock | matches -v '"registry+https://github.com/rust-lang/crates.io-index"'
  files '*package-lock.json' | xargs -r grep -nE '"resolved": "http' || [[ $? == 1 || $? == 123 ]]
}

# First, because cargo mends its lock file when the others call it.
guard 'lock files name no mirror' 'npm: install with --omit-lockfile-registry-resolved; cargo: crates.io only' lock_files
guard 'broker-core is pure' 'move what needs this dependency behind a trait in ports.rs' \
  pure broker-core 'tokio|axum|serde|async-nats|fred|tracing|rand'
guard 'broker-protocol is pure' 'it maps bytes to values: input and output belong in gateway' \
  pure broker-protocol 'tokio|axum|async-nats|fred'
guard 'dependencies are named where they belong' 'see the table in scripts/guards.sh' direct_dependencies
guard 'modules have no cycles' 'move what both need into a third module below them' \
  scripts/modcycle.py broker-core broker-protocol broker-backends gateway loadtest
guard 'files have at most 600 lines' 'split by purpose' file_sizes
guard 'nothing is left unfinished' 'finish it or take it out' unfinished
guard 'no path of one machine' 'name it relative to the tree' machine_paths

((failures == 0))
