#!/bin/bash
# Runs the files of cluster tests, two at a time, and says of each how long it took: `beside.sh FILE COMMAND...`, where
# COMMAND is `cargo test` for the packages. They mostly wait, for hosts to boot and for leases to run out. Each has labs of
# its own, on subnets that are free. What a file prints comes whole, when it is done.
#
# The programs are run themselves, as cargo would: it takes seconds to see that there is nothing to build.
set -u

times=$(realpath "$1")
shift
# These ask that something takes no longer than so long.
alone=failures
# Only these: `ONLY="idle moves" beside.sh ...`.
only=${ONLY:-}

tests=$(cd "$(dirname "$0")" && pwd)
# What cargo is told to run tests with, such as sudo.
runner=$(env | sed -n 's/^CARGO_TARGET_[A-Z0-9_]*_RUNNER=//p')
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export times tests runner out

run() {
	file=${1%%:*}
	# shellcheck disable=SC2086 # the runner is a command with arguments
	(cd "$tests" && ./timed.sh "$times" "fleet-tests: $file" $runner "${1#*:}") >"$out/$file" 2>&1 </dev/null
	code=$?
	flock "$out" sh -c 'echo "     Running tests/$1.rs" && cat "$2"' sh "$file" "$out/$file"
	[ $code = 0 ] || touch "$out/failed"
}
export -f run

# Lines of cargo's like `  Executable tests/idle.rs (target/debug/deps/idle-0123456789abcdef)`.
"$@" --no-run 2>&1 | tee "$out/build"
[ "${PIPESTATUS[0]}" = 0 ] || exit 1
sed -n 's/^ *Executable tests\/\([a-z_]*\)\.rs (\(.*\))$/\1 \2/p' "$out/build" | while read -r file program; do
	# Not those of the other packages.
	[ -f "$tests/tests/$file.rs" ] || continue
	[ -z "$only" ] || [[ " $only " = *" $file "* ]] || continue
	echo "$(stat -c %s "$tests/tests/$file.rs") $file:$(realpath "$program")"
done >"$out/programs"
[ -s "$out/programs" ] || { echo "error: cargo names no programs of tests" >&2; exit 1; }

# The large ones first, so that none of them is left over in the end.
sort -rn "$out/programs" | cut -d ' ' -f 2- >"$out/sorted"
grep "^$alone:" "$out/sorted" | while read -r program; do run "$program"; done
grep -v "^$alone:" "$out/sorted" | xargs -P 2 -I '{}' bash -c 'run "$1"' run '{}'
test ! -e "$out/failed"
