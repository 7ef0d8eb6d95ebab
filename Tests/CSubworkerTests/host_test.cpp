// Subworkers as a worker meets them.  host_test EVERY_TASK HELLO WORDCOUNT
#include "host.hpp"

#include <fcntl.h>
#include <random>
#include <sched.h>
#include <sys/mount.h>

using namespace host;

namespace {

std::string everyTask, hello, wordcount;

std::string patterned(size_t size) {
    std::string bytes(size, 0);
    for (size_t i = 0; i < size; i += 1)
        bytes[i] = static_cast<char>(static_cast<unsigned char>(i * 31 + i / 4096));
    return bytes;
}

Options withoutPage() {
    Options options;
    options.hasPage = false;
    return options;
}

Options unwelcomed() {
    Options options;
    options.isWelcomed = false;
    return options;
}

bool contains(const std::string &text, const std::string &part) {
    return text.find(part) != std::string::npos;
}

/// Runs a program by hand; its exit status and what it said.
std::pair<int, std::string> byHand(const std::string &command) {
    FILE *pipe = popen((command + " 2>&1").c_str(), "r");
    std::string said;
    char bytes[4096];
    size_t count;
    while ((count = fread(bytes, 1, sizeof bytes, pipe)) > 0)
        said.append(bytes, count);
    return {WEXITSTATUS(pclose(pipe)), said};
}

/// A descriptor of a file with these bytes, read-only.
struct File {
    int descriptor;
    File(Host &host, const std::string &name, const std::string &bytes)
        : descriptor(open(host.file(name, bytes).c_str(), O_RDONLY | O_CLOEXEC)) {}
    ~File() { close(descriptor); }
    File(const File &) = delete;
};

auto inlineInput(const std::string &bytes) {
    return [bytes](Call::Builder call) { Host::setInline(call.initInputs(1)[0], bytes); };
}

auto descriptorInput(size_t size) {
    return [size](Call::Builder call) {
        auto input = call.initInputs(1)[0];
        input.setSizeBytes(size);
        input.setDescriptor(0);
    };
}

auto pathInput(const std::string &path, size_t size, bool isDirectory = false) {
    return [=](Call::Builder call) {
        auto input = call.initInputs(1)[0];
        input.setSizeBytes(size);
        input.setPath(path);
        input.setIsDirectory(isDirectory);
    };
}

/// Input 0 under a key; inline and to be remembered, or as remembered.
auto keyedInput(uint32_t index, const std::string &bytes, bool isCached) {
    return [=](Call::Builder call) {
        auto input = call.initInputs(1)[0];
        input.initKey().setIndex(index);
        if (isCached) {
            input.setCached();
        } else {
            Host::setInline(input, bytes);
            input.setKeep(true);
            input.setContentType("number");
        }
    };
}

std::string single(const Outcome &outcome) {
    EXPECT_EQ(outcome.error, "");
    EXPECT_EQ(outcome.outputs.size(), 1u);
    return outcome.outputs[0].bytes;
}

/// The bytes of an output that must be a file of the staging directory.
std::string staged(Host &host, const Outcome::Output &output) {
    EXPECT_EQ(output.path.rfind(host.staging + "/", 0), 0u);
    EXPECT_EQ(output.bytes, "");
    return Host::read(output.path);
}

/// Moves this process to a mount namespace of its own, once.
bool isApart() {
    static bool isDone = [] {
        std::string user = std::to_string(geteuid()), group = std::to_string(getegid());
        if (geteuid() == 0 && unshare(CLONE_NEWNS) == 0) return true;
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
        std::ofstream("/proc/self/setgroups") << "deny";
        std::ofstream("/proc/self/uid_map") << user << " " << user << " 1";
        std::ofstream("/proc/self/gid_map") << group << " " << group << " 1";
        return true;
    }();
    static bool isPrivate = isDone && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    return isPrivate;
}

} // namespace

// --- Start and end -------------------------------------------------------------------------------------------------

TEST("a subworker registers with its tasks and what it can do") {
    Host host(everyTask);
    auto message = host.registration.root().getRegister();
    EXPECT_EQ(message.getProtocolVersion(), 1);
    EXPECT_EQ(std::string(message.getName()), "tested");
    EXPECT_EQ(std::string(message.getLibrary()), "every_task 1 (tests)");
    EXPECT(message.getCapabilities().getDescriptors());
    EXPECT(message.getCapabilities().getControlPage());
    EXPECT(message.getCapabilities().getCaching());
    EXPECT_EQ(message.getCapabilities().getThreads(), 1);
    auto tasks = message.getTasks();
    EXPECT_EQ(std::string(tasks[0].getName()), "echo");
    EXPECT_EQ(std::string(tasks[0].getDocumentation()), "Copies.");
    EXPECT_EQ(tasks[0].getInputs().size(), 0u);
    auto two = tasks[tasks.size() - 2];
    EXPECT_EQ(std::string(two.getInputs()[1]), "beta");
    EXPECT_EQ(std::string(two.getOutputs()[0]), "result");
    EXPECT_EQ(std::string(two.getInputContentTypes()[0]), "text/plain");
    EXPECT_EQ(std::string(two.getInputContentTypes()[1]), "");
    EXPECT_EQ(std::string(two.getOutputContentTypes()[0]), "result");
    EXPECT_EQ(tasks[0].getInputContentTypes().size(), 0u);
    EXPECT_EQ(std::string(tasks[tasks.size() - 1].getName()), "");
    host.shutdown();
}

TEST("without a control page it says so, and a name of its own goes first") {
    Options options = withoutPage();
    options.arguments = {"own"};
    Host host(everyTask, options);
    auto message = host.registration.root().getRegister();
    EXPECT(!message.getCapabilities().getControlPage());
    EXPECT_EQ(std::string(message.getName()), "own");
    EXPECT_EQ(single(host.run(host.define("echo"), "", inlineInput("x"))), "x");
    host.shutdown();
}

TEST("a refusal ends it with the worker's reason") {
    Host host(everyTask, unwelcomed());
    EXPECT(host.receive().root().isRegister());
    host.send([](ToSubworker::Builder root) { root.setRefused("no place for \"tested\" here"); });
    EXPECT_EQ(host.waitForExit(), 1);
    EXPECT_EQ(host.log(), "tested: the worker refused this subworker: no place for \"tested\" here\n");
}

TEST("a worker of another protocol version ends it with both numbers") {
    Options options;
    options.version = 7;
    Host host(everyTask, options);
    EXPECT_EQ(host.waitForExit(), 1);
    EXPECT(contains(host.log(), "version 7 of the subworker protocol, this program version 1"));
}

TEST("a worker that goes away before the welcome is no error") {
    Host host(everyTask, unwelcomed());
    EXPECT(host.receive().root().isRegister());
    close(host.socket);
    host.socket = -1;
    EXPECT_EQ(host.waitForExit(), 0);
    EXPECT_EQ(host.log(), "");
}

TEST("started by hand it says what it is and fails") {
    for (auto command : {everyTask, hello, wordcount}) {
        auto [status, said] = byHand("env -u RAIN_SUBWORKER_SOCKET " + command);
        EXPECT_EQ(status, 1);
        EXPECT(contains(said, "RAIN_SUBWORKER_SOCKET is not set"));
    }
    for (std::string value : {"77", "x", "", "0", "-1", "99999999999999"}) {
        auto [status, said] = byHand("env RAIN_SUBWORKER_SOCKET=" + value + " " + hello + " </dev/null");
        EXPECT_EQ(status, 1);
        EXPECT(contains(said, "is no open socket"));
    }
}

TEST("a task that can't be registered is reported by csw_run") {
    auto [status, said] = byHand(everyTask + " own twice");
    EXPECT_EQ(status, 1);
    EXPECT(contains(said, "there is a task \"echo\" already"));
    auto [oldStatus, oldSaid] = byHand(everyTask + " own old");
    EXPECT_EQ(oldStatus, 1);
    EXPECT(contains(oldSaid, "struct_size"));
}

