#!/bin/bash
# Shows what fleet does, on three real systemd hosts with docker and etcd, on this machine. `make demo` builds first.
#
# Everything is removed at the end, however it ends. Labs that are there already are not touched.
# BIN is where the programs are (target/debug), SUBNET the K of 10.82.K.0/24 (the first free from 70).
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-target/debug}

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; fi
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
fail() { printf 'error: %s\n' "$1" >&2; exit 1; }

root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "the hosts of the demo need root: run it as root, or install sudo"
    # Asks for the password now, not in the middle.
    sudo -v || fail "the hosts of the demo need root, and sudo refused it"
    root=(sudo)
fi
for program in fleetd fleetctl fleet-lab; do
    [ -x "$bin/$program" ] || fail "there is no $bin/$program: run \`make demo\`, which builds it"
done

free_subnet() {
    for ((k = 70; k < 100; k++)); do
        [ -e /var/lib/fleet-lab/$k ] || [ -e /sys/class/net/fleet-lab$k ] || { echo $k; return; }
    done
    fail "the subnets 70 to 99 all have labs: remove one with \`fleet-lab down --subnet K\`"
}
subnet=${SUBNET:-$(free_subnet)}
[ ! -e "/var/lib/fleet-lab/$subnet" ] || fail "there is a lab on subnet $subnet: choose another with SUBNET=K"

lab() { "${root[@]}" "$bin/fleet-lab" --subnet "$subnet" "$@"; }

begin=$SECONDS
# A trap inherits the redirection of what it interrupts.
exec 3>&1 4>&2
clean_up() {
    local code=$?
    exec >&3 2>&4
    trap '' INT TERM
    say "Cleaning up: hosts, etcd, network and files of the demo go"
    lab down || code=1
    case $code in
        0) echo "done, $((SECONDS - begin)) s in all" ;;
        130 | 143) echo "interrupted" >&2 ;;
        *) echo "the demo failed" >&2 ;;
    esac
    exit $code
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The host on which fleetctl is run: any will do.
host=h1
fleetctl() { lab exec "$host" -- fleetctl "$@"; }
# The same, shown the way a person would type it.
show() { printf '%s$ fleetctl %s\n' "$host" "${*//\/root\/}"; fleetctl "$@"; }

# Asks until the answer is yes: shows how long that took, gives up after a minute.
wait_for() {
    local what=$1 start=${EPOCHREALTIME//[!0-9]/} took=0; shift
    until "$@" >/dev/null 2>&1; do
        ((took < 600)) || fail "$what: not within 60 s"
        sleep 0.2
        took=$(((${EPOCHREALTIME//[!0-9]/} - start) / 100000))
    done
    took=$(((${EPOCHREALTIME//[!0-9]/} - start) / 100000))
    printf '%s: after %d.%d s\n' "$what" $((took / 10)) $((took % 10))
}

address_of() { echo "10.82.$subnet.1${1#h}"; }
members() { [ "$(fleetctl list-machines --no-legend | wc -l)" = "$1" ]; }
# Units on a host: `10.82.K.13` at the end of a line is h3.
units_on() { fleetctl list-unit-files --no-legend --fields=unit,target | grep -F "/$(address_of "$1")" | cut -f1; }
host_of() {
    local line
    line=$(fleetctl list-unit-files --no-legend --fields=unit,target | grep -F "$1")
    echo "h${line##*.1}"
}
active() { fleetctl list-units --no-legend --fields=active,machine,unit | grep -v -F "/$(address_of "$dead")" | grep -q "^active.*[[:space:]]$1\$"; }
all_active() { local unit; for unit in "$@"; do active "$unit" || return; done; }
page() { lab exec "$1" -- curl --silent --fail --max-time 2 "http://$(address_of "$2"):8080/"; }
announced() { lab exec "$1" -- journalctl --unit web-announce@1 --output cat | grep '^up: '; }

say "Booting three hosts, each with its own systemd and docker, and an etcd"
# Not by way of lab: a trap would inherit the redirection.
"${root[@]}" "$bin/fleet-lab" --subnet "$subnet" up --hosts 3 --docker >/dev/null
wait_for "all three are members of the cluster" members 3
show list-machines

say "Giving the cluster a unit: fleet chooses a machine"
tar -C units -c . | lab exec h1 -- sh -c 'mkdir -p /root/units && tar -xC /root/units'
show start /root/units/hello.service

say "Three copies of a web server in docker, never two on one machine, and a sidekick beside each"
show start /root/units/web@{1,2,3}.service
show start /root/units/web-announce@{1,2,3}.service

say "A unit on every machine, and a timer that cleans up"
show start /root/units/node-info.service
show load /root/units/cleanup.service
show start /root/units/cleanup.timer
show list-units

say "Every host reaches every web server"
for from in h1 h2 h3; do
    for to in h1 h2 h3; do
        wait_for "page of $to from $from" page "$from" "$to" >/dev/null
        echo "from $from: http://$(address_of "$to"):8080/ says: $(page "$from" "$to")"
    done
done

say "A fourth web server fits nowhere, and fleet says why, machine by machine"
show start --no-block /root/units/web@4.service
code=0; show why web@4.service || code=$?
[ $code = 3 ] || fail "fleetctl why ended with $code, not with 3: no machine fits"

say "It is not wanted after all, and neither is the third: one machine is free of web servers"
show destroy web@4.service web-announce@3.service web@3.service

dead=$(host_of web@1.service)
mapfile -t moved < <(units_on "$dead")
for host in h1 h2 h3; do [ "$host" = "$dead" ] || break; done

say "Pulling the plug of $dead, which has ${moved[*]}"
lab kill "$dead"
echo "A host counts as dead at most 10 s after its last sign of life; if it led the cluster, another takes over first."
# A oneshot service is active only while it runs: its timer tells.
wait_for "its units run elsewhere" all_active "${moved[@]/cleanup.service/cleanup.timer}"
show list-machines
show list-units

heir=$(host_of web@1.service)
say "web@1 runs on $heir now, its sidekick with it"
wait_for "its page is back" page "$host" "$heir"
echo "from $host: http://$(address_of "$heir"):8080/ says: $(page "$host" "$heir")"
wait_for "the sidekick has seen it" announced "$heir"
