#!/bin/bash
# vendor/bpf.sh X.bpf.c [X.bpf.o]: compile a BPF program of your own with the headers of this project.
#  - vmlinux.h is made from the running kernel's types, or from those in the file BTF; it is kept until the kernel changes.
#  - <bpf/...> is the libbpf that nodeprobe is linked with.
#  - bpf/include has maps.bpf.h and its like; files of that name beside the source come first.
# What is made, but for the object, is below target/bpf.
set -eu
source=$(realpath "$1") object=$(realpath -m "${2:-${1%.c}.o}") btf=${BTF:-/sys/kernel/btf/vmlinux}
cd "$(dirname "$0")/.."
made=$(realpath -m "${CARGO_TARGET_DIR:-target}")/bpf
PATH=$PATH:/usr/sbin:/sbin

[ -r "$btf" ] || {
	echo "bpf: no $btf: this kernel does not tell its types (CONFIG_DEBUG_INFO_BTF=y). Give those of another: BTF=file" >&2
	exit 1
}
mkdir -p "$made"
stamp="$btf $(uname -rv) $(stat -Lc '%s %Y' "$btf")"
if [ ! -s "$made/vmlinux.h" ] || [ "$stamp" != "$(cat "$made/vmlinux.stamp" 2>/dev/null)" ]; then
	bpftool btf dump file "$btf" format c >"$made/vmlinux.h.new"
	mv "$made/vmlinux.h.new" "$made/vmlinux.h"
	echo "$stamp" >"$made/vmlinux.stamp"
fi

libbpf=$(vendor/cargo.sh metadata --locked --format-version 1 | grep -o '"manifest_path":"[^"]*/libbpf-sys-[^"]*"' | cut -d'"' -f4)
ln -sfn "$(dirname "$libbpf")/libbpf/src" "$made/bpf"

case $(uname -m) in
x86_64) arch=x86 ;;
aarch64) arch=arm64 ;;
arm*) arch=arm ;;
*) arch=$(uname -m) ;;
esac
${CLANG:-clang} -g -O2 -target bpf -mcpu=v3 -Wall -D__TARGET_ARCH_$arch ${CFLAGS:-} \
	-I "$made" -I bpf/include -idirafter "/usr/include/$(uname -m)-linux-gnu" -c "$source" -o "$object"
${LLVM_STRIP:-llvm-strip} -g "$object"