TEST("the worker's end is its end, idle or busy") {
    for (bool isBusy : {false, true}) {
        Host host(everyTask);
        uint32_t id = host.define("sleep");
        if (isBusy) {
            host.call(0, id, "50");
            while (host.page[0].state != 2)
                usleep(1000);
            host.call(1, id, "5000");
        } else {
            EXPECT_EQ(single(host.run(id, "0")), "slept");
        }
        close(host.socket);
        host.socket = -1;
        EXPECT_EQ(host.waitForExit(3000), 0);
        EXPECT_EQ(host.log(), "");
        if (isBusy) EXPECT_EQ(host.page[1].state.load(), 1u);
    }
}

TEST("a ping is answered") {
    Host host(everyTask);
    host.send([](ToSubworker::Builder root) { root.setPing(0x8000000000000001u); });
    EXPECT_EQ(host.receive().root().getPong(), 0x8000000000000001u);
    host.shutdown();
}

TEST("what is finished is sent before a shutdown") {
    Host host(everyTask);
    uint32_t id = host.define("echo");
    host.queue(0);
    auto calls = host.build([&](ToSubworker::Builder root) {
        auto call = root.initCalls(1)[0];
        Host::set(call, 0, id, "");
        inlineInput("last")(call);
    });
    auto end = host.build([](ToSubworker::Builder root) { root.setShutdown(); });
    std::string both(reinterpret_cast<char *>(calls.begin()), calls.size() * 8);
    both.append(reinterpret_cast<char *>(end.begin()), end.size() * 8);
    host.sendBytes(both.data(), both.size());
    EXPECT_EQ(single(host.result().second), "last");
    EXPECT_EQ(host.waitForExit(), 0);
}

// --- Calls ---------------------------------------------------------------------------------------------------------

TEST("hello greets") {
    Host host(hello);
    uint32_t id = host.define("hello");
    EXPECT_EQ(single(host.run(id, "", inlineInput("world"))), "Hello, world!\n");
    EXPECT_EQ(single(host.run(id, "", inlineInput(""))), "Hello, !\n");
    EXPECT_EQ(host.run(id).error, "task \"hello\" takes 1 inputs, but was given 0");
    EXPECT_EQ(host.run(host.define("other"), "", inlineInput("x")).error, "subworker \"tested\" has no task \"other\"");
    EXPECT_EQ(
        host.run(host.define("hello", 2), "", inlineInput("x")).error,
        "task \"hello\" has 1 outputs, but was asked for 2");
    host.shutdown();
}

TEST("hello makes no mistake that Valgrind sees, and loses no memory") {
    const std::string valgrind = "/usr/bin/valgrind";
    if (access(valgrind.c_str(), X_OK) != 0 || contains(hello, "_checked")) {
        std::printf("      skipped: no Valgrind, or a program with sanitizers, which don't go together\n");
        return;
    }
    Options options;
    // Their exit code is that of the program when all is well; Valgrind's own messages are in the log.
    options.arguments = {"--quiet", "--leak-check=full", "--errors-for-leak-kinds=all", "--error-exitcode=99", hello};
    Host host(valgrind, options);
    uint32_t id = host.define("hello");
    std::string name = host.file("name", patterned(100000));
    for (int i = 0; i < 20; i += 1) {
        EXPECT(host.run(id, "", inlineInput("Ada")).error.empty());
        EXPECT(host.run(
                       id, "",
                       [&](Call::Builder call) {
                           auto input = call.initInputs(1)[0];
                           input.setSizeBytes(100000);
                           input.setPath(name.c_str());
                       })
                   .error.empty());
        EXPECT(!host.run(id).error.empty());
    }
    host.shutdown();
}

TEST("many calls in one message come back in few, in order") {
    Host host(everyTask);
    uint32_t id = host.define("echo");
    host.run(id, "", inlineInput("the first call of a type is flushed at once"));
    for (uint32_t slot = 0; slot < 64; slot += 1)
        host.queue(slot);
    size_t before = host.messageCount;
    host.send([&](ToSubworker::Builder root) {
        auto calls = root.initCalls(64);
        for (uint32_t i = 0; i < 64; i += 1) {
            Host::set(calls[i], i, id, "");
            inlineInput("call " + std::to_string(i))(calls[i]);
        }
    });
    for (uint32_t i = 0; i < 64; i += 1) {
        auto [slot, outcome] = host.result();
        EXPECT_EQ(slot, i);
        EXPECT_EQ(single(outcome), "call " + std::to_string(i));
    }
    // A sanitizer or a busy machine makes a flush or two by age; one message per call would be 64.
    EXPECT(host.messageCount - before < 32);
    host.shutdown();
}

TEST("messages may come byte by byte, or many at once") {
    Host host(everyTask);
    uint32_t id = host.define("echo");
    std::string all;
    for (uint32_t slot = 0; slot < 20; slot += 1) {
        host.queue(slot);
        auto words = host.build([&](ToSubworker::Builder root) {
            auto call = root.initCalls(1)[0];
            Host::set(call, slot, id, "");
            inlineInput(std::to_string(slot))(call);
        });
        std::string bytes(reinterpret_cast<char *>(words.begin()), words.size() * 8);
        if (slot == 0)
            for (char byte : bytes)
                host.sendBytes(&byte, 1);
        else
            all += bytes;
    }
    host.sendBytes(all.data(), all.size() - 3);
    usleep(2000);
    host.sendBytes(all.data() + all.size() - 3, 3);
    for (uint32_t slot = 0; slot < 20; slot += 1) {
        auto [which, outcome] = host.result();
        EXPECT_EQ(which, slot);
        EXPECT_EQ(single(outcome), std::to_string(slot));
    }
    host.shutdown();
}

TEST("a worker that sends all before it reads anything is no deadlock") {
    Host host(everyTask, withoutPage());
    uint32_t id = host.define("echo");
    std::string bytes = patterned(60000);
    const int count = 600;
    for (int i = 0; i < count; i += 1)
        host.call(static_cast<uint32_t>(i) % 64, id, "", inlineInput(bytes));
    for (int i = 0; i < count; i += 1)
        EXPECT(single(host.result().second) == bytes);
    host.shutdown();
}

TEST("a short call's result does not wait behind a long one") {
    Host host(everyTask);
    uint32_t shortCall = host.define("echo"), longCall = host.define("sleep");
    host.run(shortCall, "", inlineInput("learned"));
    host.run(longCall, "2");
    host.queue(0);
    host.queue(1);
    auto start = std::chrono::steady_clock::now();
    host.send([&](ToSubworker::Builder root) {
        auto calls = root.initCalls(2);
        Host::set(calls[0], 0, shortCall, "");
        inlineInput("quick")(calls[0]);
        Host::set(calls[1], 1, longCall, "400");
    });
    EXPECT_EQ(single(host.result().second), "quick");
    EXPECT(std::chrono::steady_clock::now() - start < std::chrono::milliseconds(300));
    EXPECT_EQ(single(host.result().second), "slept");
    host.shutdown();
}

