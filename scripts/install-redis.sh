#!/bin/sh
# Installs a Redis (or Valkey) server, which the tests start themselves, on free ports of their own.
#
#   scripts/install-redis.sh               through the system's package manager, said aloud
#   scripts/install-redis.sh --if-missing  does nothing where there is one already
#
# It leaves no service running or enabled, and does not touch one that was installed before. Where
# REDIS_SERVER names the program to use, nothing is installed.
set -eu
. "$(dirname "$0")/packages.sh"

# The same rule as in testkit/src/server.rs.
if [ -n "${REDIS_SERVER:-}" ]; then
    have "$REDIS_SERVER" || die "REDIS_SERVER names $REDIS_SERVER, which is not there"
    exit 0
fi
find_server() {
    command -v redis-server || command -v valkey-server
}
if [ "${1:-}" = --if-missing ] && find_server >/dev/null; then
    exit 0
fi
become_root || have brew ||
    die "neither root nor sudo: install redis-server or valkey-server by hand, then run this again"

# The first of these packages that can be installed.
first_of() {
    command=$1
    shift
    for package in "$@"; do
        # shellcheck disable=SC2086 # the command is several words
        if $command "$package"; then
            return 0
        fi
        say "$package: not to be had"
    done
    return 1
}

install_with_apt() {
    installed_before=$(dpkg-query -W -f '${Package} ' redis-server valkey-server 2>/dev/null || true)
    apt_update
    without_services first_of apt_install redis-server valkey-server || return 1
    for service in redis-server valkey-server; do
        case $installed_before in *"$service "*) continue ;; esac
        if [ -e "/etc/init.d/$service" ] || [ -e "/lib/systemd/system/$service.service" ]; then
            switch_off "$service"
        fi
    done
}

say "installing a server for the tests"
if have apt-get; then
    install_with_apt
elif have dnf; then
    first_of "run dnf install -y" redis valkey
elif have yum; then
    first_of "run yum install -y" redis valkey
elif have apk; then
    first_of "run apk add" redis valkey
elif have pacman; then
    first_of "run pacman -S --noconfirm --needed" valkey redis
elif have brew; then
    # Homebrew refuses to run as root.
    root() { "$@"; }
    first_of "run brew install" redis valkey
else
    die "no package manager that this script knows: install redis-server or valkey-server by hand"
fi || die "the installation failed: install redis-server or valkey-server by hand (see above)"

server=$(find_server) || die "the installation went well, but there is no redis-server or valkey-server on the PATH"
say "installed: $("$server" --version) ($server)"
