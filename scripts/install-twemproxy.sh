#!/bin/sh
# Installs twemproxy (the program `nutcracker`), which `make compare` starts itself, on a free port of its own.
#
#   scripts/install-twemproxy.sh               through the system's package manager, said aloud
#   scripts/install-twemproxy.sh --if-missing  does nothing where there is one already
#
# It leaves no service running or enabled. Where twemproxy is not to be had it says so and ends well: `make compare`
# then leaves that rival out, and says so too.
set -eu
. "$(dirname "$0")/packages.sh"
give_up() { say "$@; make compare will leave twemproxy out"; exit 0; }

# The same rule as in compare/src/servers/twemproxy.rs: Debian puts it where only root's PATH leads.
find_proxy() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nutcracker
}
if [ "${1:-}" = --if-missing ] && find_proxy >/dev/null; then
    exit 0
fi

have apt-get || give_up "no package manager that is known to have nutcracker"
become_root || give_up "neither root nor sudo, so nutcracker cannot be installed"
apt_update
without_services apt_install nutcracker || give_up "nutcracker could not be installed"
switch_off nutcracker

proxy=$(find_proxy) || give_up "the installation went well, but there is no nutcracker"
say "installed: $proxy"