TEST("a call knows its method, name, config, arguments, labels and keys") {
    Host host(everyTask);
    for (auto method : {"two", "whatever"}) {
        uint32_t id = std::string(method) == "two" ? 500 : 501;
        host.send([&](ToSubworker::Builder root) {
            auto item = root.initTemplates(1)[0];
            item.setId(id);
            item.setMethod(method);
            item.setName("a/name");
            item.setConfig(Host::data("{\"config\":1}"));
            item.setAttributes(Host::data("{\"mine\":2}"));
            item.setConstantCount(1);
            auto labels = item.initInputLabels(2);
            labels.set(0, "alpha");
            labels.set(1, "beta");
            auto output = item.initOutputs(1)[0];
            output.setLabel("result");
            output.setContentType("text/plain");
        });
        Outcome outcome = host.run(id, "[1,2]", [](Call::Builder call) {
            call.setSession(5);
            call.setTask(6);
            call.setEpoch(7);
            call.setAttempt(8);
            call.setArrayIndex(9);
            auto inputs = call.initInputs(3);
            for (unsigned i = 0; i < 3; i += 1) {
                Host::setInline(inputs[i], std::string(i, 'x'));
                inputs[i].setContentType("type" + std::to_string(i));
                inputs[i].setAttributes(Host::data("{\"i\":" + std::to_string(i) + "}"));
                inputs[i].initKey().setIndex(10 + i);
                inputs[i].setKeep(i == 0);
            }
        });
        std::string expected = std::string(method) == "two" ? "two" : "any";
        expected += " tested host method " + std::string(method) + " name a/name template " + std::to_string(id) +
                    " attempt 5 6 7 8 index 9 constants 1 {\"config\":1} [1,2] {\"mine\":2}"
                    " input 0 \"\" type0 0 0 1 key 0 10 0 0 {\"i\":0}"
                    " input 1 \"alpha\" type1 1 0 0 key 0 11 0 0 {\"i\":1}"
                    " input 2 \"beta\" type2 2 0 0 key 0 12 0 0 {\"i\":2}"
                    " output 0 \"result\" text/plain 0 find 2 -1 0 -1";
        EXPECT_EQ(single(outcome), expected);
    }
    host.shutdown();
}

// --- Inputs --------------------------------------------------------------------------------------------------------

TEST("bytes are read alike from the message, a descriptor and a path") {
    Host host(everyTask);
    uint32_t id = host.define("echo");
    for (size_t size : {size_t(0), size_t(1), size_t(8), size_t(4096), size_t(50000)}) {
        std::string bytes = patterned(size);
        File file(host, "input", bytes);
        EXPECT(single(host.run(id, "", inlineInput(bytes))) == bytes);
        EXPECT(single(host.run(id, "", descriptorInput(size), {file.descriptor})) == bytes);
        EXPECT(single(host.run(id, "", pathInput(host.directory + "/input", size))) == bytes);
    }
    host.shutdown();
}

TEST("every input has a path, which is gone with the call where it was made for it") {
    Host host(everyTask);
    uint32_t id = host.define("read_path");
    File file(host, "input", "in a file");
    EXPECT_EQ(single(host.run(id, "", inlineInput("in the message"))), "in the message");
    EXPECT_EQ(single(host.run(id, "", inlineInput(""))), "");
    EXPECT_EQ(single(host.run(id, "", descriptorInput(9), {file.descriptor})), "in a file");
    Outcome outcome = host.run(id, "", pathInput(host.directory + "/input", 9));
    EXPECT_EQ(single(outcome), "in a file");
    EXPECT_EQ(outcome.debug, host.directory + "/input\n");
    EXPECT_EQ(host.stagedCount(), 0u);
    host.shutdown();
}

TEST("an input that can't be read fails its task, with the reason") {
    Host host(everyTask);
    uint32_t id = host.define("echo");
    std::string path = host.file("input", "nine byte");
    EXPECT_EQ(
        host.run(id, "", pathInput(host.directory + "/none", 5)).error,
        "input 0 can't be opened: No such file or directory");
    EXPECT_EQ(host.run(id, "", pathInput(path, 10)).error, "input 0 is not as long as the worker said");
    EXPECT_EQ(host.run(id, "", pathInput(host.directory, 9)).error, "input 0 is no regular file");
    EXPECT_EQ(
        host.run(id, "", pathInput(host.directory, 9, true)).error,
        "input 0 is a directory: it has a path and no bytes");
    mkfifo((host.directory + "/fifo").c_str(), 0600);
    EXPECT_EQ(host.run(id, "", pathInput(host.directory + "/fifo", 9)).error, "input 0 is no regular file");
    EXPECT_EQ(host.run(id).error, "there is no input 0: the task has 0");
    EXPECT_EQ(single(host.run(id, "", inlineInput("still here"))), "still here");
    host.shutdown();
}

TEST("descriptors find their messages, also when many come at once") {
    Host host(everyTask);
    uint32_t id = host.define("echo", 2);
    std::vector<std::unique_ptr<File>> files;
    for (uint32_t i = 0; i < 60; i += 1)
        files.push_back(std::make_unique<File>(host, "input" + std::to_string(i), "file " + std::to_string(100 + i)));
    // While it sleeps, thirty messages pile up.
    host.call(60, host.define("sleep"), "50");
    for (uint32_t i = 0; i < 30; i += 1)
        host.call(
            i, id, "",
            [&](Call::Builder call) {
                auto inputs = call.initInputs(2);
                for (unsigned k = 0; k < 2; k += 1) {
                    inputs[k].setSizeBytes(8);
                    inputs[k].setDescriptor(static_cast<uint16_t>(i % 3 == 0 ? 1 : k));
                }
            },
            {files[i * 2]->descriptor, files[i * 2 + 1]->descriptor});
    EXPECT_EQ(host.result().first, 60u);
    for (uint32_t i = 0; i < 30; i += 1) {
        auto [slot, outcome] = host.result();
        EXPECT_EQ(slot, i);
        EXPECT_EQ(outcome.outputs[0].bytes, "file " + std::to_string(100 + i * 2 + (i % 3 == 0 ? 1 : 0)));
        EXPECT_EQ(outcome.outputs[1].bytes, "file " + std::to_string(100 + i * 2 + 1));
    }
    // None is left open.
    size_t open = 0;
    for (auto &entry : std::filesystem::directory_iterator("/proc/" + std::to_string(host.child) + "/fd"))
        open += contains(std::filesystem::read_symlink(entry).string(), "/input") ? 1 : 0;
    EXPECT_EQ(open, 0u);
    host.shutdown();
}

TEST("missing and stray descriptors end it with a message") {
    for (int claimed : {0, 2}) {
        Host host(everyTask);
        uint32_t id = host.define("echo");
        File file(host, "input", "bytes");
        host.queue(0);
        host.send(
            [&](ToSubworker::Builder root) {
                root.setDescriptorCount(static_cast<uint16_t>(claimed));
                auto call = root.initCalls(1)[0];
                Host::set(call, 0, id, "");
                inlineInput("x")(call);
            },
            {file.descriptor});
        EXPECT_EQ(host.waitForExit(), 1);
        EXPECT(contains(host.log(), "malformed message of the worker: "));
        EXPECT(contains(host.log(), "descriptors"));
    }
    Host host(everyTask);
    uint32_t id = host.define("echo");
    host.call(0, id, "", descriptorInput(5));
    EXPECT_EQ(host.waitForExit(), 1);
    EXPECT(contains(host.log(), "input behind a descriptor that did not come with it"));
}

// --- Outputs -------------------------------------------------------------------------------------------------------

TEST("small outputs come in the message and large ones as files") {
    Options options;
    options.inlineBytesMax = 1000;
    Host host(everyTask, options);
    uint32_t id = host.define("echo"), buffer = host.define("buffer");
    for (size_t size : {0, 1, 1000, 1001, 100000}) {
        std::string bytes = patterned(size);
        Outcome copied = host.run(id, "", inlineInput(bytes));
        Outcome made = host.run(buffer, std::to_string(size));
        for (auto &outcome : {copied, made}) {
            EXPECT_EQ(outcome.error, "");
            EXPECT_EQ(outcome.outputs.size(), 1u);
            if (size <= 1000) {
                EXPECT(outcome.outputs[0].bytes == bytes);
                EXPECT_EQ(outcome.outputs[0].path, "");
            } else {
                EXPECT(staged(host, outcome.outputs[0]) == bytes);
                // No writer is left: a read lease is granted.
                int descriptor = open(outcome.outputs[0].path.c_str(), O_RDONLY);
                EXPECT(fcntl(descriptor, F_SETLEASE, F_RDLCK) == 0);
                close(descriptor);
                std::filesystem::remove(outcome.outputs[0].path);
            }
        }
    }
    EXPECT_EQ(host.stagedCount(), 0u);
    host.shutdown();
}

