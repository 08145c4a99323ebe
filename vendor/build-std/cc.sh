#!/bin/sh
# C compiler for musl made of the GNU one. NP_MUSL_SPECS, NP_MUSL_ROOT and NP_GNU come from cargo.sh.
# Kernel headers last, so that nothing of glibc shadows musl. Not for linking static-pie: its specs only know -static.
exec "$NP_GNU-gcc" -specs="$NP_MUSL_SPECS" "$@" \
	-idirafter "$NP_MUSL_ROOT/usr/include/$NP_GNU" -idirafter "$NP_MUSL_ROOT/usr/include"
