#!/usr/bin/env bash
# parts.sh TARGET...: makes each target in turn and ends with one summary line.
# A failed part does not hide the next one's result, unless nothing can follow it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

passed=0 skipped=0 failed=()
for part in "$@"; do
  printf '\n== %s\n' "$part"
  started=$SECONDS
  if "${MAKE:-make}" --no-print-directory --keep-going "$part"; then
    if [[ -e $TOOLS/$part.skipped ]]; then
      skipped=$((skipped + 1))
    else
      passed=$((passed + 1))
    fi
    printf '== %s: ok (%s s)\n' "$part" "$((SECONDS - started))"
  else
    failed+=("$part")
    printf '== %s: FAILED (%s s)\n' "$part" "$((SECONDS - started))"
    case $part in tools | build) break ;; esac
  fi
done

printf '\n%s s' "$SECONDS"
((${#failed[@]} == 0)) || printf ', failed: %s' "${failed[*]}"
printf '\nparts: %s passed, %s failed, %s skipped\n' "$passed" "${#failed[@]}" "$skipped"
((${#failed[@]} == 0))
