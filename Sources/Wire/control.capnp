# The control plane: what a server and one of its workers say to each other. One ZeroMQ message is one Frame.
#
# The Swift values that it stands for are in Sources/Link/Frame.swift and Sources/TaskModel/ControlMessages.swift.
# Fields are added at the end and never renumbered; a change that an older peer must not misread raises the protocol
# version in Hello.

@0xa262e0a871ee554c;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("rain::control");

struct Frame {
  union {
    hello @0 :Hello;             # the first frame of a worker
    welcome @1 :Welcome;         # the server's answer
    refused @2 :Text;            # or this; the server then forgets the peer
    batch @3 :Batch;             # everything else, either way
    goodbye @4 :Void;            # the last frame of a worker that ends on purpose
  }
}

struct Hello {
  protocolVersion @0 :UInt16;
  incarnation @1 :UInt64;
  lastReceived @2 :UInt64;
  known :union {
    fresh @3 :Void;              # heard of no server yet
    epoch @4 :UInt32;
  }
  hostName @5 :Text;
  processId @6 :UInt32;
  cpus @7 :UInt32;
  dataEndpoint @8 :Endpoint;     # an empty host: the address that the connection comes from
  store @9 :Text;
  worker @11 :UInt32;            # as which the server of that epoch welcomed it last; 0 when none did
  place @10 :UInt64;             # the same for all processes that one parent starts; 0 without a parent
  subworkers @12 :List(Text);    # names of those that it offers to every session, beside what it runs itself
  predecessor @13 :Predecessor;  # null when no process of its place ended before its time
}

struct Predecessor {             # a worker's process that its parent has seen end
  end @0 :Text;                  # how, for people
  running @1 :List(Attempt);     # what it ran then
}

struct Endpoint {
  host @0 :Text;
  port @1 :UInt16;
}

struct Welcome {
  epoch @0 :UInt32;
  worker @1 :UInt32;
  lastReceived @2 :UInt64;
  dataSecret @3 :Data;
  isRestored @4 :Bool;           # the worker keeps what it has and hands it over
}

struct Batch {
  epoch @0 :UInt32;
  incarnation @1 :UInt64;
  sequence @2 :UInt64;
  acknowledged @3 :UInt64;
  union {
    empty @4 :Void;              # only acknowledges, or shows life
    toWorker @5 :List(ServerMessage);
    toServer @6 :List(WorkerMessage);
  }
}

struct Attempt {
  session @0 :UInt32;
  task @1 :UInt32;
  epoch @2 :UInt32;
  number @3 :UInt32;
}

struct Replica {                 # one object's bytes of one generation
  session @0 :UInt32;
  object @1 :UInt32;
  epoch @2 :UInt32;
  number @3 :UInt32;
}

# Server to worker.

struct ServerMessage {
  union {
    session @0 :Session;
    template @1 :Template;
    assign @2 :Assignment;
    revoke @3 :Attempt;
    cancel @4 :Attempt;
    drop @5 :List(Replica);
    closeSession @6 :UInt32;
    provide @7 :List(Assignment.Input);
  }
}

struct Session {
  id @0 :UInt32;
  subworkers @1 :List(Command);
}

struct Command {
  name @0 :Text;
  arguments @1 :List(Text);
  environment @2 :List(Text);
}

struct Template {
  session @0 :UInt32;
  index @1 :UInt32;
  type @2 :Text;
  name @3 :Text;
  config @4 :Data;
  inputLabels @5 :List(Text);
  constants @6 :List(UInt32);
  outputs @7 :List(Output);
  cpus @8 :UInt32;
  rerun @9 :Rerun;
  retryCountMax @10 :UInt32;
  origin @11 :Text;
  attributes @12 :Data;
  program @13 :Program;          # when the session brought its subworker along
  threads @14 :UInt32;           # calls of it that may run at once in one process, where its subworker leaves that to the task

  enum Rerun {
    onLoss @0;
    always @1;
    never @2;
  }
  struct Output {
    label @0 :Text;
    contentType @1 :Text;
    isDirectory @2 :Bool;
    isKept @3 :Bool;
  }
}

struct Program {                 # a subworker that is an object of the session; the last input of every task of the template
  object @0 :UInt32;
  path @1 :Text;                 # in the directory that the object is; empty for a file
  arguments @2 :List(Text);
  environment @3 :List(Text);
}

struct Assignment {
  session @0 :UInt32;            # of the attempt, like the next three, and of the template
  task @1 :UInt32;
  epoch @2 :UInt32;
  number @3 :UInt32;
  template @4 :UInt32;
  firstOutput @5 :UInt32;
  arrayIndex @6 :UInt32;
  arguments @7 :Data;
  name @8 :Text;
  inputs @9 :List(Input);
  lossCount @10 :UInt16;         # how many workers were lost while they ran the task

  struct Input {
    session @0 :UInt32;          # of the replica, like the next three
    object @1 :UInt32;
    epoch @2 :UInt32;
    number @3 :UInt32;
    sizeBytes @4 :UInt64;
    contentType @5 :Text;
    isDirectory @6 :Bool;
    union {
      held @7 :Void;
      inline @8 :Data;
      expect @9 :Attempt;
      fetch @10 :List(Endpoint);
    }
    attributes @11 :Data;        # JSON text of the object's user attributes
  }
}

# Worker to server.

struct WorkerMessage {
  union {
    started @0 :Attempt;
    finished @1 :Finished;
    failed @2 :Failed;
    cancelled @3 :Attempt;
    revoked @4 :Revoked;
    replicated @5 :Replica;
    sessionClosed @6 :UInt32;
    missing @7 :Replica;
    knows @8 :UInt32;            # from here on: the handover to a restarted server
    runs @9 :Attempt;
    holds @10 :List(Replica);
    handedOver @11 :Void;
    progress @12 :List(Progress);  # of running attempts, at any time; the newest of each
  }
}

struct Finished {
  session @0 :UInt32;            # of the attempt, like the next three
  task @1 :UInt32;
  epoch @2 :UInt32;
  number @3 :UInt32;
  startedUnixMicroseconds @4 :UInt64;
  durationNanoseconds @5 :UInt64;
  debug @6 :Text;
  attributes @7 :Data;
  outputs @8 :List(Output);

  struct Output {
    sizeBytes @0 :UInt64;
    contentType @1 :Text;
    attributes @2 :Data;
    isDirectory @3 :Bool;
    union {
      stored @4 :Void;           # the worker has it
      inline @5 :Data;
    }
  }
}

struct Failed {
  attempt @0 :Attempt;
  cause @1 :Cause;
  message @2 :Text;
  detail @3 :Text;
  debug @4 :Text;
  exitCode @5 :Int32;            # when hasExitCode
  signal @6 :Int32;              # when hasSignal
  hasExitCode @7 :Bool;
  hasSignal @8 :Bool;
  host @9 :Text;

  enum Cause {
    user @0;
    crash @1;
    workerLost @2;
    outOfMemory @3;
    timeout @4;
    preempted @5;
    setup @6;
    dependency @7;
    resource @8;
    contract @9;
  }
}

struct Progress {
  session @0 :UInt32;            # of the attempt, like the next three
  task @1 :UInt32;
  epoch @2 :UInt32;
  number @3 :UInt32;
  millionths @4 :UInt32;
  text @5 :Text;
}

struct Revoked {
  attempt @0 :Attempt;
  wasTakenBack @1 :Bool;
}
