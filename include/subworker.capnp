# The subworker plane: what a worker and one of its subworkers say to each other.
#
# A subworker is a process that a worker starts to run tasks of one kind. It finds in its environment
#
#   RAIN_SUBWORKER_SOCKET    number of an inherited descriptor: a connected Unix stream socket
#   RAIN_SUBWORKER_NAME      the name under which the worker knows it ("wordcount"); its tasks are "wordcount/…"
#   RAIN_CONTROL_PAGE        number of an inherited descriptor of the control page (below); absent when there is none
#
# Both directions carry Cap'n Proto messages in the standard stream framing, unpacked, one ToWorker or ToSubworker each.
# Descriptors travel as SCM_RIGHTS with the first byte of the message that speaks of them; a message states how many it
# brings (`descriptorCount`), so that a reader which takes several messages at once can tell whose they are.
#
# Life: the subworker sends `register`; the worker answers `welcome` or `refused` (then it closes). After that the worker
# sends `templates` and `calls` at will, the subworker answers each call with one result, in any order, several in one
# message. End of stream, or `shutdown`, means: end now. Anything malformed ends the connection.
#
# The control page is one shared page of 64 slots of 64 bytes. A call names its slot; its first word is atomic:
#   0 free   1 queued (the worker, before it sends)   2 running   3 done (the subworker)   4 recalled (the worker)
#   5 at fault (the subworker, if it can, as it crashes: it is this one of the running calls that makes it)
# A subworker takes a call by compare-and-swap from 1 to 2; when it finds 4 it drops the call without an answer. So queued
# calls can be taken back, and when the process dies only what was running is charged for it, or of that only what is at
# fault. Little-endian, by byte offset:
#   0 state  u32    4 cancel u32 (not 0: stop soon)    8 progress u32 (millionths)    12 heartbeat u32 (any change is life)
#  16 ticket u32
# A recalled slot may be used again at once, though its old call is still on the way: the worker then writes another ticket
# to the page before it writes 1, and the same number into the call. A subworker that took a slot whose ticket is not that
# of the call puts the 1 back and drops the call, which is the old one.
# A subworker that does not say `controlPage` in its capabilities is given one call at a time.

@0x97545e66ca5480da;

const protocolVersion :UInt16 = 1;

struct ToWorker {
  descriptorCount @0 :UInt16;
  union {
    register @1 :Register;
    results @2 :List(Result);
    pong @3 :UInt64;
    reserve @4 :Reserve;         # before an output file grows beyond the credit (see Reserve)
    progress @5 :List(Progress); # only to a worker whose welcome takes it
  }
}

struct ToSubworker {
  descriptorCount @0 :UInt16;
  union {
    welcome @1 :Welcome;
    refused @2 :Text;            # why; the worker then closes
    templates @3 :List(Template);
    calls @4 :List(Call);
    dropCached @5 :List(ObjectKey);
    cancel @6 :List(UInt32);     # slots
    ping @7 :UInt64;             # answered by pong with the same number
    shutdown @8 :Void;
    granted @9 :Granted;         # the one answer to each reserve, perhaps only when there is room
  }
}

struct Register {
  protocolVersion @0 :UInt16;
  name @1 :Text;                 # must be the RAIN_SUBWORKER_NAME that it was started under, or empty
  tasks @2 :List(TaskType);
  capabilities @3 :Capabilities;
  library @4 :Text;              # what speaks, for logs: "csubworker 0.1.0", "rain.subworker 0.1.0 (CPython 3.11.2)"
}

struct Capabilities {
  descriptors @0 :Bool;          # takes input as descriptors; else it gets paths
  controlPage @1 :Bool;          # keeps the control page
  threads @2 :UInt16;            # calls that it runs at once; 0 means 1
  caching @3 :Bool;              # remembers inputs that were sent with `keep` and understands `cached`
}

struct TaskType {
  name @0 :Text;                 # "count"; "" takes every task of this subworker
  documentation @1 :Text;
  inputs @2 :List(Text);         # labels; empty when any number is taken
  outputs @3 :List(Text);
  inputContentTypes @4 :List(Text);  # in the order of the labels, "" for any; may be shorter than the labels
  outputContentTypes @5 :List(Text);
}

