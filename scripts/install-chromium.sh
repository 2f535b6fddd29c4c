#!/bin/sh
# Installs Chromium and its driver (chromedriver), which `make browser` starts itself, without a window and on free ports.
#
#   scripts/install-chromium.sh               through the system's package manager, said aloud
#   scripts/install-chromium.sh --if-missing  does nothing where there are both already
#
# Where CHROMIUM and CHROMEDRIVER name the programs to use, they are not installed. Both must be of the same version, as
# those of one distribution are.
set -eu
. "$(dirname "$0")/packages.sh"

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

become_root || die "neither root nor sudo: install chromium and chromedriver by hand, then run this again"

install_with_apt() {
    apt_update
    # Debian's names; Ubuntu's, where they stand for a snap, which cannot be had in a container.
    apt_install chromium chromium-driver || apt_install chromium-browser chromium-chromedriver
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
