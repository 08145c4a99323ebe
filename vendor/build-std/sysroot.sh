#!/bin/bash
# sysroot.sh [--ready] ARCH: make ready to compile std for ARCH, in target/build-std/ARCH:
#   crt/        what Rust's own musl target would bring: startup objects, libc.a, libunwind.a
#   musl.specs  how GNU gcc compiles against musl (used by cc.sh)
#   library     link to the sources of std
# --ready only asks whether that has been done.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
ask=0
[ "$1" != --ready ] || { ask=1; shift; }
. "$here/table.sh"
[ -e "$work/library/Cargo.lock" ] && [ "$work/crt/libunwind.a" -nt "$here/unwind.c" ] && exit 0
[ $ask = 0 ] || exit 1
say() { echo "build-std: $*" >&2; }
mkdir -p "$work/crt"

# Sources of std: the toolchain's own component, else Debian's package of exactly the same version.
version=$(rustc --version | cut -d' ' -f2)
library=$(rustc --print sysroot)/lib/rustlib/src/rust/library
if [ ! -e "$library/Cargo.lock" ]; then
	say "fetching the sources of Rust's std"
	for n in 1 2 3; do
		timeout 300 rustup component add rust-src && break
		sleep 3
	done
fi
if [ ! -e "$library/Cargo.lock" ]; then
	deb_version=$(apt-cache madison rust-src | awk -v v="$version+" 'index($3, v) == 1 { print $3; exit }')
	if [ -z "$deb_version" ]; then
		say "no sources of std $version: neither rustup's rust-src nor a package rust-src $version is to be had"
		exit 1
	fi
	(cd "$work" && apt-get download "rust-src=$deb_version" && dpkg -x rust-src_*.deb rust-src)
	library=$work/rust-src/usr/src/rustc-$version/library
fi
ln -sfn "$library" "$work/library"

[ -z "$musl_root" ] || [ -e "$musl_root/usr/include/linux/bpf.h" ] || "$here/musl.sh" "$1"
lib=$musl_root/usr/lib/$musl
[ -e "$lib/rcrt1.o" ] || { say "no musl in $lib (package musl-dev)"; exit 1; }
sed "s#/usr/#$musl_root/usr/#g" "$lib/musl-gcc.specs" >"$work/musl.specs"

cp "$lib"/{crt1,Scrt1,rcrt1,crti,crtn}.o "$lib/libc.a" "$work/crt/"
for o in crtbegin crtbeginS crtend crtendS; do cp "$($gnu-gcc -print-file-name=$o.o)" "$work/crt/"; done
# gcc's unwinder in place of LLVM's. Last, because --ready looks for it.
cp "$($gnu-gcc -print-file-name=libgcc_eh.a)" "$work/crt/libunwind.tmp"
NP_GNU=$gnu NP_MUSL_SPECS=$work/musl.specs NP_MUSL_ROOT=$musl_root "$here/cc.sh" $cflags -Os -Wall -fPIC -c "$here/unwind.c" -o "$work/crt/unwind.o"
$gnu-ar rs "$work/crt/libunwind.tmp" "$work/crt/unwind.o"
mv "$work/crt/libunwind.tmp" "$work/crt/libunwind.a"
