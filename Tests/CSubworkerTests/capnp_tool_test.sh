#!/bin/sh
# What the `capnp` tool encodes, the codec decodes, and the other way round.
#   capnp_tool_test.sh CODEC_TOOL CAPNP SCHEMA
set -eu
tool=$1
capnp=$2
schema=$3

decoded=$("$capnp" encode "$schema" ToSubworker <<'END' | "$tool" decode
(descriptorCount = 1, calls = [
  (slot = 3, template = 4, task = 17, arguments = "[1,2]", ticket = 9, inputs = [
    (key = (session = 1, index = 20), sizeBytes = 5, inline = "hello"),
    (key = (session = 1, index = 21), sizeBytes = 99, descriptor = 0),
    (key = (session = 1, index = 22), sizeBytes = 7, path = "/a/b") ]),
  (slot = 4, template = 4, task = 18) ])
END
)
expected='slot 3 template 4 task 17 arguments [1,2] ticket 9
  object 20 size 5 at 0: hello
  object 21 size 99 at 1: 
  object 22 size 7 at 2: /a/b
slot 4 template 4 task 18 arguments  ticket 0'
if [ "$decoded" != "$expected" ]; then
    printf 'decoded:\n%s\nexpected:\n%s\n' "$decoded" "$expected"
    exit 1
fi

encoded=$("$tool" encode | "$capnp" decode --short "$schema" ToWorker)
expected='(descriptorCount = 0, results = [(slot = 5, durationNanoseconds = 1234, debug = "a line\n", outputs = [(contentType = "text", isDirectory = false, inline = "abc"), (isDirectory = true, path = "/staging/1"), (isDirectory = false, sameAsInput = 3)]), (slot = 6, durationNanoseconds = 0, error = (message = "no such word", detail = "line 3")), (slot = 7, durationNanoseconds = 0, cancelled = void)])'
if [ "$encoded" != "$expected" ]; then
    printf 'encoded:\n%s\nexpected:\n%s\n' "$encoded" "$expected"
    exit 1
fi
