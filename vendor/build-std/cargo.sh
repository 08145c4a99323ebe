#!/bin/bash
# cargo.sh ARCH SUBCOMMAND ARGS: cargo with a std compiled here, for when Rust's musl target cannot be downloaded.
# All of it is environment and flags: no file of the project, of the toolchain or of the caller's ~/.cargo changes.
# RUSTC_BOOTSTRAP lets the pinned stable toolchain use -Zbuild-std; that interface may change with the version, which is
# one reason to pin it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
. "$here/table.sh"
"$here/sysroot.sh" "$1"
sub=$2
shift 2
case $sub in build | check | clippy | test | bench | run | rustc) ;; *) exec cargo "$sub" "$@" ;; esac

low=${rust//-/_} up=$(tr a-z- A-Z_ <<<"$rust")
# What was said to make is not meant for the makefiles of the C libraries.
unset ARCH MAKEFLAGS MAKEOVERRIDES
export RUSTC_BOOTSTRAP=1
# cargo finds the toolchain's own sources, and hashes their place in it; of another place it hashes where that is.
[ -e "$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ] || export __CARGO_TESTS_ONLY_SRC_ROOT=$work/library
export NP_GNU=$gnu NP_MUSL_SPECS=$work/musl.specs NP_MUSL_ROOT=$musl_root
export "CC_$low=$here/cc.sh" "AR_$low=$gnu-ar" "CFLAGS_$low=$cflags -ffile-prefix-map=$PWD=/nodeprobe"
export LIBBPF_SYS_EXTRA_CFLAGS=" "
# libbpf-sys leaves its configuration in the registry: one registry per foreign architecture.
[ -z "$musl_root" ] || export CARGO_HOME=$work/cargo-home
# rustc looks for crt1.o and friends in every -L directory, so a directory of them replaces the missing target.
export "CARGO_TARGET_${up}_LINKER=$gnu-gcc"
# The libc crate has musl's time of 64 bits on armv7 when it is asked for: wall time would end in 2038.
# From here, where rustc links: the flags are part of all symbols' names, and must not depend on where this directory is.
flags="-Clink-self-contained=yes -Lnative=${work#"$PWD/"}/crt --cfg=libc_unstable_musl_v1_2"
# LLVM takes a generic ARMv7 to have 32 registers, although Rust's target says 16 (neon.sh).
[ "$kernel" != arm ] || flags+=" -Ctarget-feature=-d32"
export "CARGO_TARGET_${up}_RUSTFLAGS=$flags"
export CARGO_PROFILE_RELEASE_TRIM_PATHS=all
# neon.sh needs symbols; `make build` strips what it installs.
[ "$kernel" != arm ] || export CARGO_PROFILE_RELEASE_STRIP=none

# Programs of another architecture are run by qemu.
[ -z "$musl_root" ] || export "CARGO_TARGET_${up}_RUNNER=${RUNNER-$qemu}"

# The agent aborts on panic and needs neither unwinding nor backtraces; tests and benches do unwind.
case $sub in
build | run | rustc) crates=std,panic_abort features= ;;
*) crates=std,panic_abort,panic_unwind,test,proc_macro features=panic-unwind ;;
esac
# Benches use the release profile with the other std, and two of them in one directory confuse rustc.
[ "$sub" != bench ] || export CARGO_TARGET_DIR=$work/bench CARGO_PROFILE_RELEASE_PANIC=unwind
exec cargo "$sub" --target "$rust" -Zbuild-std=$crates -Zbuild-std-features=$features -Ztrim-paths "$@"
