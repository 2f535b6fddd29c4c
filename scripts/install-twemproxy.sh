#!/bin/sh
# Installs twemproxy (the program `nutcracker`), which `make compare` starts itself, on a free port of its own.
#
#   scripts/install-twemproxy.sh               through the system's package manager, said aloud
#   scripts/install-twemproxy.sh --if-missing  does nothing where there is one already
#
# It leaves no service running or enabled. Where twemproxy is not to be had it says so and ends well: `make compare`
# then leaves that rival out, and says so too.
set -eu

say() { printf '%s\n' "install-twemproxy: $*" >&2; }
give_up() { say "$@; make compare will leave twemproxy out"; exit 0; }
have() { command -v "$1" >/dev/null 2>&1; }

# The same rule as in compare/src/servers/twemproxy.rs: Debian puts it where only root's PATH leads.
find_proxy() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nutcracker
}
if [ "${1:-}" = --if-missing ] && find_proxy >/dev/null; then
    exit 0
fi

have apt-get || give_up "no package manager that is known to have nutcracker"
if [ "$(id -u)" = 0 ]; then
    root() { "$@"; }
elif have sudo; then
    root() { sudo "$@"; }
else
    give_up "neither root nor sudo, so nutcracker cannot be installed"
fi

run() {
    say "running: $*"
    root "$@"
}

# Debian's package starts a service and enables it for the next boot. The first is what policy-rc.d forbids, the
# second is taken back.
POLICY=/usr/sbin/policy-rc.d
OUR_POLICY=
take_back_policy() {
    [ -z "$OUR_POLICY" ] || root rm -f "$POLICY"
    OUR_POLICY=
}

run apt-get update || say "apt-get update failed; going on with the lists that are here"
trap take_back_policy EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e "$POLICY" ]; then
    say "writing $POLICY for the time of the installation, so that no service starts"
    OUR_POLICY=yes
    printf '#!/bin/sh\nexit 101\n' | root tee "$POLICY" >/dev/null
    root chmod 755 "$POLICY"
fi
run env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nutcracker ||
    give_up "nutcracker could not be installed"
take_back_policy
say "switching the service nutcracker off; the comparison starts its own"
if [ -d /run/systemd/system ]; then
    root systemctl disable --now nutcracker >/dev/null 2>&1 || true
fi
root update-rc.d nutcracker disable >/dev/null 2>&1 || true

proxy=$(find_proxy) || give_up "the installation went well, but there is no nutcracker"
say "installed: $proxy"
