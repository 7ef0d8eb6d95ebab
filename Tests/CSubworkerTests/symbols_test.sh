#!/bin/sh
# The binary interface: the shared library exports the functions of the header, not one more and not one less; and every
# function that was there once is there as it was (abi.txt). The reference is that of the header.
#   symbols_test.sh LIBRARY SOURCE
set -eu
cd "$2"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nm --dynamic --defined-only "$1" | awk '{print $3}' | sort >"$work/exported"
scripts/c-reference --abi >"$work/declarations"
grep -o '^[^(]*(' "$work/declarations" | grep -o 'csw_[a-z_0-9]*($' | tr -d '(' | sort >"$work/declared"
[ -s "$work/declared" ]
if ! diff "$work/exported" "$work/declared"; then
    echo "the library exports something else than the header declares (< library, > header)"
    exit 1
fi
if ! diff Tests/CSubworkerTests/abi.txt "$work/declarations"; then
    echo "the functions differ from Tests/CSubworkerTests/abi.txt (< there, > header):"
    echo "a new one: add its line. One that changed or went breaks programs: raise SOVERSION in CMakeLists.txt"
    exit 1
fi
grep -q 'SONAME.*\[libcsubworker.so.0\]' <<END
$(readelf -d "$1")
END
scripts/c-reference --check
