#!/bin/sh
# Installs Chromium and its driver (chromedriver), which `make browser` starts itself, without a window and on free ports.
#
#   scripts/install-chromium.sh               through the system's package manager, said aloud
#   scripts/install-chromium.sh --if-missing  does nothing where there are both already
#
# Where CHROMIUM and CHROMEDRIVER name the programs to use, they are not installed. Both must be of the same version, as
# those of one distribution are.
set -eu

say() { printf '%s\n' "install-chromium: $*" >&2; }
die() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# The same rules as in examples/shop/tests/browser/programs.rs.
PATH=$PATH:/usr/lib/chromium:/usr/lib/chromium-browser:/usr/lib64/chromium-browser
find_browser() {
    if [ -n "${CHROMIUM:-}" ]; then
        command -v "$CHROMIUM" || die "CHROMIUM names $CHROMIUM, which is not there"
    else
        command -v chromium || command -v chromium-browser ||
            command -v google-chrome || command -v google-chrome-stable
    fi
}
find_driver() {
    if [ -n "${CHROMEDRIVER:-}" ]; then
        command -v "$CHROMEDRIVER" || die "CHROMEDRIVER names $CHROMEDRIVER, which is not there"
    else
        command -v chromedriver
    fi
}
if [ "${1:-}" = --if-missing ] && find_browser >/dev/null && find_driver >/dev/null; then
    exit 0
fi

if [ "$(id -u)" = 0 ]; then
    root() { "$@"; }
elif have sudo; then
    root() { sudo "$@"; }
else
    root() { die "neither root nor sudo: install chromium and chromedriver by hand, then run this again"; }
fi

run() {
    say "running: $*"
    root "$@"
}

install_with_apt() {
    run apt-get update || say "apt-get update failed; going on with the lists that are here"
    # Debian's names; Ubuntu's, where they stand for a snap, which cannot be had in a container.
    run env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium chromium-driver ||
        run env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
            chromium-browser chromium-chromedriver
}

say "installing a browser and its driver for the browser test"
if have apt-get; then
    install_with_apt
elif have dnf; then
    run dnf install -y chromium chromedriver
elif have apk; then
    run apk add chromium chromium-chromedriver
elif have pacman; then
    run pacman -S --noconfirm --needed chromium
elif have zypper; then
    run zypper --non-interactive install chromium chromedriver
else
    die "no package manager that this script knows: install chromium and chromedriver by hand"
fi || die "the installation failed: install chromium and chromedriver by hand (see above)"

browser=$(find_browser) || die "the installation went well, but there is no chromium on the PATH"
driver=$(find_driver) || die "the installation went well, but there is no chromedriver on the PATH"
say "installed: $("$browser" --version 2>/dev/null) ($browser)"
say "installed: $("$driver" --version 2>/dev/null) ($driver)"