TEST("an output of pieces is as if they had been put together") {
    Host host(everyTask);
    uint32_t id = host.define("parts");
    for (size_t size : {0, 1, 2, 1000, 300000}) {
        std::string bytes = patterned(size);
        Outcome outcome = host.run(id, "", pathInput(host.file("input", bytes), size));
        EXPECT_EQ(outcome.error, "");
        EXPECT((size < 300000 ? outcome.outputs[0].bytes : staged(host, outcome.outputs[0])) == bytes);
    }
    EXPECT_EQ(host.stagedCount(), 1u);
    host.shutdown();
}

TEST("a large buffer is mapped, and written by the task itself") {
    Host host(everyTask);
    Outcome outcome = host.run(host.define("buffer"), "20000000");
    EXPECT_EQ(outcome.error, "");
    EXPECT(staged(host, outcome.outputs[0]) == patterned(20000000));
    host.shutdown();
}

TEST("a buffer grows and shrinks, and ends as a message or a file by its last size") {
    Host host(everyTask);
    uint32_t id = host.define("resize");
    for (size_t size : {0, 1, 64 << 10, (64 << 10) + 1, 5 << 20}) {
        Outcome outcome = host.run(id, std::to_string(size));
        EXPECT_EQ(outcome.error, "");
        if (size <= 64 << 10) {
            EXPECT(outcome.outputs[0].bytes == patterned(size));
        } else {
            EXPECT(staged(host, outcome.outputs[0]) == patterned(size));
            std::filesystem::remove(outcome.outputs[0].path);
        }
        EXPECT_EQ(host.stagedCount(), 0u);
    }
    host.shutdown();
}

TEST("memory becomes an output where it is, and its owner may go on with pages of his own") {
    for (std::string way : {"closed", "kept", "short", "tiny", "twice", "replaced", "grown"}) {
        Host host(everyTask);
        Outcome outcome = host.run(host.define("memory", way == "twice" ? 2 : 1), way);
        EXPECT_EQ(outcome.error, "");
        size_t size = way == "short" ? 200001 : way == "tiny" ? 10 : 300000;
        for (size_t look = 0; look < 2; look += 1) {
            for (auto &output : outcome.outputs)
                EXPECT((output.path.empty() ? output.bytes : staged(host, output)) == patterned(size));
            EXPECT_EQ(host.stagedCount(), way == "tiny" ? 0 : outcome.outputs.size());
            if (look == 1) continue;
            std::string after = single(host.run(host.define("memory_after")));
            EXPECT_EQ(after, way == "closed" ? "0 bytes, 0 wrong" : "600000 bytes, 0 wrong");
        }
        host.shutdown();
    }
}

TEST("memory of a task that fails is its owner's") {
    Host host(everyTask);
    uint32_t id = host.define("memory");
    EXPECT_EQ(host.run(id, "failed").error, "after all");
    EXPECT_EQ(host.stagedCount(), 0u);
    EXPECT_EQ(single(host.run(id, "misuse")), "ok");
    EXPECT_EQ(single(host.run(host.define("memory_after"))), "1200000 bytes, 0 wrong");
    host.shutdown();
}

TEST("an output that a process of the task can still write to is a copy") {
    Host host(everyTask);
    Outcome outcome = host.run(host.define("memory"), "child");
    EXPECT_EQ(outcome.error, "");
    int descriptor = open(outcome.outputs[0].path.c_str(), O_RDONLY);
    EXPECT(descriptor >= 0 && fcntl(descriptor, F_SETLEASE, F_RDLCK) == 0);
    close(descriptor);
    EXPECT(staged(host, outcome.outputs[0]) == patterned(300000));
    EXPECT_EQ(host.stagedCount(), 1u);
    host.shutdown();
}

TEST("that copy has room of its own, wherever the worker grants it") {
    Options options;
    options.creditBytes = 700000; // For the two memories of the task.
    Host host(everyTask, options);
    std::string disk = host.directory + "/disk";
    std::filesystem::create_directory(disk);
    uint32_t id = host.define("memory");
    for (bool isGranted : {true, false}) {
        host.call(0, id, "child");
        auto asked = host.reserve();
        EXPECT_EQ(asked.sizeBytes, 300000u);
        if (isGranted) {
            host.grant(asked.id, disk);
            Outcome outcome = host.result().second;
            EXPECT_EQ(outcome.error, "");
            EXPECT_EQ(outcome.outputs[0].path.rfind(disk + "/", 0), 0u);
            EXPECT(Host::read(outcome.outputs[0].path) == patterned(300000));
        } else {
            host.refuse(asked.id, "both are full");
            EXPECT(contains(host.result().second.error, "no room for it: both are full"));
        }
        EXPECT_EQ(host.stagedCount(), 0u);
    }
    EXPECT_EQ(host.reserves.size(), 0u);
    host.shutdown();
}

TEST("what would make a message too large becomes files") {
    Host host(everyTask);
    uint32_t id = host.define("echo", 40);
    std::string bytes = patterned(60000);
    Outcome outcome = host.run(id, "", [&](Call::Builder call) {
        auto inputs = call.initInputs(40);
        for (auto input : inputs)
            Host::setInline(input, bytes);
    });
    size_t files = 0, inMessage = 0;
    for (auto &output : outcome.outputs) {
        EXPECT((output.path.empty() ? output.bytes : staged(host, output)) == bytes);
        (output.path.empty() ? inMessage : files) += 1;
    }
    EXPECT_EQ(inMessage, (1u << 20) / 60000);
    EXPECT_EQ(files + inMessage, 40u);
    host.shutdown();
}

TEST("an output can be an input, a file, a directory or a file from elsewhere") {
    Host host(everyTask);
    Outcome same = host.run(host.define("same"), "1", [](Call::Builder call) {
        auto inputs = call.initInputs(2);
        Host::setInline(inputs[0], "a");
        Host::setInline(inputs[1], "b");
    });
    EXPECT_EQ(same.outputs[0].input, 1);
    EXPECT_EQ(same.outputs[0].contentType, "text/x-same");
    EXPECT_EQ(same.outputs[0].attributes, "{\"same\":true}");
    EXPECT_EQ(host.run(host.define("same"), "3").error, "output 0 \"result\" can't be input 3: the task has 0");

    Outcome files = host.run(host.define("files", 4));
    EXPECT_EQ(files.error, "");
    EXPECT_EQ(staged(host, files.outputs[0]), "a file");
    EXPECT(files.outputs[1].isDirectory);
    EXPECT_EQ(Host::read(files.outputs[1].path + "/inside"), "inside");
    EXPECT_EQ(staged(host, files.outputs[2]), "from elsewhere");
    EXPECT_EQ(files.outputs[3].bytes, "second");
    EXPECT_EQ(host.stagedCount(), 3u);
    host.shutdown();
}

TEST("a directory comes from another file system with all that is in it, or not at all") {
    Host host(everyTask);
    char elsewhere[] = "/dev/shm/csubworker-test-XXXXXX";
    EXPECT(mkdtemp(elsewhere) != nullptr);
    struct stat here, there;
    EXPECT(stat(host.staging.c_str(), &here) == 0 && stat(elsewhere, &there) == 0);
    if (here.st_dev == there.st_dev) std::printf("      on one file system here\n");
    std::string path = elsewhere + std::string("/tree");
    Outcome outcome = host.run(host.define("tree"), path);
    EXPECT_EQ(outcome.error, "");
    std::string made = outcome.outputs[0].path;
    EXPECT(outcome.outputs[0].isDirectory);
    EXPECT_EQ(Host::read(made + "/a"), "first");
    EXPECT_EQ(Host::read(made + "/link"), "second");
    EXPECT_EQ(std::filesystem::read_symlink(made + "/link").string(), "inside/b");
    EXPECT(access((made + "/inside/run").c_str(), X_OK) == 0);
    EXPECT_EQ(host.stagedCount(), 1u);
    if (here.st_dev != there.st_dev) {
        EXPECT(contains(host.run(host.define("tree_with_a_pipe"), path).error, "can't be moved to"));
        EXPECT_EQ(host.stagedCount(), 1u);
        EXPECT(std::filesystem::exists(path + "/inside/pipe"));
    }
    std::filesystem::remove_all(elsewhere);
    host.shutdown();
}

