#!/bin/sh
# A subworker with a task of each kind compiles as C++17, 20 and 23, with every warning that a project may have on, and without
# RTTI; by each compiler of the machine.
#   cpp_standards_test.sh COMPILER INCLUDE SOURCE
set -eu
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast -Werror"
compile() {
    # shellcheck disable=SC2086
    "$1" "-std=$2" $warnings -fno-rtti -fsyntax-only "-I$include" "$source" || {
        echo "failed: $1 -std=$2"
        exit 1
    }
}
include=$2 source=$3
for compiler in "$1" clang++; do
    command -v "$compiler" >/dev/null || continue
    for standard in c++17 c++20 c++23; do
        compile "$compiler" "$standard"
    done
done
