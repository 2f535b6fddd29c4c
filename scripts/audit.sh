#!/bin/sh
# Licences, sources, banned crates and known advisories, by cargo-deny (rules: deny.toml).
#
#   scripts/audit.sh           checks everything; installs cargo-deny first where it is missing
#   scripts/audit.sh --install only makes sure that cargo-deny is there
#
# The advisories live in a git repository at GitHub. Where that cannot be reached, this says so and checks the
# rest; ADVISORIES=required makes it a failure instead.
set -eu

VERSION=0.20.2 # builds with the Rust version that the workspace asks for
cd "$(dirname "$0")/.."
tools=$(pwd)/target/tools

say() { printf '%s\n' "audit: $*" >&2; }
# Nothing here may hang on a network that drops packets; not every system has `timeout`.
bounded() {
    if command -v timeout >/dev/null 2>&1; then timeout 180 "$@"; else "$@"; fi
}

PATH=$tools/bin:$PATH
export PATH
if ! cargo deny --version >/dev/null 2>&1; then
    say "cargo-deny is missing: building $VERSION from the registry into target/tools (a minute or two)"
    # It runs for a second, so compile it quickly rather than well.
    env -u CARGO_TARGET_DIR -u RUSTFLAGS \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=256 CARGO_PROFILE_RELEASE_DEBUG=false \
        cargo install --quiet --locked --root "$tools" --version "$VERSION" cargo-deny
fi
say "$(cargo deny --version)"
if [ "${1:-}" = --install ]; then
    exit 0
fi

# git must not ask for a password where a proxy answers instead of GitHub.
if GIT_TERMINAL_PROMPT=0 bounded cargo deny --log-level off fetch db; then
    cargo deny --locked check advisories bans licenses sources
else
    say "----------------------------------------------------------------------------"
    say "THE ADVISORY DATABASE CANNOT BE REACHED (https://github.com/RustSec/advisory-db):"
    say "known advisories are NOT checked; licences, bans and sources are."
    say "----------------------------------------------------------------------------"
    cargo deny --locked check bans licenses sources
    if [ "${ADVISORIES:-}" = required ]; then
        say "ADVISORIES=required, so this is a failure"
        exit 1
    fi
fi