TEST("attributes can't make a message that the worker must refuse") {
    Host host(everyTask);
    EXPECT_EQ(host.run(host.define("heavy", 8)).error, "");
    EXPECT_EQ(host.run(host.define("heavy", 9)).error, "output 8: the attributes of all outputs have more than 8 MiB");
    EXPECT_EQ(host.run(host.define("heavy", 8)).error, "");
    host.shutdown();
}

TEST("a task can't move an input of the worker away") {
    Host host(everyTask);
    std::string path = host.file("input", "the worker's");
    Outcome outcome = host.run(host.define("steal"), "", pathInput(path, 12));
    EXPECT(contains(outcome.error, "is an input or another output already"));
    EXPECT_EQ(Host::read(path), "the worker's");
    host.shutdown();
}

TEST("wrong arguments are errors, not crashes") {
    Host host(everyTask);
    Outcome outcome = host.run(host.define("misuse"), "", inlineInput("x"));
    EXPECT_EQ(single(outcome), "input 0 is not remembered after the call: nothing can hang on it");
    host.shutdown();
}

TEST("a staging directory that can't be written is an error of the task, with its path") {
    Options options;
    Host host(everyTask, options);
    std::filesystem::remove_all(host.staging);
    for (auto method : {"buffer", "resize"}) {
        Outcome outcome = host.run(host.define(method), "200000");
        EXPECT(contains(outcome.error, "can't be made in " + host.staging + ": No such file or directory"));
    }
    EXPECT_EQ(single(host.run(host.define("echo"), "", inlineInput("small"))), "small");
    host.shutdown();
}

TEST("a full disk is an error of the task and no signal") {
    // A small tmpfs of this process's own; without the right to make one there is nothing to test with.
    if (!isApart()) {
        std::printf("      not tested here: this user can't make a mount namespace\n");
        return;
    }
    char name[] = "/tmp/csubworker-full-XXXXXX";
    Options options;
    options.staging = std::string(mkdtemp(name));
    EXPECT(mount("tmpfs", name, "tmpfs", 0, "size=1m") == 0);
    {
        Host host(everyTask, options);
        uint32_t buffer = host.define("buffer");
        std::string error = host.run(buffer, "2000000").error;
        EXPECT_EQ(
            error,
            "output 0 \"result\" of 2000000 bytes can't be made in " + host.staging + ": No space left on device");
        EXPECT(contains(host.run(host.define("resize"), "1").error, "No space left on device"));
        EXPECT_EQ(host.stagedCount(), 0u);
        Outcome fits = host.run(buffer, "500000");
        EXPECT(staged(host, fits.outputs[0]) == patterned(500000));
        std::string path = host.file("large", patterned(800000));
        EXPECT(contains(host.run(host.define("echo"), "", pathInput(path, 800000)).error, "No space left on device"));
        EXPECT_EQ(host.stagedCount(), 1u);
        host.shutdown();
    }
    umount(name);
    rmdir(name);
}

// --- Errors and debug lines ----------------------------------------------------------------------------------------

TEST("a failure has its text and debug lines, and leaves no file") {
    Host host(everyTask);
    Outcome outcome = host.run(host.define("fail", 2));
    EXPECT_EQ(outcome.error, "line 17 is no number: x");
    EXPECT_EQ(outcome.debug, "about to fail\n");
    EXPECT_EQ(outcome.detail, "");
    EXPECT_EQ(host.stagedCount(), 0u);
    outcome = host.run(host.define("fail_text"));
    EXPECT_EQ(outcome.error, "message");
    EXPECT_EQ(outcome.detail, "Traceback:\n  here\n");
    host.shutdown();
}

TEST("a task that returns a number, forgets an output or has no function fails") {
    Host host(everyTask);
    uint32_t id = host.define("status");
    EXPECT_EQ(host.run(id, "5").error, "the task returned 5 (unknown status)");
    EXPECT_EQ(host.run(id, "-2").error, "the task returned -2 (no memory)");
    EXPECT_EQ(host.run(id, "-8").error, "the task returned CSW_ECANCELLED, but nobody cancelled it");
    EXPECT_EQ(host.run(id, "0").error, "output 0 \"result\" was not set");
    EXPECT_EQ(host.run(host.define("status", 0), "0").error, "");
    EXPECT_EQ(host.run(host.define("unset", 2)).error, "output 1 was not set");
    EXPECT_EQ(host.run(host.define("no_function")).error, "task \"no_function\" has no function");
    host.shutdown();
}

TEST("debug lines come in order, and have a limit that is told") {
    Host host(everyTask);
    uint32_t id = host.define("debug");
    Outcome outcome = host.run(id, "2");
    EXPECT_EQ(
        outcome.debug, "line 0 of a few that are long enough to fill a buffer\n"
                       "line 1 of a few that are long enough to fill a buffer\n");
    EXPECT_EQ(outcome.attributes, "{\"lines\":1}");
    outcome = host.run(id, "30000");
    EXPECT(outcome.debug.size() > 1000000 && outcome.debug.size() < 1100000);
    EXPECT(contains(outcome.debug, "the rest is left out)\n"));
    EXPECT_EQ(host.run(id, "0").debug, "");
    host.shutdown();
}

TEST("a crash charges what was running, and the log has what was printed") {
    Host host(everyTask);
    uint32_t id = host.define("die"), echo = host.define("echo");
    host.queue(0);
    host.queue(1);
    host.queue(2);
    host.send([&](ToSubworker::Builder root) {
        auto calls = root.initCalls(3);
        Host::set(calls[0], 0, echo, "");
        inlineInput("before")(calls[0]);
        Host::set(calls[1], 1, id, "9");
        Host::set(calls[2], 2, echo, "");
    });
    EXPECT_EQ(single(host.result().second), "before");
    EXPECT_EQ(host.waitForExit(), 9);
    EXPECT_EQ(host.log(), "dying as told\n");
    EXPECT_EQ(host.page[1].state.load(), 2u);
    EXPECT_EQ(host.page[2].state.load(), 1u);
}

// --- Recall and cancel ---------------------------------------------------------------------------------------------

TEST("a recalled call is dropped without an answer") {
    Host host(everyTask);
    uint32_t id = host.define("echo");
    for (uint32_t slot = 0; slot < 4; slot += 1)
        host.queue(slot);
    host.page[1].state = 4;
    host.page[2].state = 0; // recalled, and freed at once
    host.send([&](ToSubworker::Builder root) {
        auto calls = root.initCalls(4);
        for (uint32_t i = 0; i < 4; i += 1) {
            Host::set(calls[i], i, id, "");
            inlineInput(std::to_string(i))(calls[i]);
        }
    });
    EXPECT_EQ(host.result().first, 0u);
    EXPECT_EQ(host.result().first, 3u);
    EXPECT(host.isSilent(30));
    EXPECT_EQ(host.page[1].state.load(), 4u);
    host.shutdown();
}

TEST("a slot may be used again while its recalled call is on the way") {
    Host host(everyTask);
    uint32_t id = host.define("echo");
    auto send = [&](uint32_t ticket, const std::string &bytes) {
        host.send([&](ToSubworker::Builder root) {
            auto call = root.initCalls(1)[0];
            Host::set(call, 7, id, "");
            call.setTicket(ticket);
            inlineInput(bytes)(call);
        });
    };
    // Ticket 41 was recalled; now the slot is queued with 42.
    host.page[7].ticket = 42;
    host.page[7].state = 1;
    send(41, "old");
    EXPECT(host.isSilent(30));
    EXPECT_EQ(host.page[7].state.load(), 1u);
    send(42, "new");
    EXPECT_EQ(single(host.result().second), "new");
    host.shutdown();
}

