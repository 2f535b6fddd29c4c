#!/bin/sh
# Runs each fuzz target for so many seconds (default 30): scripts/fuzz.sh 60
# Only some of them: scripts/fuzz.sh 600 codecs apply
#
# Starts from fuzz/seeds/TARGET and from what earlier runs found interesting (fuzz/corpus/TARGET). A finding is
# left in fuzz/artifacts/TARGET; once it is understood and mended, it goes into fuzz/seeds/TARGET as found_WHAT, so
# that `cargo test` looks at it from then on.
set -eu

seconds=${1:-30}
[ $# -eq 0 ] || shift
cd "$(dirname "$0")/.."
tools=$(pwd)/target/tools
PATH=$tools/bin:$PATH
export PATH
# Of its own: nightly and stable builds in one folder disturb each other.
CARGO_TARGET_DIR=$(pwd)/fuzz/target
export CARGO_TARGET_DIR

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
targets=${*:-$(cargo +nightly fuzz list)}
cargo +nightly fuzz build
for target in $targets; do
    say "$target for $seconds s"
    mkdir -p "fuzz/corpus/$target"
    set -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=256 -print_final_stats=1
    if [ -f "fuzz/dictionaries/$target.dict" ]; then
        set -- "$@" -dict="fuzz/dictionaries/$target.dict"
    fi
    cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- "$@"
done
say "nothing found"
