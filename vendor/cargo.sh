#!/bin/bash
# vendor/cargo.sh SUBCOMMAND ARGS: cargo, plus the three things a plain call does not do.
#  1. One build at a time: libbpf-sys configures elfutils inside cargo's registry, where two builds would meet.
#  2. Tests and benches run as root (they load BPF programs), everything else as the caller.
#  3. Without Rust's musl target, with STD=build and for another ARCH, std is compiled too (vendor/build-std/). Programs of
#     another ARCH run under qemu.
set -eu
cd "$(dirname "$0")/.."
cargo=(cargo)
foreign=""
if [ -n "${ARCH:-}" ] && [ "$ARCH" != x86_64 ]; then
	cargo=(vendor/build-std/cargo.sh "$ARCH") foreign=1
elif [ "${STD:-auto}" = build ] || [ ! -d "$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-musl" ]; then
	cargo=(vendor/build-std/cargo.sh x86_64)
fi
home=${CARGO_HOME:-$HOME/.cargo}
# Another architecture has a registry of its own, and so needs a target directory of its own: in a shared one all crates that
# run while building would be compiled anew after each change of architecture.
[ -z "$foreign" ] || { home=target/build-std/$ARCH/cargo-home && export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/$ARCH; }
mkdir -p "$home"
# -o: no process that outlives the build may keep the lock.
locked() { flock -o "$home/.nodeprobe-lock" "$@"; }

sub=$1
shift
[ -z "${VENDORED:-}" ] || set -- --offline --config 'source.crates-io.replace-with="vendored"' \
	--config 'source.vendored.directory="vendor/crates"' "$@"
case $sub in
test | bench)
	# Compile under the lock, run without it.
	locked "${cargo[@]}" "$sub" --no-run "$@"
	[ -z "$foreign" ] || exec "${cargo[@]}" "$sub" "$@"
	[ "$(id -u)" = 0 ] || export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUNNER="${RUNNER-sudo -E}"
	exec "${cargo[@]}" "$sub" "$@"
	;;
build | check | clippy | run | rustc) locked "${cargo[@]}" "$sub" "$@" ;;
vendor)
	# With the sources of std here, their crates as well: compiling std offline wants them.
	std=target/build-std/x86_64/library/Cargo.toml
	[ ! -e $std ] || set -- --sync "$(realpath $std)" "$@"
	RUSTC_BOOTSTRAP=1 exec cargo vendor --versioned-dirs "$@"
	;;
*) exec cargo "$sub" "$@" ;;
esac
