#!/bin/bash
# Builds images out of Debian packages, and leaves them as a registry has them on its disk: what `docker-registry serve`
# needs to answer `docker pull`.
#
#   tests/images/build.sh DIR IMAGE...        for example: tests/images/build.sh target/images mysql nginx
#
# Needs apt (only to download), dpkg-deb and a static busybox; no docker, no debootstrap, no root. A package is unpacked,
# not installed: no script of it is run. What an image needs beside its packages is in the directory of its name here.
# What is there already is kept: an image is built again when its directory or this script has changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?usage: build.sh DIR IMAGE...}"
dir=$(cd "$1" && pwd)
shift

fail() { printf 'error: %s\n' "$1" >&2; shift; [ $# = 0 ] || printf 'hint: %s\n' "$@" >&2; exit 1; }

# Packages of each image. What they depend on comes along, but not with those that have a `!` behind them, and not what
# has a `-` before it.
packages() {
    case $1 in
        base) echo libc6 libssl3 libstdc++6 zlib1g libtinfo6 libpcre2-8-0 ;;
        mysql) echo mariadb-server-core mariadb-client-core ;;
        nginx) echo nginx! nginx-common! libcrypt1 ;;
        # Without the other web server that it would have, and all that PHP can draw.
        wordpress) echo php-cli php-mysql wordpress! wordpress-theme-twentytwentythree! php-getid3! ;;
        # Without what debugs programs in C and sets formulas.
        notebook)
            echo python3-notebook python3-ipykernel -gdb -libbabeltrace1 -libboost-regex1.74.0 -libcurl3-gnutls \
                -libdebuginfod1 -libglib2.0-0 -libipt2 -libsource-highlight4v5 -libjs-mathjax -fonts-mathjax -dpkg -tar \
                -openssl -libgnutls30 -libmpfr6
            ;;
        elasticsearch) ;;
        *) fail "there is no image $1" "there are mysql nginx wordpress notebook elasticsearch" ;;
    esac
}

# The name by which a registry that mirrors the public one knows it.
repository() {
    case $1 in
        elasticsearch) echo dockerfile/elasticsearch ;;
        notebook) echo jupyter/base-notebook ;;
        *) echo library/"$1" ;;
    esac
}

