#!/bin/sh
# Runs each fuzz target for so many seconds (default 30): scripts/fuzz.sh 60
set -eu

seconds=${1:-30}
cd "$(dirname "$0")/.."
tools=$(pwd)/target/tools
PATH=$tools/bin:$PATH
export PATH

say() { printf '%s\n' "fuzz: $*" >&2; }

if [ ! -f fuzz/Cargo.toml ]; then
    say "there are no fuzz targets here"
    exit 0
fi
if ! cargo +nightly --version >/dev/null 2>&1; then
    say "needs a nightly toolchain: rustup toolchain install nightly"
    exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    say "cargo-fuzz is missing: building it from the registry into target/tools"
    env -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$tools" cargo-fuzz
fi
targets=$(cargo +nightly fuzz list)
for target in $targets; do
    say "$target for $seconds s"
    cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -rss_limit_mb=2048
done
say "nothing found"
