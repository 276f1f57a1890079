#!/bin/sh
# Runs a command and appends to a file how many minutes it took: `timed.sh FILE WHAT COMMAND...`. `timed.sh FILE` prints
# the table of all that was run.
set -u

file=$1
shift
if [ $# = 0 ]; then
	awk -F '\t' '{ printf "%6.1f min  %s\n", $1, $2 }' "$file"
	exit
fi
what=$1
shift
start=$(date +%s.%N)
"$@"
code=$?
[ $code = 0 ] || what="$what (failed)"
# One short line in one write, as others may append as well.
date +%s.%N | awk -v start="$start" -v what="$what" '{ printf "%.2f\t%s\n", ($1 - start) / 60, what }' >>"$file"
exit $code
