#!/bin/bash
# tests/vm/matrix.sh fetch NAME | boot NAME[/VARIANT] DIRECTORY: a kernel of tests/vm/kernels.txt, fetched into the cache, or
# booted with nodeprobe in a machine without disks; tests/matrix.rs calls it and judges what comes out.
# boot leaves in DIRECTORY: console (the kernel's), output (of tests/vm/matrix-guest.sh), qemu (its own words).
#   NODEPROBE_VM_CACHE=~/.cache/nodeprobe/kernels   where kernels are kept (40 to 110 MB each); suites vanish, what is here stays
#   BINARY=dist/nodeprobe    the agent for kernels of this machine's kind; else dist/ARCH/nodeprobe
#   SECONDS_MAX=600          how long a machine may run
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
cache=${NODEPROBE_VM_CACHE:-${HOME:-/root}/.cache/nodeprobe/kernels}
what=${1:-} name=${2:-}
variant=${name#*/}
[ "$variant" != "$name" ] || variant=plain
name=${name%%/*}

say() { echo "matrix: $*" >&2; }
die() { say "$@"; exit 1; }
try3() { local n; for n in 1 2 3; do "$@" && return; say "attempt $n failed: $*"; sleep 3; done; return 1; }

read -r _ arch suites package < <(awk -v name="$name" '$1 == name' "$here/kernels.txt") || die "no kernel '$name' in tests/vm/kernels.txt"
case $arch in
amd64) qemu=qemu-system-x86_64 kind=x86_64 ;;
arm64) qemu=qemu-system-aarch64 kind=aarch64 ;;
armhf) qemu=qemu-system-arm kind=armv7 ;;
esac
tree=$cache/$name

# An apt of our own, with its own lists: the machine's sources, packages and keys stay as they are.
apt_root() {
	local root=$cache/apt/$name mirror="" security="" proxies keys=/usr/share/keyrings/debian-archive-keyring.gpg suite
	if grep -qs '^ID=debian' /etc/os-release; then
		mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep debian | sort -u)
		security=$(grep security <<<"$mirror" | head -n 1) || true
		mirror=$(grep -v security <<<"$mirror" | head -n 1) || true
	fi
	# Its way to the network holds for us too.
	proxies=$(apt-config dump | grep -iE '^Acquire::https?' || true)
	mirror=${mirror:-http://deb.debian.org/debian} security=${security:-http://deb.debian.org/debian-security}
	[ -e $keys ] || die "no $keys: install debian-archive-keyring"
	mkdir -p "$root"/{etc/apt.conf.d,etc/preferences.d,etc/sources.list.d,lists/partial,archives/partial}
	: >"$root/status"
	for suite in ${suites//,/ }; do
		case $suite in
		*-security) echo "deb [arch=$arch signed-by=$keys] $security $suite main" ;;
		*) echo "deb [arch=$arch signed-by=$keys] $mirror $suite main" ;;
		esac
	done >"$root/etc/sources.list"
	cat >"$root/apt.conf" <<-END
		Dir::Etc "$root/etc"; Dir::Etc::sourcelist "$root/etc/sources.list"; Dir::Etc::sourceparts "$root/etc/sources.list.d";
		Dir::Etc::Parts "$root/etc/apt.conf.d"; Dir::State::lists "$root/lists"; Dir::State::status "$root/status";
		Dir::Cache "$root"; Dir::Cache::archives "$root/archives"; Dir::State::extended_states "$root/extended";
		APT::Architecture "$arch"; APT::Architectures { "$arch"; }; Acquire::Languages "none"; Acquire::Retries "2";
		Acquire::Check-Valid-Until "false"; APT::Sandbox::User "root"; Debug::NoLocking "true";
		Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
		$proxies
	END
	# Only from here on: what is above asks the machine's own apt nothing.
	export APT_CONFIG=$root/apt.conf
	# A suite that is gone does not keep the others from being asked.
	apt-get -qq update >/dev/null 2>"$root/update.log" || [ -n "$(ls "$root/lists" | grep Packages)" ]
}

# The newest kernel that the package stands for and that the mirror has. Indexes may be newer than what they list.
fetch() {
	[ ! -s "$tree/version" ] || return 0
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9
	[ ! -s "$tree/version" ] || return 0
	say "fetching $name ($package of $suites)"
	try3 apt_root || die "no lists of packages for $name: $(tail -n 1 "$cache/apt/$name/update.log")"
	local new=$tree.new version release set file
	for version in $(apt-cache madison "$package" | awk '{print $3}'); do
		release=$(apt-cache show "$package=$version" | sed -n 's/^Depends:.*linux-image-\([0-9][^ ,]*\).*/\1/p' | head -n 1)
		# From 6.19 on what boots and its modules are packages of their own.
		for set in "linux-image-$release" "linux-binary-$release linux-modules-$release" "linux-image-$release-unsigned"; do
			rm -rf "$new"
			mkdir -p "$new/debs" "$new/root"
			(cd "$new/debs" && apt-get -qq download $set) >"$new/log" 2>&1 || continue
			for file in "$new"/debs/*.deb; do dpkg-deb -x "$file" "$new/root"; done
			file=$(ls "$new"/root/boot/vmlinuz-* "$new"/root/usr/lib/modules/*/vmlinuz 2>/dev/null | head -n 1)
			[ -n "$file" ] || continue
			mv "$file" "$new/vmlinuz"
			mv "$(ls -d "$new"/root/lib/modules/* "$new"/root/usr/lib/modules/* 2>/dev/null | head -n 1)" "$new/modules"
			rm -rf "$new/debs" "$new/root" "$new/log"
			echo "$release ($version)" >"$new/version"
			rm -rf "$tree"
			mv "$new" "$tree"
			rm -rf "$cache/apt/$name"
			return 0
		done
	done
	rm -rf "$new"
	return 1
}

