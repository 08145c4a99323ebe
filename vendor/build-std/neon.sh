#!/bin/bash
# neon.sh FILE: fails when the armv7 program FILE, not stripped, has an instruction that boards without NEON do not know.
# NEON's registers are q0 to q15, and d16 to d31 are missing there too. Only a file with symbols can be asked: without
# those that mark data, data is read as instructions. udiv and sdiv are missing on the first ARMv7 cores.
set -euo pipefail
nm=$(arm-linux-gnueabihf-nm --special-syms "$1" 2>/dev/null | grep -c ' \$[adt]' || true)
[ "$nm" -gt 0 ] || { echo "neon: $1 has no symbols that tell code from data" >&2; exit 2; }
# gcc's unwinder has a function for registers that only frames with such registers name; there are none.
arm-linux-gnueabihf-objdump -d "$1" | awk -F '\t' '
	/^[0-9a-f]+ <.*>:$/ { spared = /<__gnu_Unwind_(Save|Restore)_VFP_D_16_to_31>/ }
	!spared && NF >= 3 && $3 !~ /^\.(word|short|byte)/ {
		code++
		operands = $4
		sub(/[@;].*/, "", operands)
		if ($3 ~ /^(udiv|sdiv)/ || operands ~ /(^|[^a-z0-9_])(q[0-9]|q1[0-5]|d1[6-9]|d2[0-9]|d3[01])([^0-9a-z]|$)/ ||
			$3 ~ /^(vld[1-4]|vst[1-4])\./ || $3 ~ /^v[a-z]+\.[isup](8|16)/) {
			if (++bad <= 10) print "neon: " $0
		}
	}
	END {
		print "neon: " code + 0 " instructions, " bad + 0 " that need NEON, 32 registers or a divider"
		exit bad || code < 100000
	}' >&2
