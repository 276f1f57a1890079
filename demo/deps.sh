#!/bin/bash
# Installs what building, testing and the demo need and this machine lacks. Silent when nothing is missing.
#
# Debian's packages of etcd, docker and ssh start a service when they are installed. Only the programs are wanted
# here: whatever is installed by this script is neither started nor enabled.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin

fail() { printf 'error: %s\n' "$1" >&2; shift; [ $# = 0 ] || printf 'hint: %s\n' "$@" >&2; exit 1; }

# A busybox that needs libraries is of no use in an image that has none.
static_busybox() { local path; path=$(command -v busybox) && ! ldd "$path" >/dev/null 2>&1; }

missing() {
    # Program, Debian package.
    while read -r program package; do
        command -v "$program" >/dev/null || echo "$package"
    done <<'END'
etcd etcd-server
etcdctl etcd-client
systemctl systemd
systemd-nspawn systemd-container
dbus-daemon dbus
ip iproute2
protoc protobuf-compiler
dockerd docker.io
docker docker.io
containerd containerd
iptables iptables
nft nftables
faketime faketime
sshd openssh-server
ssh-keygen openssh-client
cc gcc
curl curl
make make
dpkg-shlibdeps dpkg-dev
cloud-init cloud-init
ignition-validate ignition
ansible-playbook ansible-core
END
    static_busybox || echo busybox-static
    [ -e /usr/lib/polkit-1/polkitd ] || echo polkitd
    # Systemd for ordinary users, and their bus.
    compgen -G '/usr/lib/*/security/pam_systemd.so' >/dev/null || echo libpam-systemd
    [ -e /usr/lib/systemd/user/dbus.socket ] || echo dbus-user-session
    [ -e /usr/include/stdlib.h ] || echo libc6-dev
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
}

command -v cargo >/dev/null || fail "cargo is not installed: Rust is needed to build fleet" \
    "get it from https://rustup.rs; rust-toolchain.toml in this directory then names the version"

mapfile -t packages < <(missing | sort -u)
[ ${#packages[@]} = 0 ] && exit 0

command -v apt-get >/dev/null || fail "missing on this machine: ${packages[*]} (Debian's package names)" \
    "this script installs them on Debian and Ubuntu only; on others use the package manager, then try again"
root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "packages are missing, and this is neither root nor is there sudo: ${packages[*]}" \
        "as root: apt-get install ${packages[*]}"
    root=(sudo)
fi

echo "Installing: ${packages[*]}" >&2

# Debian's way to say which services a package may start (invoke-rc.d(8)). Another one that is there stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    "${root[@]}" tee $policy >/dev/null <<'END'
#!/bin/sh
# Of fleet's demo/deps.sh, for the time of one apt-get.
case $1 in etcd*|docker*|containerd*|ssh*|polkit*) exit 101 ;; esac
END
    "${root[@]}" chmod 755 $policy
    trap '"${root[@]}" rm -f $policy' EXIT
fi

# Cloud-init would do to this machine at its next boot what it does to a new one.
if [[ " ${packages[*]} " = *" cloud-init "* ]] && [ ! -e /etc/cloud ]; then
    "${root[@]}" mkdir /etc/cloud
    "${root[@]}" touch /etc/cloud/cloud-init.disabled
fi

apt() {
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" \
        </dev/null >&2
}
apt update || echo "warning: apt-get update failed, going on with the package lists that are there" >&2
apt install -y --no-install-recommends "${packages[@]}"

# Enabled by their packages, for the next boot. Services that were there before are left as they were.
services=()
for package in "${packages[@]}"; do
    case $package in
        etcd-server) services+=(etcd.service) ;;
        docker.io) services+=(docker.service docker.socket) ;;
        containerd) services+=(containerd.service) ;;
        openssh-server) services+=(ssh.service ssh.socket) ;;
    esac
done
for service in "${services[@]}"; do
    # Offline: the links are all that matters, and PID 1 need not be systemd.
    "${root[@]}" env SYSTEMD_OFFLINE=1 systemctl --quiet disable "$service" >/dev/null 2>&1 || true
    if [ -d /run/systemd/system ] && systemctl --quiet is-active "$service"; then
        "${root[@]}" systemctl stop "$service" || echo "warning: $service was started by its package, and still runs" >&2
    fi
done

mapfile -t packages < <(missing | sort -u)
[ ${#packages[@]} = 0 ] || fail "still missing after the installation: ${packages[*]}"
