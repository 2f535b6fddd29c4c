#!/bin/sh
# Checks the model of the resize protocol (tests/model) for longer than `cargo test` does: scripts/model.sh 3000000
# generates up to so many states for each scenario. The last line says what came of it.
set -eu

states=${1:-3000000}
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

status=0
MODEL_STATES=$states "${CARGO:-cargo}" test --release --locked --test model -- --nocapture >"$log" 2>&1 || status=$?
grep -E '^(scenario|mutant) |^  |panicked|does not hold|breaks nothing|^error|^test result' "$log" || true
awk -v status="$status" '
    function value(name,    i) {
        for (i = 1; i <= NF; i++) if (index($i, name "=") == 1) return substr($i, length(name) + 2)
        return 0
    }
    /^scenario / { states += value("states"); violations += value("violations") }
    /^mutant / { mutants++; caught += value("found") }
    END {
        printf "model: states=%d violations=%d mutants_caught=%d/%d\n", states, violations, caught, mutants
        exit (status != 0 || states == 0 || mutants == 0)
    }' "$log"
