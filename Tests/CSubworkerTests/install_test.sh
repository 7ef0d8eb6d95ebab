#!/bin/sh
# Installs to an empty directory, then builds an example with nothing but what was installed.
#   install_test.sh BUILD SOURCE COMPILER
set -eu
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$1" --prefix "$prefix" >/dev/null
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name csubworker.pc)")
export PKG_CONFIG_PATH
flags=$(pkg-config --define-variable=prefix="$prefix" --cflags --libs csubworker)
# shellcheck disable=SC2086
"$3" -std=c11 -Wall -Wextra -pedantic -Werror "$2" $flags -o "$prefix/hello"
[ "$(wc -l <"$2")" -le 25 ]
library=$(dirname "$(find "$prefix" -name libcsubworker.so)")
status=0
said=$(env -u RAIN_SUBWORKER_SOCKET LD_LIBRARY_PATH="$library" "$prefix/hello" 2>&1) || status=$?
echo "$said"
[ $status = 1 ]
case $said in *"started by hand"*) ;; *) exit 1 ;; esac
