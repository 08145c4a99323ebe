#!/bin/bash
# musl.sh ARCH: compile musl for another architecture, into target/build-std/ARCH/root, and put the kernel's headers beside it.
# The version is the one Rust's own musl targets have. The tarball is musl's; Debian keeps a copy under another name.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
. "$here/table.sh"
# musl has an ARCH of its own, and make hands ours on.
unset ARCH MAKEFLAGS MAKEOVERRIDES
version=1.2.5
sha256=a9a118bbe84d8764da0ea0d28b3ab3fae8477fc7e4085d90102b8596fc7c75e4
say() { echo "build-std: $*" >&2; }

# Shared by all architectures. A copy that was put here by hand is as good.
tarball=target/build-std/musl-$version.tar.gz
is_whole() { echo "$sha256  $1" | sha256sum --check --status 2>/dev/null; }
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -om1 'https\?://[^ ]*/debian/\?\( \|$\)' | tr -d ' ' || true)
mkdir -p target/build-std
for url in "https://musl.libc.org/releases/musl-$version.tar.gz" ${mirror:+"${mirror%/}/pool/main/m/musl/musl_$version.orig.tar.gz"} \
	"http://deb.debian.org/debian/pool/main/m/musl/musl_$version.orig.tar.gz"; do
	! is_whole $tarball || break
	say "fetching $url"
	# A name of its own: two builds may fetch at once.
	curl -fsSL --connect-timeout 20 --max-time 300 -o $tarball.$$ "$url" || continue
	mv $tarball.$$ $tarball
done
rm -f $tarball.$$
is_whole $tarball || { say "no musl $version: put musl-$version.tar.gz into target/build-std"; exit 1; }

say "compiling musl $version for $1"
rm -rf "$work/musl" "$musl_root"
mkdir -p "$work/musl" "$musl_root"
tar xzf $tarball -C "$work/musl" --strip-components=1
(
	cd "$work/musl"
	CFLAGS="$cflags -ffile-prefix-map=$PWD=/musl" ./configure --prefix=/usr --target=$gnu CROSS_COMPILE=$gnu- --enable-wrapper=gcc \
		--includedir=/usr/include/$musl --libdir=/usr/lib/$musl --syslibdir=/lib >log 2>&1 &&
		make -j"$(nproc)" >>log 2>&1 && make DESTDIR="$musl_root" install >>log 2>&1
) || { tail -n 20 "$work/musl/log" >&2; exit 1; }
rm -rf "$work/musl"

# The kernel's headers: linux-libc-dev-ARCH-cross has them all; newer suites share those that do not depend on ARCH.
to=$musl_root/usr/include
for d in asm asm-generic linux; do
	for from in /usr/$gnu/include /usr/include/$gnu /usr/lib/linux/uapi/$kernel /usr/include; do
		# asm of another architecture would fit nowhere.
		[ $d != asm ] || [ $from != /usr/include ] || break
		[ ! -d $from/$d ] || { cp -rL $from/$d "$to/" && break; }
	done
	[ -d "$to/$d" ] || { say "no kernel headers $d for $1 (package linux-libc-dev-$deb-cross)"; rm -rf "$musl_root"; exit 1; }
done
