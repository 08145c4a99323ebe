#!/bin/bash
# tests/vm/run.sh [DIRECTORY [SCRIPT]]: nodeprobe in a virtual machine with systemd, docker and podman on cgroup v2 alone, which many
# machines for development are not. By hand, as root, after `make build`; four to eight minutes without KVM. DIRECTORY keeps
# the machine's disk (2 GB) for the next time. SCRIPT is what the machine does: guest.sh, or unit.sh for the systemd unit, three
# minutes. Ends with 0 when every figure is right.
#   SUITE=trixie      Debian's suite, whose kernel, systemd, docker and podman (4.4 or later) are taken
#   BINARY=dist/nodeprobe
#   KVM=1             with /dev/kvm, which many virtual machines have and cannot use
#   SECONDS_MAX=900   how long the machine may run
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
work=$(realpath -m "${1:-/var/tmp/nodeprobe-vm}") script=${2:-guest.sh} suite=${SUITE:-trixie} binary=$(realpath "${BINARY:-dist/nodeprobe}")
vendor/setup.sh vm
disk=$work/$suite.ext4
mkdir -p "$work"
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT

if [ ! -e "$disk" ]; then
	tree=$work/$suite
	rm -rf "$tree"
	mmdebstrap --quiet --variant=minbase --skip=check/qemu --include="systemd systemd-sysv dbus udev kmod procps iproute2
		iptables linux-image-cloud-amd64 initramfs-tools docker.io docker-cli containerd runc podman crun conmon netavark
		busybox-static curl gawk" "$suite" "$tree"
	# Instead of a person: takes the tests from the second disk, leaves their exit code, and switches off.
	cat >"$tree/etc/systemd/system/test.service" <<-'END'
		[Unit]
		After=multi-user.target
		[Service]
		Type=oneshot
		ExecStart=/bin/sh -c 'mkdir -p /opt/test; tar -C /opt/test -xf /dev/vdb; /opt/test/guest.sh >/dev/ttyS1 2>&1; echo "exit $?" >/dev/ttyS1'
		ExecStopPost=/bin/systemctl poweroff -ff
	END
	printf '[Unit]\nRequires=multi-user.target\nAfter=multi-user.target\nWants=test.service\n' >"$tree/etc/systemd/system/test.target"
	echo '/dev/vda / ext4 defaults 0 0' >"$tree/etc/fstab"
	cp "$tree"/boot/vmlinuz-* "$work/$suite.kernel"
	cp "$tree"/boot/initrd.img-* "$work/$suite.initrd"
	truncate -s 3G "$disk.new"
	/sbin/mke2fs -q -t ext4 -d "$tree" -F "$disk.new"
	mv "$disk.new" "$disk"
	rm -rf "$tree"
fi

cp "$here/$script" "$run/guest.sh"
clang -g -O2 -target bpf -mcpu=v3 -Wall -Werror -c "$here/execs.bpf.c" -o "$run/execs.bpf.o"
tar -cf "$run/tests.tar" -C "$run" guest.sh execs.bpf.o -C "$here" execs.yaml -C "$PWD/deploy" nodeprobe.service nodeprobe.socket \
	-C "$(dirname "$binary")" nodeprobe
truncate -s %1M "$run/tests.tar"
accel="-accel tcg,thread=multi -cpu max"
[ -z "${KVM:-}" ] || accel="-accel kvm -cpu host"
began=$(date +%s)
# What is written goes nowhere: the disk is as new the next time.
timeout -k 2 "${SECONDS_MAX:-900}" qemu-system-x86_64 $accel -nodefaults -display none -no-reboot -smp 2 -m 2048 \
	-kernel "$work/$suite.kernel" -initrd "$work/$suite.initrd" \
	-append "root=/dev/vda console=ttyS0 panic=-1 quiet apparmor=0 systemd.unit=test.target" \
	-serial "file:$run/console" -serial "file:$run/output" \
	-drive "file=$disk,format=raw,snapshot=on,if=none,id=d0,cache=unsafe" -device virtio-blk-pci,drive=d0 \
	-drive "file=$run/tests.tar,format=raw,readonly=on,if=none,id=d1" -device virtio-blk-pci,drive=d1 </dev/null || true
tr -d '\r' <"$run/output"
echo "$(($(date +%s) - began)) seconds"
if ! grep -aq '^exit [0-9]' "$run/output"; then
	echo "the machine did not get to the end; its console:" >&2
	tail -n 30 "$run/console" >&2
	exit 1
fi
tr -d '\r' <"$run/output" | grep -aqx 'exit 0'
