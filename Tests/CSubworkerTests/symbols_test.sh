#!/bin/sh
# The shared library's symbols are the functions of the header: not one more, not one less.
#   symbols_test.sh LIBRARY HEADER
set -eu
exported=$(nm --dynamic --defined-only "$1" | awk '{print $3}' | sort)
declared=$(tr '\n' ' ' <"$2" | grep -o 'CSW_API [a-z_0-9 *]*(' | sed 's/.*[ *]\(csw_[a-z_]*\)(/\1/' | sort)
[ -n "$declared" ]
if [ "$exported" != "$declared" ]; then
    echo "the library exports something else than the header declares (< library, > header):"
    echo "$exported" >exported.txt
    echo "$declared" >declared.txt
    diff exported.txt declared.txt
    exit 1
fi
echo "$(echo "$declared" | wc -l) functions"
