#!/bin/bash
# vendor/syscalls.sh >src/decoders/syscall_names.rs: the kernel's names of system calls, from the headers of this machine.
# `make syscalls` calls it. x86_64 and arm come from headers of their own, aarch64 from the one that all newer architectures
# share, read as that architecture reads it. Calls that are newer than the headers are listed here by hand.
set -euo pipefail

# Until Linux 6.17. From 424 on numbers are the same on every architecture.
newer="451 cachestat 452 fchmodat2 453 map_shadow_stack 454 futex_wake 455 futex_wait 456 futex_requeue 457 statmount
458 listmount 459 lsm_get_self_attr 460 lsm_set_self_attr 461 lsm_list_modules 462 mseal 463 setxattrat 464 getxattrat
465 listxattrat 466 removexattrat 467 open_tree_attr 468 file_getattr 469 file_setattr"

# table ARCHITECTURE HEADER MORE CPP-FLAGS: one word per number, - where there is no call.
table() {
	local architecture=$1 header=$2 more="$newer $3"
	shift 3
	printf '\n/// Of %s.\n#[cfg(any(test, target_arch = "%s"))]\n' "$architecture" "$architecture"
	printf '#[rustfmt::skip]\npub const %s: &str = "\\\n' "${architecture^^}"
	# cpp -dM prints macros unexpanded, so aliases such as "fcntl __NR3264_fcntl" are followed by hand.
	# arm writes its numbers as (__NR_SYSCALL_BASE + 3).
	{ echo "#include <$header>" | cpp "$@" -dM -P - | sed 's/(__NR_SYSCALL_BASE *+ *\([0-9]*\))/\1/' |
		awk '/^#define __NR(3264)?_/ { print $2, $3 }'
	  echo "$more" | xargs -n 2 | awk '{ print "__NR_" $2, $1 }'; } |
	awk '{ is[$1] = $2 }
	     END { for (n in is) {
	               if (n !~ /^__NR_/ || n ~ /^__NR_(syscalls|arch_specific_syscall|(OABI_)?SYSCALL_BASE|SYSCALL_MASK)$/) continue
	               v = is[n]; if (v in is) v = is[v]
	               if (v ~ /^[0-9]+$/) { name[v] = substr(n, 6); if (v + 0 > max) max = v + 0 } }
	           for (i = 0; i <= max; i++) print (i in name) ? name[i] : "-" }' |
	fmt -w 108 | sed 's/$/ \\/; $s/ \\$/";/'
}

cat <<'HEAD'
//! Names of system calls by number, as the kernel's headers have them: one word per number, `-` where there is none.
//!
//! Made by `make syscalls` (vendor/syscalls.sh) from the headers of Linux; do not edit.
HEAD
table x86_64 asm/unistd_64.h "335 uretprobe"
# What arch/arm64/include/uapi/asm/unistd.h defines before it includes the shared header.
table aarch64 asm-generic/unistd.h "" -D__BITS_PER_LONG=64 -D__ARCH_WANT_RENAMEAT -D__ARCH_WANT_NEW_STAT \
	-D__ARCH_WANT_SET_GET_RLIMIT -D__ARCH_WANT_TIME32_SYSCALLS -D__ARCH_WANT_SYS_CLONE3 -D__ARCH_WANT_MEMFD_SECRET
# Debian's cross headers (linux-libc-dev-armhf-cross).
table arm asm/unistd.h "" -D__ARM_EABI__ -nostdinc -idirafter /usr/arm-linux-gnueabihf/include
