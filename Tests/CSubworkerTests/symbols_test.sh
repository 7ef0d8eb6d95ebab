#!/bin/sh
# The shared library's symbols are the functions of the header: not one more, not one less.
# And the reference names each of them.
#   symbols_test.sh LIBRARY HEADER REFERENCE
set -eu
exported=$(nm --dynamic --defined-only "$1" | awk '{print $3}' | sort)
declared=$(sed '/^#/d' "$2" | tr '\n' ' ' | grep -o 'CSW_API [a-z_0-9 *]*(' | sed 's|.*[ *]\(csw_[a-z_]*\)(|\1|' | sort)
[ -n "$declared" ]
if [ "$exported" != "$declared" ]; then
    echo "the library exports something else than the header declares (< library, > header):"
    echo "$exported" >exported.txt
    echo "$declared" >declared.txt
    diff exported.txt declared.txt
    exit 1
fi
# The tables shorten csw_input_label, csw_input_size to `csw_input_label`, `_size`.
for name in $declared; do
    short=$(echo "$name" | sed 's/csw_\(input\|output\|call\)_/_/')
    grep -q "$name" "$3" || grep -q "\`$short\`" "$3" || {
        echo "$3 does not mention $name"
        exit 1
    }
done
echo "$(echo "$declared" | wc -l) functions"
