#!/bin/sh
# Installs to an empty directory, moves it, and builds programs with nothing but what was installed: by pkg-config with the
# shared and the static library, by CMake, and by a copy of the library in one file; by CMake from the build folder; and, with
# the sources, as a part of another project. Each runs under a host.
#   install_test.sh BUILD SOURCES GREET C_COMPILER CXX_COMPILER
set -eu
build=$1 sources=$2 greet=$3 c=$4 cxx=$5
examples=$sources/examples
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/first" >/dev/null
# What is installed must not remember where.
mv "$work/first" "$work/prefix"
prefix=$work/prefix
hello=$examples/hello/hello.c
hellopp=$examples/hello/hello.cpp
[ "$(wc -l <"$hello")" -le 25 ]
mkdir "$work/empty"
cd "$work/empty"
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name csubworker.pc)")
libraries=$(dirname "$(find "$prefix" -name libcsubworker.a)")
export PKG_CONFIG_PATH
strict="-Wall -Wextra -pedantic -Werror"

echo "pkg-config"
# shellcheck disable=SC2046,SC2086
"$c" -std=c11 $strict "$hello" $(pkg-config --cflags --libs csubworker) -Wl,-rpath,"$libraries" -o by_pkg_config
# shellcheck disable=SC2046,SC2086
"$c" -std=c11 $strict "$hello" $(pkg-config --cflags csubworker) -pthread "$libraries/libcsubworker.a" -o by_archive
# shellcheck disable=SC2046,SC2086
"$cxx" -std=c++17 $strict "$hellopp" $(pkg-config --cflags --libs csubworker) -Wl,-rpath,"$libraries" -o in_cxx
"$greet" ./by_pkg_config ./by_archive ./in_cxx

echo "find_package"
cp "$hello" "$hellopp" .
cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.21)
project(mine LANGUAGES C CXX)
set(CMAKE_CXX_STANDARD 17)
find_package(csubworker 0.2 REQUIRED)
add_executable(by_cmake hello.c)
target_link_libraries(by_cmake PRIVATE csubworker::csubworker)
add_executable(by_cmake_static hello.cpp)
target_link_libraries(by_cmake_static PRIVATE csubworker::csubworker_static)
END
cmake -S . -B b -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$c" -DCMAKE_CXX_COMPILER="$cxx" >/dev/null
cmake --build b >/dev/null
"$greet" b/by_cmake b/by_cmake_static

echo "find_package in the build folder"
cmake -S . -B from_build -Dcsubworker_DIR="$build" -DCMAKE_C_COMPILER="$c" -DCMAKE_CXX_COMPILER="$cxx" >/dev/null
cmake --build from_build >/dev/null
"$greet" from_build/by_cmake from_build/by_cmake_static

echo "add_subdirectory"
mkdir sub
cat >sub/CMakeLists.txt <<END
cmake_minimum_required(VERSION 3.21)
project(mine LANGUAGES C)
add_subdirectory($sources rain)
add_executable(by_subdirectory $hello)
target_link_libraries(by_subdirectory PRIVATE csubworker::csubworker_static)
END
cmake -S sub -B sub/b -DCMAKE_C_COMPILER="$c" >/dev/null
cmake --build sub/b --target by_subdirectory >/dev/null
"$greet" sub/b/by_subdirectory

echo "a copy"
mkdir copy
cp "$prefix"/share/csubworker/csubworker.[ch] "$hello" copy
# shellcheck disable=SC2086
"$c" -std=c11 $strict -Icopy -pthread copy/hello.c copy/csubworker.c -o by_copy
"$greet" ./by_copy

said=$(env -u RAIN_SUBWORKER_SOCKET ./by_copy 2>&1) && exit 1
case $said in *"started by hand"*) ;; *) exit 1 ;; esac
