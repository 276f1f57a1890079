#!/bin/sh
# Builds fleetd and fleetctl as they were at an earlier commit: `before.sh COMMIT DIR` leaves them in DIR/bin.
set -eu

commit=$1
dir=$2

if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
	echo "error: commit $commit is not in this clone" >&2
	if [ "$(git rev-parse --is-shallow-repository 2>/dev/null)" = true ]; then
		echo "hint: its history is shallow: git fetch --unshallow" >&2
	else
		echo "hint: the programs are built from git: clone the repository, a tarball of it has no history" >&2
	fi
	exit 1
fi
commit=$(git rev-parse "$commit^{commit}")
if [ "$(cat "$dir/bin/commit" 2>/dev/null)" = "$commit" ]; then
	exit 0
fi

rm -rf "$dir/source" "$dir/bin"
mkdir -p "$dir/source" "$dir/bin"
git archive "$commit" | tar -x -C "$dir/source"
echo "building fleetd and fleetctl of $commit" >&2
CARGO_TARGET_DIR="$dir/build" cargo build --locked --manifest-path "$dir/source/Cargo.toml" -p fleetd -p fleetctl
cp "$dir/build/debug/fleetd" "$dir/build/debug/fleetctl" "$dir/bin/"
echo "$commit" >"$dir/bin/commit"