variant() {
	# What it takes, for the guest; kernel arguments on stdout.
	local file=$1/variant confine='/bin/confine'
	echo 'run="" enter="" flags=""' >"$file"
	case $variant in
	plain) ;;
	tests) echo 'tests=1' >>"$file" ;;
	no_btf) echo 'mount -t tmpfs none /sys/kernel/btf' >>"$file" ;;
	lockdown) echo lockdown=confidentiality ;;
	no_psi) echo psi=0 ;;
	no_tracefs) echo 'umount /sys/kernel/tracing; umount /sys/kernel/debug/tracing 2>/dev/null; umount /sys/kernel/debug' >>"$file" ;;
	no_taskstats) echo "run='$confine nogeneric --'" >>"$file" ;;
	no_memory) echo cgroup_disable=memory ;;
	no_bpf) echo "run='$confine nobpf --'" >>"$file" ;;
	bpf_caps) echo "run='$confine caps=38,39 --'" >>"$file" ;;
	no_caps) echo "run='$confine caps= --'" >>"$file" ;;
	nobody) echo "run='$confine uid=65534 --'" >>"$file" ;;
	*) die "no variant '$variant'" ;;
	esac
}

# The static busybox of the kernel's kind.
busybox_of() {
	local own
	own=$(command -v busybox || true)
	if [ "$kind" = "$(uname -m)" ] && [ -n "$own" ] && ! ldd "$own" >/dev/null 2>&1; then
		echo "$own"
		return
	fi
	if [ ! -x "$cache/busybox-$kind" ]; then
		mkdir -p "$cache/busybox.$$"
		suites=bookworm try3 apt_root >&2 || return 1
		(cd "$cache/busybox.$$" && try3 apt-get -qq download busybox-static >&2 && dpkg-deb -x ./*.deb .)
		mv "$(ls "$cache/busybox.$$"/bin/busybox "$cache/busybox.$$"/usr/bin/busybox 2>/dev/null | head -n 1)" "$cache/busybox-$kind"
		rm -rf "$cache/busybox.$$" "$cache/apt/$name"
	fi
	echo "$cache/busybox-$kind"
}

# Kernel modules that programs ask for, in the order they are loaded in.
modules() {
	local version file name
	version=$(cut -d' ' -f1 "$tree/version")
	mkdir -p "$1/modules" "$2/tree/lib/modules"
	: >"$1/modules/list"
	[ -n "${MODULES:-}" ] || [ -z "${WITHOUT_PROGRAMS:-}" ] || return 0
	ln -sfn "$tree/modules" "$2/tree/lib/modules/$version"
	[ -e "$tree/modules/modules.dep.bin" ] || PATH=$PATH:/sbin:/usr/sbin depmod -b "$2/tree" "$version"
	for name in ${MODULES:-ext4 xfs ceph}; do
		PATH=$PATH:/sbin:/usr/sbin modprobe -d "$2/tree" -S "$version" --show-depends $name 2>/dev/null || true
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
		name=${file##*/} name=${name%.xz}
		case $file in *.xz) xz -dc "$file" ;; *) cat "$file" ;; esac >"$1/modules/$name"
		echo "$name" >>"$1/modules/list"
	done
	rm -rf "$2/tree"
}

