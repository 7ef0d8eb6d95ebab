#!/bin/sh
# Each mistake in cpp_errors.cpp is an error whose sentence the compiler prints; without a mistake it compiles.
#   cpp_errors_test.sh COMPILER INCLUDE SOURCE
set -eu
"$1" -std=c++17 -fsyntax-only -I"$2" -DCASE=0 "$3"
count=0
while IFS= read -r line; do
    case $line in *'CASE == '*) ;; *) continue ;; esac
    number=${line#*CASE == }
    sentence=${number#* // }
    number=${number%% *}
    if said=$("$1" -std=c++17 -fsyntax-only -I"$2" -DCASE="$number" "$3" 2>&1); then
        echo "case $number compiles"
        exit 1
    fi
    case $said in
    *"csw: "*"$sentence"*) ;;
    *)
        echo "case $number does not say: $sentence"
        echo "$said"
        exit 1
        ;;
    esac
    count=$((count + 1))
done <"$3"
[ $count = 8 ]
