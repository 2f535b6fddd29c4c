#!/bin/sh
# Installs a Redis (or Valkey) server, which the tests start themselves, on free ports of their own.
#
#   scripts/install-redis.sh               through the system's package manager, said aloud
#   scripts/install-redis.sh --if-missing  does nothing where there is one already
#
# It leaves no service running or enabled, and does not touch one that was installed before. Where
# REDIS_SERVER names the program to use, nothing is installed.
set -eu

say() { printf '%s\n' "install-redis: $*" >&2; }
die() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

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

if [ "$(id -u)" = 0 ]; then
    root() { "$@"; }
elif have sudo; then
    root() { sudo "$@"; }
else
    root() { die "neither root nor sudo: install redis-server or valkey-server by hand, then run this again"; }
fi

run() {
    say "running: $*"
    root "$@"
}

# The first of these packages that can be installed.
first_of() {
    command=$1
    shift
    for package in "$@"; do
        # shellcheck disable=SC2086 # the command is several words
        if run $command "$package"; then
            return 0
        fi
        say "$package: not to be had"
    done
    return 1
}

# Debian's package starts a service on port 6379 and enables it for the next boot. The first is what
# policy-rc.d forbids, the second is taken back.
POLICY=/usr/sbin/policy-rc.d
OUR_POLICY=
take_back_policy() {
    [ -z "$OUR_POLICY" ] || root rm -f "$POLICY"
    OUR_POLICY=
}
install_with_apt() {
    installed_before=$(dpkg-query -W -f '${Package} ' redis-server valkey-server 2>/dev/null || true)
    run apt-get update || say "apt-get update failed; going on with the lists that are here"
    trap take_back_policy EXIT
    trap 'exit 1' HUP INT TERM
    if [ ! -e "$POLICY" ]; then
        say "writing $POLICY for the time of the installation, so that no service starts"
        OUR_POLICY=yes
        printf '#!/bin/sh\nexit 101\n' | root tee "$POLICY" >/dev/null
        root chmod 755 "$POLICY"
    fi
    first_of "env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends" \
        redis-server valkey-server || return 1
    take_back_policy
    for service in redis-server valkey-server; do
        case $installed_before in *"$service "*) continue ;; esac
        if [ -e "/etc/init.d/$service" ] || [ -e "/lib/systemd/system/$service.service" ]; then
            say "switching the service $service off; the tests start their own servers"
            if [ -d /run/systemd/system ]; then
                root systemctl disable --now "$service" >/dev/null 2>&1 || true
            fi
            root update-rc.d "$service" disable >/dev/null 2>&1 || true
        fi
    done
}

say "installing a server for the tests"
if have apt-get; then
    install_with_apt
elif have dnf; then
    first_of "dnf install -y" redis valkey
elif have yum; then
    first_of "yum install -y" redis valkey
elif have apk; then
    first_of "apk add" redis valkey
elif have pacman; then
    first_of "pacman -S --noconfirm --needed" valkey redis
elif have brew; then
    # Homebrew refuses to run as root.
    root() { "$@"; }
    first_of "brew install" redis valkey
else
    die "no package manager that this script knows: install redis-server or valkey-server by hand"
fi || die "the installation failed: install redis-server or valkey-server by hand (see above)"

server=$(find_server) || die "the installation went well, but there is no redis-server or valkey-server on the PATH"
say "installed: $("$server" --version) ($server)"
