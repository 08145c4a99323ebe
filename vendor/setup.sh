#!/bin/bash
# vendor/setup.sh build|test|test-vm|parts|check|bpf|fuzz|vm|syscalls: install what the make target of that name needs and does
# not find.
# Debian and Ubuntu packages, the Rust toolchain of rust-toolchain.toml and its musl target. Does nothing, in well
# under a second, when everything is there.
#   STD=auto (default)  Rust's ready-made musl target; when it cannot be had, get ready to compile std here
#   STD=build           compile std here in any case (vendor/build-std/)
set -eu
cd "$(dirname "$0")/.."
want=${1:-build} std=${STD:-auto} target=x86_64-unknown-linux-musl

say() { echo "setup: $*" >&2; }
root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
# A download that hangs or fails once is common; one that fails three times is not coming.
try3() { for n in 1 2 3; do "$@" && return; say "attempt $n failed: $*"; sleep 3; done; return 1; }

# package=command, or package=/file for those that bring headers only. Looking for the command and not for the
# package lets other distributions, and tools installed by hand, pass as well.
build="clang=clang llvm=llvm-strip musl-tools=musl-gcc linux-libc-dev=/usr/include/linux/bpf.h make=make
 pkg-config=pkg-config autoconf=autoconf automake=automake autopoint=autopoint libtool=libtoolize gettext=msgfmt
 flex=flex bison=bison gawk=gawk gcc=gcc libc6-dev=/usr/include/stdlib.h util-linux=flock"
cross_aarch64="gcc-aarch64-linux-gnu=aarch64-linux-gnu-gcc linux-libc-dev-arm64-cross=/usr/aarch64-linux-gnu/include/asm"
cross_armv7="gcc-arm-linux-gnueabihf=arm-linux-gnueabihf-gcc linux-libc-dev-armhf-cross=/usr/arm-linux-gnueabihf/include/asm"
cross="curl=curl qemu-user-static=qemu-arm-static"
bpf="clang=clang llvm=llvm-strip bpftool=bpftool linux-libc-dev=/usr/include/linux/bpf.h"
check="clang-format=clang-format"
python=/usr/lib/python3/dist-packages
test="python3-yaml=$python/yaml/__init__.py python3-jsonschema=$python/jsonschema/__init__.py
 prometheus=promtool prometheus=prometheus curl=curl python3=python3 iproute2=ip util-linux=unshare
 procps=pkill strace=strace nftables=nft containerd=containerd docker.io=dockerd docker.io=docker podman=podman
 runc=runc busybox-static=busybox systemd=journalctl systemd=systemd-analyze dpkg=dpkg-deb util-linux=setpriv
 systemd-journal-remote=/lib/systemd/systemd-journal-remote
 qemu-system-x86=qemu-system-x86_64 cpio=cpio debian-archive-keyring=/usr/share/keyrings/debian-archive-keyring.gpg"
kernels="$test qemu-system-arm=qemu-system-aarch64 kmod=modprobe xz-utils=xz"
parts="chromium=chromium fonts-dejavu-core=/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
vm="qemu-system-x86=qemu-system-x86_64 qemu-system-arm=qemu-system-arm cpio=cpio mmdebstrap=mmdebstrap e2fsprogs=mke2fs"
# libFuzzer and AddressSanitizer, which clang has where it says so itself.
fuzz="g++=c++ libclang-rt-dev=$(clang -print-resource-dir 2>/dev/null)/lib/linux/libclang_rt.fuzzer-$(uname -m).a"
syscalls="gcc=cpp linux-libc-dev=/usr/include/linux/bpf.h linux-libc-dev-armhf-cross=/usr/arm-linux-gnueabihf/include/asm"
case $want in
build) list=$build ;;
syscalls) list=$syscalls ;;
fuzz) list="$build $fuzz" ;;
check) list="$build $check" ;;
test) list="$build $check $test" ;;
test-vm) list="$build $kernels" ;;
parts)
	list="$build $check $test"
	case " ${P:-page} " in *" page "*) list="$list $parts" ;; esac
	;;
bpf) list=$bpf ;;
vm) list=$vm ;;
*) say "build, check, test, test-vm, parts, bpf, fuzz, vm or syscalls, not '$want'"; exit 2 ;;
esac

arch=${ARCH:-x86_64}
case $arch in
x86_64) ;;
aarch64) list="$list $cross $cross_aarch64" ;;
armv7) list="$list $cross $cross_armv7" ;;
*) say "ARCH: x86_64, aarch64 or armv7, not '$arch'"; exit 2 ;;
esac

missing=""
for p in $list; do
	case ${p#*=} in
	/*) [ -e "${p#*=}" ] ;;
	*) PATH=$PATH:/usr/sbin:/sbin command -v "${p#*=}" >/dev/null ;;
	esac || case " $missing " in *" ${p%%=*} "*) ;; *) missing="$missing ${p%%=*}" ;; esac
done

apt() { root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >/dev/null; }
install() { apt install -y --no-install-recommends $missing; }
if [ -n "$missing" ]; then
	if ! command -v apt-get >/dev/null; then
		say "please install (Debian's package names):$missing"
		exit 2
	fi
	say "installing:$missing"
	try3 apt update || say "the package lists may be old"
	# Newer suites have docker's command in a package of its own.
	case "$missing " in *" docker.io "*)
		! apt-cache show docker-cli >/dev/null 2>&1 || missing="$missing docker-cli"
		;;
	esac
	case "$missing " in *" prometheus "* | *" docker.io "* | *" containerd "* | *" podman "* | *" systemd-journal-remote "*)
		# Only their programs are wanted: do not let a package start a server, unless the machine has a policy of its own.
		policy=/usr/sbin/policy-rc.d
		if [ ! -e $policy ]; then
			trap 'root rm -f $policy' EXIT
			printf '#!/bin/sh\nexit 101\n' | root tee $policy >/dev/null
			root chmod 755 $policy
		fi
		;;
	esac
	try3 install
fi

[ "$want" != vm ] && [ "$want" != syscalls ] || exit 0
if ! command -v rustc >/dev/null; then
	say "no rustc: install rustup first (https://rustup.rs); it fetches the version in rust-toolchain.toml by itself"
	exit 2
fi
if [ "$want" = bpf ]; then
	# Ubuntu has a script of that name, which looks for that of the running kernel.
	PATH=$PATH:/usr/sbin:/sbin bpftool version >/dev/null 2>&1 || {
		say "bpftool does not work; on Ubuntu: apt-get install linux-tools-$(uname -r)"
		exit 2
	}
	exit 0
fi
# The first call in this directory makes rustup fetch the pinned toolchain.
sysroot=$(try3 timeout 600 rustc --print sysroot)

if [ "$want" = check ] || [ "$want" = test ]; then
	cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 ||
		try3 timeout 300 rustup component add rustfmt clippy
fi

# Sanitizers need glibc, whose std every toolchain has.
[ "$want" != fuzz ] || exit 0

# No other architecture depends on what rustup has.
if [ "$arch" != x86_64 ]; then
	# Not in its place: the trap above is to run.
	vendor/build-std/sysroot.sh "$arch"
	exit
fi
if [ "$std" != build ] && [ ! -d "$sysroot/lib/rustlib/$target" ] && ! vendor/build-std/sysroot.sh --ready x86_64; then
	say "fetching Rust's $target"
	if ! try3 timeout 300 rustup target add $target; then
		say "not to be had: compiling std here instead"
		std=build
	fi
fi
[ "$std" != build ] || vendor/build-std/sysroot.sh x86_64
