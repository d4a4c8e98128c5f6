#!/usr/bin/env bash
# k8s.sh: makes k8s/ anew from the chart and k8s/values, for those who deploy without Helm.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

scripts/tools.sh python helm schemas
rm -rf k8s/base k8s/overlays
PYTHONPATH=charts/tests "$TOOLS/venv/bin/python" -m plain