TEST("a call for a slot that is done already is malformed") {
    Host host(everyTask);
    uint32_t id = host.define("echo");
    host.page[0].state = 3;
    host.send([&](ToSubworker::Builder root) { Host::set(root.initCalls(1)[0], 0, id, ""); });
    EXPECT_EQ(host.waitForExit(), 1);
    EXPECT(contains(host.log(), "call for a slot that is running or done"));
}

TEST("a running call sees its cancel flag, and a queued one is not begun") {
    Host host(everyTask);
    uint32_t id = host.define("wait"), echo = host.define("echo");
    host.call(3, id);
    while (host.page[3].state != 2)
        usleep(500);
    host.call(4, echo, "", inlineInput("never"));
    host.page[4].cancel = 1;
    host.page[3].cancel = 1;
    host.send([](ToSubworker::Builder root) { root.initCancel(1).set(0, 3); });
    auto [slot, outcome] = host.result();
    EXPECT_EQ(slot, 3u);
    EXPECT(outcome.isCancelled);
    auto [next, cancelled] = host.result();
    EXPECT_EQ(next, 4u);
    EXPECT(cancelled.isCancelled);
    EXPECT_EQ(single(host.run(echo, "", inlineInput("still here"))), "still here");
    host.shutdown();
}

// --- Progress and log ----------------------------------------------------------------------------------------------

TEST("progress reaches a worker that takes it, and the control page in any case") {
    Options options;
    options.takesProgress = true;
    Host host(everyTask, options);
    uint32_t id = host.define("progress");
    EXPECT_EQ(single(host.run(id, "3000")), "told");
    EXPECT_EQ(host.page[0].progress.load(), 1000000u);
    EXPECT(host.page[0].heartbeat.load() >= 3000);
    // The first text, then a message for what changed by half a percent, until the purse is empty.
    EXPECT(host.progress.size() >= 10 && host.progress.size() <= 25);
    EXPECT_EQ(host.progress[0].text, "step 0");
    EXPECT_EQ(host.progress[0].millionths, 0u);
    for (size_t i = 1; i < host.progress.size(); i += 1) {
        EXPECT_EQ(host.progress[i].slot, 0u);
        EXPECT(host.progress[i].millionths > host.progress[i - 1].millionths);
    }
    host.shutdown();

    Host silent(everyTask);
    EXPECT_EQ(single(silent.run(silent.define("progress"), "3000")), "told");
    EXPECT_EQ(silent.page[0].progress.load(), 1000000u);
    EXPECT_EQ(silent.progress.size(), 0u);
    silent.shutdown();

    options.hasPage = false;
    Host pageless(everyTask, options);
    EXPECT_EQ(single(pageless.run(pageless.define("progress"), "5")), "told");
    EXPECT_EQ(pageless.progress.size(), 7u - 1u);
    EXPECT_EQ(pageless.progress[3].millionths, 600000u);
    pageless.shutdown();
}

TEST("what is logged depends on the worker's level, else on RAIN_LOG") {
    for (int level = 0; level <= 4; level += 1) {
        Options options;
        options.logLevel = static_cast<uint8_t>(level);
        Host host(everyTask, options);
        int expected = level != 0 ? level : 3;
        EXPECT_EQ(single(host.run(host.define("log"))), std::to_string(expected));
        std::string names[] = {"", "error", "warning", "info", "debug"}, lines;
        for (int i = 1; i <= expected; i += 1)
            lines += "tested: " + names[i] + ": a line of level " + std::to_string(i) + "\n";
        EXPECT_EQ(host.log(), lines);
    }
    setenv("RAIN_LOG", "error", 1);
    Host host(everyTask);
    unsetenv("RAIN_LOG");
    EXPECT_EQ(single(host.run(host.define("log"))), "1");
}

// --- Room for outputs ----------------------------------------------------------------------------------------------

TEST("a worker without a credit is never asked for room") {
    Host host(everyTask);
    EXPECT(staged(host, host.run(host.define("buffer"), "9000000").outputs[0]) == patterned(9000000));
    EXPECT(staged(host, host.run(host.define("grow"), "3000000").outputs[0]) == patterned(3000000));
    EXPECT_EQ(host.reserves.size(), 0u);
    host.shutdown();
}

TEST("an output beyond the credit is made when the worker grants it, and where") {
    Options options;
    options.creditBytes = 1 << 20;
    Host host(everyTask, options);
    std::string disk = host.directory + "/disk";
    std::filesystem::create_directory(disk);
    uint32_t id = host.define("buffer"), echo = host.define("echo");
    EXPECT(staged(host, host.run(id, "1048576").outputs[0]) == patterned(1048576));
    EXPECT_EQ(host.reserves.size(), 0u);
    for (auto &directory : {host.staging, disk}) {
        host.call(0, id, "1048577");
        auto asked = host.reserve();
        EXPECT_EQ(asked.slot, 0u);
        EXPECT_EQ(asked.sizeBytes, 1048577u);
        EXPECT_EQ(host.page[0].state.load(), 2u);
        EXPECT(host.isSilent(20));
        // What else comes while it waits is done when it has ended.
        host.call(1, echo, "", inlineInput("afterwards"));
        host.send([](ToSubworker::Builder root) { root.setPing(7); });
        host.grant(asked.id, directory);
        auto [slot, outcome] = host.result();
        EXPECT_EQ(slot, 0u);
        EXPECT_EQ(outcome.error, "");
        EXPECT_EQ(outcome.outputs[0].path.rfind(directory + "/", 0), 0u);
        EXPECT(Host::read(outcome.outputs[0].path) == patterned(1048577));
        EXPECT_EQ(single(host.result().second), "afterwards");
    }
    EXPECT_EQ(host.pongs.size(), 2u);
    // Copied bytes ask too.
    std::string path = host.file("large", patterned(3000000));
    host.call(0, echo, "", pathInput(path, 3000000));
    auto asked = host.reserve();
    EXPECT_EQ(asked.sizeBytes, 3000000u);
    host.grant(asked.id, disk);
    EXPECT(Host::read(host.result().second.outputs[0].path) == patterned(3000000));
    EXPECT_EQ(host.reserves.size(), 0u);
    host.shutdown();
}

TEST("results that are finished do not wait behind a call that waits for room") {
    Options options;
    options.creditBytes = 1000;
    Host host(everyTask, options);
    uint32_t echo = host.define("echo"), buffer = host.define("buffer");
    host.run(echo, "", inlineInput("learned"));
    host.run(buffer, "1");
    host.queue(0);
    host.queue(1);
    host.send([&](ToSubworker::Builder root) {
        auto calls = root.initCalls(2);
        Host::set(calls[0], 0, echo, "");
        inlineInput("first")(calls[0]);
        Host::set(calls[1], 1, buffer, "100000");
    });
    EXPECT_EQ(single(host.result().second), "first");
    auto asked = host.reserve();
    host.grant(asked.id, host.staging);
    EXPECT(staged(host, host.result().second.outputs[0]) == patterned(100000));
    host.shutdown();
}

TEST("a refusal is the task's error with the worker's reason, and the subworker goes on") {
    Options options;
    options.creditBytes = 1 << 20;
    Host host(everyTask, options);
    uint32_t id = host.define("buffer");
    host.call(0, id, "5000000");
    host.refuse(host.reserve().id, "the limit is 4 MB");
    EXPECT_EQ(
        host.result().second.error,
        "output 0 \"result\" of 5000000 bytes: the worker has no room for it: the limit is 4 MB");
    EXPECT(staged(host, host.run(id, "500000").outputs[0]) == patterned(500000));
    host.shutdown();
}