# All packages of an image with their versions, as apt would take them on a machine that has none.
closure() {
    local word alone=() others=() without=()
    for word in $(packages "$1"); do
        case $word in
            *!) alone+=("${word%!}") ;;
            -*) without+=(-e "${word#-}=.*") ;;
            *) others+=("$word") ;;
        esac
    done
    {
        [ ${#others[@]} = 0 ] ||
            apt-get install -qq --print-uris --no-install-recommends -o Dir::State::status=/dev/null "${others[@]}"
        [ ${#alone[@]} = 0 ] || apt-get download -qq --print-uris "${alone[@]}"
    } | sed -n "s/^'[^']*' \([^_]*\)_\([^_]*\)_.*/\1=\2/p" | sed 's/%3a/:/' | grep -vx -e - "${without[@]}" | sort -u
}

# download PACKAGE=VERSION...: the files, which later builds find here.
download() {
    mkdir -p "$dir/packages"
    local package version missing=()
    for package; do
        version=${package#*=}
        compgen -G "$dir/packages/${package%%=*}_${version//:/%3a}_*.deb" >/dev/null || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] || (cd "$dir/packages" && apt-get download -qq -o APT::Sandbox::User=root "${missing[@]}" >&2)
}

# unpack TREE PACKAGE=VERSION...
unpack() {
    local tree=$1 package version
    shift
    mkdir -p "$tree"/{usr/bin,usr/sbin,usr/lib,usr/lib64}
    # One of the two is where a package puts a file, and the other where it is looked for.
    for link in bin sbin lib lib64; do ln -sfn usr/$link "$tree/$link"; done
    for package; do
        version=${package#*=}
        for file in "$dir/packages/${package%%=*}_${version//:/%3a}"_*.deb; do
            dpkg-deb --fsys-tarfile "$file" |
                tar -x -C "$tree" --no-same-owner --keep-directory-symlink --exclude='./usr/share/doc/*' \
                    --exclude='./usr/share/man/*' --exclude='./usr/share/info/*' --exclude='./usr/share/locale/*' \
                    --exclude='./usr/share/lintian/*' --exclude='./usr/share/icu/*' --exclude='*/__pycache__' \
                    --exclude='./etc/init.d' --exclude='./lib/systemd' --exclude='./usr/lib/systemd'
        done
    done
}

# blob FILE: takes a file into the registry and says its digest.
blob() {
    local digest
    digest=$(sha256sum "$1" | cut -d ' ' -f 1)
    mkdir -p "$blobs/sha256/${digest:0:2}/$digest"
    cp --reflink=auto "$1" "$blobs/sha256/${digest:0:2}/$digest/data"
    echo "sha256:$digest"
}

# layer TREE: as one blob, that needs no unpacking to be served.
layer() {
    tar -C "$1" --owner=0 --group=0 --numeric-owner --sort=name --mtime=@0 -cf "$work/layer.tar" .
    blob "$work/layer.tar"
}

# link DIGEST FILE
link() { mkdir -p "$(dirname "$2")"; printf %s "$1" >"$2"; }

# Writes the manifest of an image: image NAME LAYER...
image() {
    local name=$1 layers=() diffs=() digest size config manifest at
    shift
    for digest; do
        size=$(stat -c %s "$blobs/sha256/${digest:7:2}/${digest:7}/data")
        layers+=("{\"mediaType\":\"application/vnd.docker.image.rootfs.diff.tar.gzip\",\"size\":$size,\"digest\":\"$digest\"}")
        diffs+=("\"$digest\"")
    done
    local IFS=,
    cat >"$work/config" <<END
{"architecture":"$(dpkg --print-architecture)","os":"linux","created":"1970-01-01T00:00:00Z",
"config":$(cat "$here/$name/config.json"),"rootfs":{"type":"layers","diff_ids":[${diffs[*]}]}}
END
    config=$(blob "$work/config")
    cat >"$work/manifest" <<END
{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",
"config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":$(stat -c %s "$work/config"),
"digest":"$config"},"layers":[${layers[*]}]}
END
    manifest=$(blob "$work/manifest")
    at=$registry/repositories/$(repository "$name")
    for digest in "$config" "$@"; do link "$digest" "$at/_layers/sha256/${digest:7}/link"; done
    link "$manifest" "$at/_manifests/revisions/sha256/${manifest:7}/link"
    link "$manifest" "$at/_manifests/tags/latest/index/sha256/${manifest:7}/link"
    link "$manifest" "$at/_manifests/tags/latest/current/link"
}

# What all images have: libc, and a shell with its programs. Leaves its layer in $dir/base and its packages beside it.
base() {
    local busybox tree=$work/base applet
    busybox=$(command -v busybox) || fail "busybox is not installed" "apt-get install busybox-static"
    mapfile -t wanted < <(closure base)
    [ ${#wanted[@]} != 0 ] || fail "apt knows no packages" "apt-get update"
    download "${wanted[@]}"
    unpack "$tree" "${wanted[@]}"
    mkdir -p "$tree"/{etc,proc,sys,dev,run,root,srv,var/lib,var/log,usr/local/bin}
    install -d -m 1777 "$tree/tmp" "$tree/var/tmp"
    cp "$busybox" "$tree/usr/bin/busybox"
    for applet in $("$busybox" --list); do
        [ -e "$tree/usr/bin/$applet" ] || ln -s busybox "$tree/usr/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\nmysql:x:999:999::/var/lib/mysql:/bin/false\n' \
        >"$tree/etc/passwd"
    printf 'root:x:0:\nwww-data:x:33:\nmysql:x:999:\n' >"$tree/etc/group"
    printf '%s\n' "${wanted[@]}" >"$dir/base.packages"
    layer "$tree" >"$dir/base.layer"
}

build() {
    local name=$1 tree=$work/$1
    local layers=("$(cat "$dir/base.layer")")
    mapfile -t wanted < <(closure "$name" | grep -vxFf "$dir/base.packages")
    download "${wanted[@]}"
    unpack "$tree" "${wanted[@]}"
    if [ -d "$here/$name/root" ]; then cp -a "$here/$name/root/." "$tree/"; fi
    # Runs in the tree, with the packages there.
    if [ -e "$here/$name/prepare.sh" ]; then (cd "$tree" && bash -euo pipefail "$here/$name/prepare.sh"); fi
    layers+=("$(layer "$tree")")
    image "$name" "${layers[@]}"
    rm -rf "$tree"
}

# What an image is made of: its directory, and this script. The base has no directory.
stamp() {
    local from=("$here/build.sh")
    [ ! -d "$here/$1" ] || from+=("$here/$1")
    find "${from[@]}" -type f -print0 | sort -z | xargs -0 sha256sum | cut -d ' ' -f 1 | sha256sum
}

registry=$dir/registry/docker/registry/v2
blobs=$registry/blobs
mkdir -p "$dir/built"
exec 9>"$dir/lock"
flock 9
work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
fresh=
for name; do
    packages "$name" >/dev/null
    now=$(stamp "$name")
    if [ "$(cat "$dir/built/$name" 2>/dev/null)" = "$now" ]; then continue; fi
    echo "Building image $name" >&2
    if [ -z "$fresh" ] && [ "$(id -u)" = 0 ]; then
        # Lists that are old name packages that are gone.
        apt-get update -qq >&2 || echo "warning: apt-get update failed, going on with the lists that are there" >&2
        fresh=yes
    fi
    if [ "$(cat "$dir/built/base" 2>/dev/null)" != "$(stamp base)" ]; then
        rm -rf "$dir/registry" "$dir/built"
        mkdir -p "$dir/built" "$blobs"
        base
        stamp base >"$dir/built/base"
    fi
    build "$name"
    echo "$now" >"$dir/built/$name"
done
# Whoever owns the directory above shall be able to remove what root has built.
[ "$(id -u)" != 0 ] || chown -R --reference="$dir/.." "$dir"