# Files of other programs that programs of ours are attached to.
foreign() {
	local file
	[ "$kind" = "$(uname -m)" ] && [ -z "${WITHOUT_PROGRAMS:-}" ] || return 0
	mkdir -p "$1/usr/lib" "$1/usr/bin"
	for file in /lib/*-linux-gnu/libc.so.6 /lib64/libc.so.6; do [ ! -e "$file" ] || cp -L "$file" "$1/usr/lib/libc.so.6"; done
	file=$(command -v python3) && cp -L "$file" "$1/usr/bin/python3" || true
}

# Test programs of ours, and what they call: TESTS are their files, HERE is where they look for the sources.
programs_of_tests() {
	local root=$1 file name library
	mkdir -p "$root/tests" "$root/usr/bin" "$root/usr/local/bin" "$root$PWD/tests" "$root$(dirname "$AGENT")"
	cp -r tests/support "$root$PWD/tests/"
	cp "$BINARY" "$root$AGENT"
	for file in $TESTS; do
		name=${file##*/}
		cp "$file" "$root/tests/${name%-*}"
		"${LLVM_STRIP:-llvm-strip}" "$root/tests/${name%-*}"
	done
	for name in bash python3 ip nft tc nsenter unshare setpriv mount sysctl dd sleep true; do
		# The system's own, not what a version manager has put in front of it.
		file=$(PATH=/usr/sbin:/usr/bin:/sbin:/bin; type -P $name) || die "no $name, which tests call"
		cp -L "$file" "$root/usr/local/bin/$name"
		for library in $(ldd "$file" | grep -o '/[^ ]*'); do
			mkdir -p "$root$(dirname "$library")"
			cp -nL "$library" "$root$library"
		done
	done
	for name in python3 setpriv; do ln -sf ../local/bin/$name "$root/usr/bin/$name"; done
	# Tests give them other names, by which busybox would be another program.
	for name in sleep true; do mv "$root/usr/local/bin/$name" "$root/bin/"; done
	library=$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
	mkdir -p "$root$library"
	tar -C "$library" --exclude=test --exclude=__pycache__ --exclude=dist-packages --exclude=site-packages --exclude='config-*' \
		--exclude=idlelib --exclude=tkinter --exclude=lib2to3 --exclude=ensurepip -cf - . | tar -C "$root$library" -xf -
	for file in "$library"/lib-dynload/*.so; do ldd "$file"; done 2>/dev/null | grep -o '/[^ ]*' | sort -u | while read -r library; do
		mkdir -p "$root$(dirname "$library")"
		cp -nL "$library" "$root$library"
	done
	# storm.c, the one program that tests compile.
	cc -static -O2 -o "$root/storm" tests/support/storm.c -lpthread
	printf '#!/usr/local/bin/bash\nwhile [ $# -gt 0 ]; do [ "$1" != -o ] || out=$2; shift; done\ncp /storm "$out"\n' >"$root/usr/bin/cc"
	chmod 755 "$root/usr/bin/cc"
	echo "here='$PWD'" >>"$root/variant"
}

boot() {
	local dir=$1 root=$1/root binary arguments busybox
	if [ "$kind" = "$(uname -m)" ]; then binary=${BINARY:-dist/nodeprobe}; else binary=dist/$kind/nodeprobe; fi
	[ -x "$binary" ] || die "no $binary: make build ARCH=$kind"
	command -v $qemu >/dev/null || die "no $qemu"
	rm -rf "$root"
	mkdir -p "$root"/{bin,proc,sys,dev,tmp,run,etc,var/lib/docker}
	busybox=$(busybox_of)
	cp "$busybox" "$root/bin/busybox"
	cp "$binary" "$root/bin/nodeprobe"
	[ "$kind" != "$(uname -m)" ] || "${LLVM_STRIP:-llvm-strip}" "$root/bin/nodeprobe"
	cp "$here/matrix-guest.sh" "$root/init"
	chmod 755 "$root"/bin/* "$root/init"
	echo 11111111111111111111111111111111 >"$root/etc/machine-id"
	grep -v '^#' tests/fixtures/programs.txt | awk '{print $1}' | paste -sd, >"$root/programs"
	cp "${WANTED:-/dev/null}" "$root/wanted"
	modules "$root" "$dir"
	foreign "$root"
	arguments=$(variant "$root")
	[ -z "${WITHOUT_PROGRAMS:-}" ] || echo 'without_programs=1' >>"$root/variant"
	[ -z "${PATIENCE:-}" ] || echo "patience=$PATIENCE" >>"$root/variant"
	[ "$variant" != tests ] || programs_of_tests "$root"
	if grep -q confine "$root/variant"; then cc -static -O2 -o "$root/bin/confine" "$here/confine.c"; fi
	(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$dir/initrd"
	rm -rf "$root"
	: >"$dir/console"
	: >"$dir/output"
	local machine="-accel tcg,thread=multi" serial=ttyS0
	if [ "$variant" = tests ]; then
		truncate -s 128M "$dir/disk"
		machine+=" -drive if=none,id=disk,format=raw,file=$dir/disk -device virtio-blk-pci,drive=disk"
	fi
	case $arch in
	amd64) machine+=" -cpu max -serial file:$dir/console -serial file:$dir/output" ;;
	arm64 | armhf)
		machine+=" -M virt -serial file:$dir/output"
		serial=ttyAMA0
		[ $arch = arm64 ] && machine+=" -cpu cortex-a76" || machine+=" -cpu cortex-a15"
		;;
	esac
	timeout -k 2 "${SECONDS_MAX:-600}" $qemu $machine -nodefaults -display none -no-reboot -smp 2 -m "${MEMORY:-512}" \
		-kernel "$tree/vmlinuz" -initrd "$dir/initrd" \
		-append "console=$serial panic=-1 loglevel=5 $arguments ${KERNEL_ARGS:-}" </dev/null >"$dir/qemu" 2>&1 || true
	rm -f "$dir/initrd" "$dir/disk"
	[ -s "$dir/console" ] || sed '/^@@@ uname/,$d' "$dir/output" >"$dir/console"
}

case $what in
fetch) try3 fetch || die "$name cannot be fetched, and none is in $cache" ;;
boot)
	try3 fetch || die "$name cannot be fetched, and none is in $cache"
	boot "$(realpath -m "${3:?a directory}")"
	;;
*) die "fetch NAME or boot NAME[/VARIANT] DIRECTORY" ;;
esac
