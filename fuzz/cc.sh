#!/bin/bash
# The C compiler for what is fuzzed: clang, with coverage and AddressSanitizer. elfutils links shared libraries on the
# way to its static ones; with a sanitizer they have undefined symbols by design.
args=()
for arg; do
	arg=${arg//,--no-undefined/}
	[ "$arg" = -Wl,-z,defs ] || args+=("$arg")
done
exec clang -g1 -O1 -fno-omit-frame-pointer -fsanitize=address,fuzzer-no-link "${args[@]}" -O1 -Wno-error