struct Welcome {
  protocolVersion @0 :UInt16;
  workerName @1 :Text;           # for logs
  stagingDirectory @2 :Text;     # absolute; outputs that are files are made here, and nowhere else
  inlineBytesMax @3 :UInt32;     # larger outputs must be files
  creditBytes @4 :UInt64;        # what the output files of one call may take together without a reserve; 0: reserve is not understood
  takesProgress @5 :Bool;        # understands `progress`
  logLevel @6 :UInt8;            # what is worth a line in the log: 1 errors, 2 warnings, 3 information, 4 debugging; 0: not said
}

struct Progress {                # how far a running call is; a later one replaces an earlier one
  slot @0 :UInt32;
  millionths @1 :UInt32;         # as on the control page
  text @2 :Text;                 # one line; empty when there is nothing to say
}

# Memory is counted before it is used. A subworker that is about to make an output file, or to let one grow, so that the files of its
# call take more than the credit, asks first and waits for the answer; a call goes on when it comes. One that never asks still works:
# its files then share what the worker keeps free, and a write to a full store fails with ENOSPC.
# What was reserved is given back when the call is answered or its process has ended.
struct Reserve {
  slot @0 :UInt32;               # of the call, which is running
  id @1 :UInt32;                 # the subworker's own number for the file among those of its connection that wait or were granted
  sizeBytes @2 :UInt64;          # of the whole file from now on; asked again with the same id it replaces what was granted before;
                                 # asked for the size that was granted, it tells that there was no space in memory after all;
                                 # 0: the file is not made after all, which has no answer
}

struct Granted {
  id @0 :UInt32;
  union {
    directory @1 :Text;          # absolute; the file is made there. It is the staging directory, or one on disk when memory has no room;
                                 # a file that was begun in another is copied there and goes on
    refused @2 :Text;            # why, for the task's error
  }
}

struct ObjectKey {               # one object's bytes of one generation
  session @0 :UInt32;
  index @1 :UInt32;
  epoch @2 :UInt32;
  number @3 :UInt32;
}

struct Template {                # what calls share; sent once, before the first call that names it
  id @0 :UInt32;                 # the worker's number for it on this connection
  method @1 :Text;               # the task's name, as registered
  name @2 :Text;                 # what people call it
  config @3 :Data;               # JSON text of the client
  inputLabels @4 :List(Text);
  outputs @5 :List(Output);
  attributes @6 :Data;           # JSON text of the client
  constantCount @7 :UInt16;      # how many of the first inputs of every call are the template's own constants

  struct Output {
    label @0 :Text;
    contentType @1 :Text;
    isDirectory @2 :Bool;
  }
}

struct Call {
  slot @0 :UInt32;               # 0…63, free until its result was read
  template @1 :UInt32;
  session @2 :UInt32;
  task @3 :UInt32;
  epoch @4 :UInt32;
  attempt @5 :UInt32;
  arguments @6 :Data;            # JSON text of the row
  inputs @7 :List(Input);        # the template's constants, then the row's inputs
  arrayIndex @8 :UInt32;
  ticket @9 :UInt32;             # of the slot when this call was queued (see the control page); 0 is not compared
}

struct Input {
  key @0 :ObjectKey;
  sizeBytes @1 :UInt64;
  contentType @2 :Text;
  isDirectory @3 :Bool;
  keep @4 :Bool;                 # remember it under its key: it will come as `cached`
  attributes @5 :Data;           # JSON text
  union {
    inline @6 :Data;
    descriptor @7 :UInt16;       # which of the message's descriptors; read-only
    path @8 :Text;               # absolute; read-only file or directory
    cached @9 :Void;
  }
}

struct Result {
  slot @0 :UInt32;
  durationNanoseconds @1 :UInt64;  # of the task's own code
  debug @2 :Text;                  # lines
  attributes @3 :Data;             # JSON text of the task's own
  union {
    outputs @4 :List(OutputValue); # as many as the template has
    error @5 :Error;
    cancelled @6 :Void;
  }
}

struct OutputValue {
  contentType @0 :Text;          # empty: as declared
  attributes @1 :Data;           # JSON text
  isDirectory @2 :Bool;
  union {
    inline @3 :Data;
    path @4 :Text;               # in the staging directory or in one that was granted; the worker moves it away
    sameAsInput @5 :UInt16;      # position among the call's inputs
  }
}

struct Error {
  message @0 :Text;              # one line where possible
  detail @1 :Text;               # traceback
}