TEST("a buffer that grows asks again for the whole, and moves when it is granted elsewhere") {
    Options options;
    options.creditBytes = 1 << 20;
    Host host(everyTask, options);
    std::string disk = host.directory + "/disk";
    std::filesystem::create_directory(disk);
    for (bool isMoved : {false, true}) {
        host.call(0, host.define("grow"), "7000000");
        uint64_t granted = 0;
        uint32_t last = 0;
        size_t count = 0;
        while (granted < 7000000) {
            auto asked = host.reserve();
            EXPECT(asked.sizeBytes > granted);
            EXPECT(count == 0 || asked.id == last);
            granted = asked.sizeBytes;
            last = asked.id;
            count += 1;
            host.grant(asked.id, isMoved && count >= 2 ? disk : host.staging);
        }
        EXPECT(count >= 3 && count <= 8);
        Outcome outcome = host.result().second;
        EXPECT_EQ(outcome.error, "");
        EXPECT_EQ(outcome.outputs[0].path.rfind((isMoved ? disk : host.staging) + "/", 0), 0u);
        EXPECT(Host::read(outcome.outputs[0].path) == patterned(7000000));
        std::filesystem::remove(outcome.outputs[0].path);
        EXPECT_EQ(host.stagedCount(), 0u);
    }
    host.shutdown();
}

TEST("where memory has no space for what was counted, the worker is asked for another place") {
    if (!isApart()) {
        std::printf("      not tested here: this user can't make a mount namespace\n");
        return;
    }
    char name[] = "/tmp/csubworker-full-XXXXXX";
    Options options;
    options.staging = std::string(mkdtemp(name));
    options.creditBytes = 64 << 20;
    EXPECT(mount("tmpfs", name, "tmpfs", 0, "size=1m") == 0);
    {
        Host host(everyTask, options);
        std::string disk = host.directory + "/disk", path = host.file("large", patterned(3000000));
        std::filesystem::create_directory(disk);
        for (std::string method : {"buffer", "grow", "echo"}) {
            host.call(
                0, host.define(method), "3000000", method == "echo" ? pathInput(path, 3000000) : pathInput(path, 0));
            auto asked = host.reserve();
            EXPECT(asked.sizeBytes >= 1000000 && asked.sizeBytes <= 64 << 20);
            host.grant(asked.id, disk);
            while (method == "grow" && !host.hasResult()) {
                host.receiveSomething();
                for (auto &again : host.reserves)
                    host.grant(again.id, disk);
                host.reserves.clear();
            }
            Outcome outcome = host.result().second;
            EXPECT_EQ(outcome.error, "");
            EXPECT_EQ(outcome.outputs[0].path.rfind(disk + "/", 0), 0u);
            EXPECT(Host::read(outcome.outputs[0].path) == patterned(3000000));
            EXPECT_EQ(host.stagedCount(), 0u);
        }
        // Where there is no other place, it is the error that it was.
        host.call(0, host.define("buffer"), "3000000");
        host.grant(host.reserve().id, host.staging);
        host.grant(host.reserve().id, host.staging);
        EXPECT(contains(host.result().second.error, "No space left on device"));
        host.shutdown();
    }
    umount(name);
    rmdir(name);
}

TEST("what is not needed any more is given back, and each output has its own room") {
    Options options;
    options.creditBytes = 1 << 20;
    Host host(everyTask, options);
    uint32_t id = host.define("buffers", 2);
    // Within the credit: the first gives its part back.
    EXPECT_EQ(host.run(id, "500000").error, "");
    EXPECT_EQ(host.reserves.size(), 0u);
    host.call(0, id, "2000000");
    auto first = host.reserve();
    host.grant(first.id, host.staging);
    auto back = host.reserve();
    EXPECT_EQ(back.id, first.id);
    EXPECT_EQ(back.sizeBytes, 0u);
    auto second = host.reserve();
    EXPECT(second.id != first.id);
    host.grant(second.id, host.staging);
    auto third = host.reserve();
    EXPECT(third.id != second.id);
    host.grant(third.id, host.staging);
    EXPECT_EQ(host.result().second.error, "");
    EXPECT_EQ(host.reserves.size(), 0u);
    host.shutdown();
}

TEST("a call that waits for room ends with the worker") {
    Options options;
    options.creditBytes = 1 << 20;
    for (bool isToldToEnd : {false, true}) {
        Host host(everyTask, options);
        host.call(0, host.define("buffer"), "5000000");
        host.reserve();
        if (isToldToEnd) {
            host.send([](ToSubworker::Builder root) { root.setShutdown(); });
            EXPECT(contains(host.result().second.error, "wants this subworker to end"));
        } else {
            close(host.socket);
            host.socket = -1;
        }
        EXPECT_EQ(host.waitForExit(), 0);
        EXPECT_EQ(host.stagedCount(), 0u);
    }
}

TEST("an answer to a reserve that nobody made ends it") {
    Options options;
    options.creditBytes = 1 << 20;
    for (bool isWaiting : {false, true}) {
        Host host(everyTask, options);
        uint32_t id = host.define("buffer");
        EXPECT_EQ(host.run(id, "5").error, "");
        if (isWaiting) host.call(0, id, "5000000");
        host.grant(isWaiting ? host.reserve().id + 1 : 1, host.staging);
        EXPECT_EQ(host.waitForExit(), 1);
        EXPECT_EQ(host.log(), "tested: malformed message of the worker: answer to a reserve that nobody made\n");
    }
    Host host(everyTask, options);
    host.call(0, host.define("buffer"), "5000000");
    host.grant(host.reserve().id, "not/absolute");
    EXPECT_EQ(host.waitForExit(), 1);
    EXPECT(contains(host.log(), "granted directory that is no absolute path"));
}

// --- Remembered inputs ---------------------------------------------------------------------------------------------

TEST("a remembered input comes as cached, with the value that hangs on it, until it is dropped") {
    Host host(everyTask);
    uint32_t id = host.define("parse");
    EXPECT_EQ(single(host.run(id, "", keyedInput(1, "17", false))), "17 1 0");
    EXPECT_EQ(single(host.run(id, "", keyedInput(1, "", true))), "17 1 0");
    EXPECT_EQ(single(host.run(id, "", keyedInput(1, "17", false))), "17 1 0");
    EXPECT_EQ(single(host.run(id, "", keyedInput(2, "18", false))), "18 2 0");
    host.send([](ToSubworker::Builder root) {
        auto keys = root.initDropCached(2);
        keys[0].setIndex(1);
        keys[1].setIndex(99); // never heard of
    });
    EXPECT_EQ(single(host.run(id, "", keyedInput(2, "", true))), "18 2 1");
    EXPECT_EQ(
        host.run(id, "", keyedInput(1, "", true)).error,
        "input 0 (object 1 of session 0) is not remembered here, though the worker says so");
    EXPECT_EQ(single(host.run(id, "", keyedInput(1, "17", false))), "17 3 1");
    host.shutdown();
}

TEST("files are remembered too, also when the worker has removed them") {
    Host host(everyTask);
    uint32_t echo = host.define("echo"), path = host.define("read_path");
    File file(host, "by-descriptor", "by descriptor");
    host.file("by-path", "by path");
    auto keep = [](uint32_t index, bool isDescriptor, const std::string &path, size_t size) {
        return [=](Call::Builder call) {
            auto input = call.initInputs(1)[0];
            input.initKey().setIndex(index);
            input.setSizeBytes(size);
            input.setKeep(true);
            if (isDescriptor)
                input.setDescriptor(0);
            else
                input.setPath(path);
        };
    };
    EXPECT_EQ(single(host.run(echo, "", keep(1, true, "", 13), {file.descriptor})), "by descriptor");
    EXPECT_EQ(single(host.run(echo, "", keep(2, false, host.directory + "/by-path", 7))), "by path");
    std::filesystem::remove(host.directory + "/by-path");
    for (auto id : {echo, path}) {
        EXPECT_EQ(single(host.run(id, "", keyedInput(1, "", true))), "by descriptor");
        EXPECT_EQ(single(host.run(id, "", keyedInput(2, "", true))), "by path");
    }
    EXPECT(contains(
        host.run(echo, "", keep(3, false, host.directory + "/none", 7)).error, "can't be remembered: No such"));
    host.shutdown();
}

