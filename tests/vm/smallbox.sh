#!/bin/bash
# tests/vm/smallbox.sh KERNEL ARCH: nodeprobe on a small machine: 64 MiB of memory, 16 descriptors, a root nobody can write to.
# KERNEL is the file that boots, ARCH x86_64, aarch64 or armv7. Fails when the agent does not start, ends, grows, does not answer,
# or does not say why something is absent. Prints its memory.
#   BINARY=dist/nodeprobe or dist/ARCH/nodeprobe
#   MEMORY=64                MiB of the machine
#   SECONDS_MAX=300          how long it may run
#   OUT=DIRECTORY            keeps what was printed
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
kernel=$(realpath "${1:?the kernel}") arch=${2:?the architecture}
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
out=${OUT:-$run}
mkdir -p "$out" "$run"/root/{dev,proc,sys,var/lib}

binary=dist/$arch/nodeprobe machine="-M virt" serial=ttyAMA0 compiler=""
case $arch in
x86_64) binary=dist/nodeprobe machine="-cpu max" serial=ttyS0 qemu=qemu-system-x86_64 compiler=cc ;;
aarch64) machine+=" -cpu cortex-a76" qemu=qemu-system-aarch64 compiler=aarch64-linux-gnu-gcc ;;
armv7) machine+=" -cpu cortex-a15" qemu=qemu-system-arm compiler=arm-linux-gnueabihf-gcc ;;
*) echo "smallbox: ARCH: x86_64, aarch64 or armv7" >&2; exit 2 ;;
esac
# The C library of build-std for another architecture: the cross compiler alone has none.
if [ "$arch" = x86_64 ]; then
	musl-gcc -static -O2 -Wall -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include -o "$run/root/init" "$here/smallbox.c"
else
	(
		. vendor/build-std/table.sh "$arch"
		NP_GNU=$gnu NP_MUSL_SPECS=$work/musl.specs NP_MUSL_ROOT=$musl_root \
			vendor/build-std/cc.sh $cflags -static -O2 -Wall -o "$run/root/init" "$here/smallbox.c"
	)
fi
install -m 755 "${BINARY:-$binary}" "$run/root/nodeprobe"
(cd "$run/root" && find . | cpio -o -H newc --quiet | gzip -9) >"$run/initrd"
: >"$out/output"
timeout -k 2 "${SECONDS_MAX:-300}" $qemu -accel tcg,thread=multi $machine -nodefaults -display none -no-reboot -smp 1 \
	-m "${MEMORY:-64}" -kernel "$kernel" -initrd "$run/initrd" -append "console=$serial panic=-1 loglevel=1" \
	-serial "file:$out/output" \
	</dev/null >"$out/qemu" 2>&1 || true

said() { tr -d '\r' <"$out/output"; }
fail() {
	echo "smallbox: $*" >&2
	said | grep -v '^[a-z_]*{' | tail -n 60 >&2
	cat "$out/qemu" >&2
	exit 1
}
said | grep -q '^box: done$' || fail "the machine did not get to the end"
said | grep -q '^box: writing to / gives Read-only file system$' || fail "the root is not read-only"
said | grep -q '^box: doctor ended with [0-2]$' || fail "doctor"
said | grep -q '^box: 100 of 100 scrapes answered$' || fail "scrapes without an answer"
# A third of the machine is far more than it takes; growth would show in 75 scrapes.
read -r first last < <(said | sed -n 's/^box: resident \([0-9]*\) kB, then \([0-9]*\) kB.*/\1 \2/p')
[ "$last" -le $((first + 256)) ] || fail "memory grew from $first to $last kB"
[ "$last" -le 20480 ] || fail "$last kB are too much"
said | grep -q '^container_resources_memory_rss_bytes{.*/docker/0123456789ab' || fail "the container is not seen"
# Whatever is not up has its reason, and a sentence for people on stderr.
for collector in $(said | sed -n 's/^nodeprobe_collector_up{collector="\([a-z_]*\)"} 0$/\1/p'); do
	said | grep -q "^nodeprobe_collector_info{collector=\"$collector\",reason=\"[a-z_]*\"} 1$" || fail "$collector has no reason"
	[ "$collector" = programs ] || said | grep "^nodeprobe: " | grep -q "$collector" || fail "nothing is said of $collector"
done
! said | grep -qE 'BUG:|WARNING:|Oops|Out of memory|oom-kill' || fail "the kernel complains"
said | sed -n 's/^box: \(resident.*\|descriptors.*\)/smallbox: \1/p; s/^nodeprobe_collector_info{collector="\([a-z_]*\)",reason="\([a-z_]*\)"} 1$/smallbox: \1 \2/p' | grep -v ' ok$'
