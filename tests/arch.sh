#!/bin/bash
# tests/arch.sh ARCH [ARGS for the test programs]: tests built for another architecture and run by qemu as user programs.
# `make test-arch ARCH=aarch64|armv7` calls it. Run are the unit tests and the files of FILES. Not run are
#  - all files of tests/ that start nodeprobe: the kernel here would not know what to do with such a program (tests/matrix.rs
#    and tests/vm/smallbox.sh run it, on kernels of its architecture);
#  - the unit tests of SKIP, with the reasons.
set -eu
cd "$(dirname "$0")/.."
export ARCH=$1
shift
# Parsers of configs, and log files that are rotated and cut at random, against a model.
FILES="configs tail"
SKIP="
a_line_of_64_mib_costs_no_memory  starts itself, and looks at how much memory a program has: here that is qemu
each_record_comes_once_without_descriptors  starts itself, and takes descriptors away, which qemu needs too
"
# An emulated program that is not optimised takes ten times as long; overflow and debug_assert! are checked all the same.
export CARGO_PROFILE_DEV_OPT_LEVEL=1
# What happens to log files at random does not depend on the architecture: a fifth of it.
export TAIL_ACTIONS=${TAIL_ACTIONS:-20000}
skip=()
while read -r test _; do [ -z "$test" ] || skip+=(--skip "$test"); done <<<"$SKIP"
vendor/cargo.sh test --locked --lib $(printf -- '--test %s ' $FILES) -- "${skip[@]}" "$@"

# The program itself, about the fixture hosts: the same words and figures as on any architecture (tests/golden.rs).
. vendor/build-std/table.sh "$ARCH"
run=("$qemu")
# What boards without NEON have; neon.sh looks for what QEMU cannot switch off, the second half of the registers.
[ "$ARCH" != armv7 ] || run+=(-cpu cortex-a15,neon=off)
version=$("${run[@]}" "dist/$ARCH/nodeprobe" --version | cut -d' ' -f2)
observed() {
	"${run[@]}" "dist/$ARCH/nodeprobe" once --root="$1" --collector.tcp=off --log-level=error | awk '
		{ name = $0; sub(/^# (HELP|TYPE) /, "", name); sub(/[{ ].*/, "", name) }
		name !~ /^nodeprobe_/ || name ~ /^nodeprobe_(collector_info|containers|container_cgroups|cgroup_watch_info)$/' |
		sed "s/version=\"$version\"/version=\"VERSION\"/"
}
hosts=0
for expected in tests/fixtures/*/metrics.txt; do
	diff -u "$expected" <(observed "${expected%/metrics.txt}") >&2 || { echo "arch: $ARCH says something else about ${expected%/metrics.txt}" >&2; exit 1; }
	hosts=$((hosts + 1))
done
echo "arch: $hosts fixture hosts described as expected by $version for $ARCH"