TEST("a recalled call's inputs are remembered all the same") {
    Host host(everyTask);
    uint32_t id = host.define("parse");
    host.page[0].state = 4;
    host.send([&](ToSubworker::Builder root) {
        auto call = root.initCalls(1)[0];
        Host::set(call, 0, id, "");
        keyedInput(1, "21", false)(call);
    });
    host.call(1, id, "", keyedInput(1, "", true));
    EXPECT_EQ(single(host.result().second), "21 1 0");
    host.shutdown();
}

// --- Malformed messages --------------------------------------------------------------------------------------------

TEST("a malformed message ends it with the reason") {
    auto expectEnd = [](const std::function<void(Host &)> &send, const std::string &reason) {
        Host host(everyTask);
        send(host);
        EXPECT_EQ(host.waitForExit(), 1);
        EXPECT_EQ(host.log(), "tested: malformed message of the worker: " + reason + "\n");
    };
    auto bytes = [](std::vector<uint64_t> words) {
        return [words](Host &host) { host.sendBytes(words.data(), words.size() * 8); };
    };
    expectEnd(bytes({0xffffffff}), "more than 512 segments");
    expectEnd(bytes({0xffffffff00000000}), "longer than the limit for one message");
    expectEnd(bytes({1ull << 32, 2ull << 32 | 5 << 2}), "pointer out of its segment");
    expectEnd(bytes({1ull << 32, 0}), "no root");
    expectEnd(
        [](Host &host) { host.send([](ToSubworker::Builder root) { root.initWelcome(); }); },
        "welcome or refused after the welcome");
    expectEnd(
        [](Host &host) { host.send([](ToSubworker::Builder root) { root.initCancel(1).set(0, 64); }); },
        "cancel for a slot above 63");
    expectEnd([](Host &host) { host.call(0, 4711); }, "call of a template that was never sent");
    expectEnd(
        [](Host &host) {
            host.call(0, host.define("echo"), "", [](Call::Builder call) {
                auto inputs = call.initInputs(2);
                Host::setInline(inputs[0], "good");
                inputs[1].setPath("not/absolute");
            });
        },
        "input whose path is not absolute");
}

TEST("random bytes end it with a message") {
    std::mt19937_64 random(20261121);
    for (int round = 0; round < 20; round += 1) {
        Host host(everyTask);
        uint32_t id = host.define("echo");
        host.queue(0);
        auto words = host.build([&](ToSubworker::Builder root) {
            auto calls = root.initCalls(3);
            for (uint32_t i = 0; i < 3; i += 1) {
                Host::set(calls[i], i, id, "");
                inlineInput("some bytes")(calls[i]);
            }
        });
        auto *raw = reinterpret_cast<uint64_t *>(words.begin());
        for (size_t i = 1; i < words.size(); i += 1)
            if (random() % 3 == 0) raw[i] = random() % 2 != 0 ? random() : raw[i] ^ 1ull << random() % 64;
        try {
            host.sendBytes(raw, words.size() * 8);
            host.sendBytes(raw + 1, words.size() * 8 - 8);
        } catch (const check::Failure &) {
            // It may be gone before the second message.
        }
        shutdown(host.socket, SHUT_WR);
        int status = host.waitForExit();
        EXPECT(status == 0 || (status == 1 && contains(host.log(), "malformed message of the worker: ")));
    }
}

// --- wordcount -----------------------------------------------------------------------------------------------------

namespace {

std::string counted(const std::string &words) {
    std::ostringstream out;
    std::istringstream in(words);
    std::string line, last;
    size_t count = 0;
    while (std::getline(in, line)) {
        if (count != 0 && line != last) out << count << " " << last << "\n";
        count = line == last && count != 0 ? count + 1 : 1;
        last = line;
    }
    if (count != 0) out << count << " " << last << "\n";
    return out.str();
}

} // namespace

TEST("wordcount counts as uniq -c does, without the padding") {
    Host host(wordcount);
    uint32_t id = host.define("count");
    std::string longWord(70000, 'w');
    for (std::string words :
         {std::string(), std::string("\n"), std::string("a"), std::string("a\n"), std::string("a\na\nab\nb"),
          std::string("a\nb\na\n"), std::string("\n\na\n"), longWord + "\n" + longWord + "\n" + longWord + "x",
          std::string("a\0b\na\0b\nc\n", 10)}) {
        std::string path = host.file("words", words);
        Outcome outcome = host.run(id, "", pathInput(path, words.size()));
        EXPECT_EQ(outcome.error, "");
        auto &output = outcome.outputs[0];
        EXPECT((output.path.empty() ? output.bytes : staged(host, output)) == counted(words));
    }
    EXPECT_EQ(single(host.run(id, "", inlineInput("to\nto\nwho\n"))), "2 to\n1 who\n");
    host.shutdown();
}

TEST("wordcount agrees with sort and uniq on a large list") {
    Host host(wordcount);
    std::mt19937 random(1);
    std::string words;
    while (words.size() < 3000000)
        words += std::to_string(random() % 200000) + (random() % 5 == 0 ? "é\n" : "\n");
    host.file("unsorted", words);
    std::string command = "cd " + host.directory + " && LC_ALL=C sort unsorted >sorted && LC_ALL=C uniq -c sorted | " +
                          "sed 's/^ *//' >expected";
    EXPECT_EQ(byHand(command).first, 0);
    size_t size = std::filesystem::file_size(host.directory + "/sorted");
    Outcome outcome = host.run(host.define("count"), "", pathInput(host.directory + "/sorted", size));
    EXPECT_EQ(outcome.error, "");
    EXPECT(staged(host, outcome.outputs[0]) == Host::read(host.directory + "/expected"));
    host.shutdown();
}

// --- Cost ----------------------------------------------------------------------------------------------------------

TEST("a call costs microseconds") {
    Host host(everyTask);
    uint32_t id = host.define("status", 0);
    const uint32_t batch = 32, rounds = 3000;
    for (uint32_t slot = 0; slot < 64; slot += 1)
        host.queue(slot);
    auto build = [&](uint32_t first) {
        return host.build([&](ToSubworker::Builder root) {
            auto calls = root.initCalls(batch);
            for (uint32_t i = 0; i < batch; i += 1)
                Host::set(calls[i], first + i, id, "0");
        });
    };
    auto even = build(0), odd = build(batch);
    auto start = std::chrono::steady_clock::now();
    host.sendBytes(even.begin(), even.size() * 8);
    uint32_t answered = 0;
    for (uint32_t round = 1; round <= rounds; round += 1) {
        auto &next = round % 2 == 0 ? even : odd;
        if (round < rounds) host.sendBytes(next.begin(), next.size() * 8);
        while (answered < round * batch) {
            Received received = host.receive();
            for (auto result : received.root().getResults()) {
                EXPECT(result.isOutputs());
                host.page[result.getSlot()].state = 1;
                answered += 1;
            }
        }
    }
    double ns = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
    std::ifstream scheduled("/proc/" + std::to_string(host.child) + "/schedstat");
    double cpu = 0; // ns of the subworker, from its start
    scheduled >> cpu;
    std::printf(
        "      %.0f ns a call, host included; %.0f of the subworker, system calls included; %u calls in %u messages\n",
        ns / answered, cpu / answered, answered, rounds);
    EXPECT(ns / answered < 50000);
    for (uint32_t slot = 0; slot < 64; slot += 1)
        host.page[slot].state = 0;
    host.shutdown();
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    everyTask = arguments[1];
    hello = arguments[2];
    wordcount = arguments[3];
    return check::runAll();
}
