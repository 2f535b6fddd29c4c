# What the install scripts share. They read it; it does nothing by itself.

me=$(basename "$0" .sh)
say() { printf '%s\n' "$me: $*" >&2; }
die() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# From here on `root COMMAND` runs it as root. Fails where nobody can.
become_root() {
    if [ "$(id -u)" = 0 ]; then
        root() { "$@"; }
    elif have sudo; then
        root() { sudo "$@"; }
    else
        return 1
    fi
}

run() {
    say "running: $*"
    root "$@"
}

apt_update() {
    run apt-get update || say "apt-get update failed; going on with the lists that are here"
}

apt_install() {
    run env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# Debian's packages start a service and enable it for the next boot. The first is what policy-rc.d forbids while
# `without_services COMMAND` runs, the second is taken back by `switch_off SERVICE`.
POLICY=/usr/sbin/policy-rc.d
OUR_POLICY=
take_back_policy() {
    [ -z "$OUR_POLICY" ] || root rm -f "$POLICY"
    OUR_POLICY=
}
without_services() {
    trap take_back_policy EXIT
    trap 'exit 1' HUP INT TERM
    if [ ! -e "$POLICY" ]; then
        say "writing $POLICY for the time of the installation, so that no service starts"
        OUR_POLICY=yes
        printf '#!/bin/sh\nexit 101\n' | root tee "$POLICY" >/dev/null
        root chmod 755 "$POLICY"
    fi
    "$@" || return 1
    take_back_policy
}
switch_off() {
    say "switching the service $1 off; what needs one starts its own"
    if [ -d /run/systemd/system ]; then
        root systemctl disable --now "$1" >/dev/null 2>&1 || true
    fi
    root update-rc.d "$1" disable >/dev/null 2>&1 || true
}
