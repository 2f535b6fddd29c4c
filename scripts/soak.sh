#!/bin/sh
# Runs the simulation (src/simulation) for so many seconds, from a seed of the clock's or the one given:
# scripts/soak.sh 600 [SEED]. A seed that fails prints the command that shows it; the last line says what came of all.
set -eu

SECONDS=${1:-30}
export SECONDS
if [ -n "${2:-}" ]; then
    SEED=$2
    export SEED
fi
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

status=0
"${CARGO:-cargo}" test --release --locked --all-features --lib simulation::tests::soak -- --nocapture >"$log" 2>&1 ||
    status=$?
grep -vE '^(running|test |failures:|successes:|$| +Compiling| +Finished| +Running)' "$log" | grep -v '^soak: seeds=' || true
grep '^soak: seeds=' "$log" || { echo "soak: nothing was run" && exit 1; }
exit "$status"
