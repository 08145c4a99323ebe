#!/bin/bash
# fuzz/run.sh [TARGET...]: builds the fuzz targets and runs each for TIME seconds or RUNS executions, whichever is over
# first; all of them if none is named. New inputs are kept in target/fuzz/TARGET, crashes in target/fuzz/crashes.
#   ARGS  further flags of libFuzzer, or one input file to repeat a crash with
# A crash ends it.
set -eu -o pipefail
cd "$(dirname "$0")"
time=${TIME:-600} runs=${RUNS:-1000000}
out=$(realpath -m "${CARGO_TARGET_DIR:-../target}")
export CARGO_TARGET_DIR=$out
all=$(sed -n 's#^path = "targets/\(.*\)\.rs"#\1#p' Cargo.toml)
targets=${*:-$all}

home=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$home"
offline=()
[ -z "${VENDORED:-}" ] || offline=(--offline --config 'source.crates-io.replace-with="vendored"'
	--config 'source.vendored.directory="../vendor/crates"')
flock -o "$home/.nodeprobe-lock" cargo build --release --locked "${offline[@]}"

# libbpf leaks on some of its ways out; what has no bound is found by libFuzzer's limit of memory.
export ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS:-}
mkdir -p "$out/fuzz/crashes"
for target in $targets; do
	case " ${all//$'\n'/ } " in *" $target "*) ;; *) echo "no target $target, but:" $all >&2; exit 2 ;; esac
	program=$out/x86_64-unknown-linux-gnu/release/$target
	if [ -n "${ARGS:-}" ] && [ -e "${ARGS##* }" ]; then
		"$program" $ARGS
		continue
	fi
	mkdir -p "$out/fuzz/$target"
	echo "fuzzing $target"
	# Both are fed with objects.
	corpus=corpus/${target/load/object}
	nice "$program" -max_total_time="$time" -runs="$runs" -max_len=16384 -timeout=10 -print_final_stats=1 \
		-artifact_prefix="$out/fuzz/crashes/$target-" ${ARGS:-} "$out/fuzz/$target" "$corpus" 2>&1 |
		tee "$out/fuzz/$target.log" | { grep -vE ' (NEW|REDUCE|RELOAD) |^"|recommended dictionary' || true; }
done
