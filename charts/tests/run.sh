#!/usr/bin/env bash
# run.sh [PYTEST-ARGUMENT]...: the tests of the chart and of what belongs to it.
set -euo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"

if [[ -e $TOOLS/charts.skipped ]]; then
  cat "$TOOLS/charts.skipped"
  exit 0
fi
exec "$TOOLS/venv/bin/python" -m pytest charts/tests "$@"
