#!/bin/bash
# Lays out below ROOT all that an installation of fleet has: packaging/layout.sh BINARIES ROOT [PREFIX]
#
# BINARIES is the directory that cargo left fleetd and fleetctl in; they are asked for their manual pages, so they have
# to run here. PREFIX is /usr unless said otherwise. The configuration that may be there is left to the caller:
# etc/fleet/fleet.conf is not among what this writes.
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: $0 BINARIES ROOT [PREFIX]" >&2; exit 2; }
binaries=$(realpath "$1") prefix=${3:-/usr}
root=$(realpath -m "$2")
root=${root%/}$prefix
umask 022
cd "$(dirname "$0")/.."
for program in fleetd fleetctl; do
    [ -x "$binaries/$program" ] || { echo "error: no $program in $binaries: build it first" >&2; exit 1; }
done

install -D -m 755 -t "$root/bin" "$binaries"/{fleetd,fleetctl}

units=$root/lib/systemd/system
install -D -m 644 -t "$units" cloud-init/{fleet,fleet-fence,fleet-cloud-config,fleet-cloud-config-units}.service cloud-init/fleet.socket
sed -i "s|/usr/bin/fleetd|$prefix/bin/fleetd|" "$units"/*.service
install -D -m 644 packaging/sysusers.conf "$root/lib/sysusers.d/fleet.conf"
install -D -m 644 packaging/polkit.rules "$root/share/polkit-1/rules.d/fleet.rules"

install -d "$root/share/man"/{man1,man5,man8}
"$binaries/fleetctl" man "$root/share/man/man1"
"$binaries/fleetd" man "$root/share/man/man8"
install -m 644 -t "$root/share/man/man5" packaging/man/fleet.conf.5
install -d "$root/share/bash-completion/completions" "$root/share/zsh/site-functions" \
    "$root/share/fish/vendor_completions.d"
"$binaries/fleetctl" completion bash >"$root/share/bash-completion/completions/fleetctl"
"$binaries/fleetctl" completion zsh >"$root/share/zsh/site-functions/_fleetctl"
"$binaries/fleetctl" completion fish >"$root/share/fish/vendor_completions.d/fleetctl.fish"

doc=$root/share/doc/fleet
install -D -m 644 -t "$doc" README.md CHANGELOG.md LICENSE docs/*.md
install -D -m 644 -t "$doc/examples/units" units/*
install -D -m 644 -t "$doc/examples" cloud-init/{fleet.conf,user-data.yaml}
cp -r --no-preserve=mode,ownership packaging/run-as-user "$doc/examples/"
