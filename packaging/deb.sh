#!/bin/bash
# Builds fleet's Debian package out of what cargo built: packaging/deb.sh BINARIES OUTPUT [VERSION]
#
# BINARIES is a directory with fleetd and fleetctl of any profile; they are stripped. The package goes into the directory
# OUTPUT, and its path to standard output. VERSION is that of Cargo.toml with a Debian revision, unless said otherwise.
# DEBFULLNAME and DEBEMAIL say who made it, SOURCE_DATE_EPOCH when: by default the time of the last commit, so that the
# same commit gives the same package.
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: $0 BINARIES OUTPUT [VERSION]" >&2; exit 2; }
binaries=$(realpath "$1") output=$(realpath -m "$2")
here=$(realpath "$(dirname "$0")")
cd "$here/.."
version=${3:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)-1}
maintainer="${DEBFULLNAME:-The fleet maintainers} <${DEBEMAIL:-maintainers@fleet.invalid}>"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
architecture=$(dpkg --print-architecture)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/fleet

"$here/layout.sh" "$binaries" "$root"
strip --strip-all --remove-section=.comment "$root"/usr/bin/{fleetd,fleetctl}
install -D -m 644 cloud-init/fleet.conf "$root/etc/fleet/fleet.conf"
# Where Debian's zsh looks.
mkdir "$root/usr/share/zsh/vendor-completions"
mv "$root/usr/share/zsh/site-functions/_fleetctl" "$root/usr/share/zsh/vendor-completions/"
rmdir "$root/usr/share/zsh/site-functions"

doc=$root/usr/share/doc/fleet
rm "$doc/LICENSE"
install -m 644 packaging/debian/copyright "$doc/copyright"
install -m 644 packaging/README.md "$doc/README.Debian"
mv "$doc/CHANGELOG.md" "$doc/changelog"
cat >"$doc/changelog.Debian" <<END
fleet ($version) unstable; urgency=medium

  * See changelog.gz for what is new.

 -- $maintainer  $(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")
END
gzip --best --no-name "$doc"/changelog{,.Debian} "$root"/usr/share/man/man*/*

mkdir "$root/DEBIAN"
install -m 755 -t "$root/DEBIAN" packaging/debian/{postinst,prerm,postrm}
install -m 644 -t "$root/DEBIAN" packaging/debian/conffiles
install -D -m 644 packaging/debian/lintian-overrides "$root/usr/share/lintian/overrides/fleet"
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\n' | LC_ALL=C sort | grep -v '^etc/' | xargs md5sum) >"$root/DEBIAN/md5sums"
# It insists on a source package, and finds nothing in static binaries.
mkdir "$work/debian"
printf 'Source: fleet\n\nPackage: fleet\nArchitecture: any\n' >"$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O fleet/usr/bin/fleetd fleet/usr/bin/fleetctl | sed -n 's/^shlibs:Depends=//p')
size=$(du --apparent-size --summarize --block-size=1024 --exclude=DEBIAN "$root" | cut -f 1)
sed -e "s|@VERSION@|$version|" -e "s|@ARCHITECTURE@|$architecture|" -e "s|@MAINTAINER@|$maintainer|" \
    -e "s|@SIZE@|$size|" -e "s|@LIBRARIES@|${libraries:+$libraries, }|" packaging/debian/control >"$root/DEBIAN/control"

mkdir -p "$output"
package=$output/fleet_${version}_$architecture.deb
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
echo "$package"
