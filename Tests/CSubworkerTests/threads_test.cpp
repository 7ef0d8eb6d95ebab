// A subworker that runs calls at once.  threads_test THREADS_TASK
#include "host.hpp"

#include <random>
#include <set>

using namespace host;

namespace {

std::string program;

auto inlineInput(const std::string &bytes) {
    return [bytes](Call::Builder call) { Host::setInline(call.initInputs(1)[0], bytes); };
}

auto keyedInput(uint32_t index, const std::string &bytes, bool isCached) {
    return [=](Call::Builder call) {
        auto input = call.initInputs(1)[0];
        input.initKey().setIndex(index);
        if (isCached) {
            input.setCached();
        } else {
            Host::setInline(input, bytes);
            input.setKeep(true);
        }
    };
}

std::string single(const Outcome &outcome) {
    EXPECT_EQ(outcome.error, "");
    EXPECT_EQ(outcome.outputs.size(), 1u);
    return outcome.outputs[0].bytes;
}

void waitFor(Host &host, uint32_t slot, uint32_t state) {
    for (int i = 0; i < 10000 && host.page[slot].state != state; i += 1)
        usleep(1000);
    EXPECT_EQ(host.page[slot].state.load(), state);
}

/// So many calls in one message, in slots 0 and up.
void send(
    Host &host, uint32_t count, uint32_t id, const std::string &arguments,
    const std::function<void(uint32_t, Call::Builder)> &fill = [](uint32_t, Call::Builder) {}) {
    for (uint32_t slot = 0; slot < count; slot += 1)
        host.queue(slot);
    host.send([&](ToSubworker::Builder root) {
        auto calls = root.initCalls(count);
        for (uint32_t slot = 0; slot < count; slot += 1) {
            Host::set(calls[slot], slot, id, arguments);
            fill(slot, calls[slot]);
        }
    });
}

} // namespace

TEST("it registers with the most calls at once of any task") {
    Host host(program);
    EXPECT_EQ(host.registration.root().getRegister().getCapabilities().getThreads(), 4);
    host.shutdown();
}

TEST("more calls at once than there are slots is a mistake in the program") {
    Options options;
    options.arguments = {"many"};
    options.isWelcomed = false;
    Host host(program, options);
    EXPECT_EQ(host.waitForExit(), 1);
    EXPECT(host.log().find("many can't run 65 calls at once: a worker gives 64 at most") != std::string::npos);
}

TEST("as many calls run at once as the task says") {
    for (bool isMixed : {true, false}) {
        Options options;
        if (!isMixed) options.arguments = {"shared only"};
        Host host(program, options);
        send(host, 4, host.define("meet"), "4");
        for (int i = 0; i < 4; i += 1)
            EXPECT_EQ(single(host.result().second), "4");
        host.shutdown();
    }
}

TEST("never more than that, though other tasks may have more") {
    Host host(program);
    send(host, 12, host.define("stay"), "10");
    std::string most;
    for (int i = 0; i < 12; i += 1)
        most = single(host.result().second);
    EXPECT_EQ(most, "2");
    host.shutdown();
}

TEST("a task that does not say threads runs one call at a time, on one thread, beside the others") {
    Host host(program);
    uint32_t alone = host.define("alone"), echo = host.define("echo");
    send(host, 20, alone, "10");
    host.call(40, echo, "", inlineInput("not behind those"));
    std::set<std::string> counts;
    bool isInTime = false;
    for (int i = 0; i < 21; i += 1) {
        auto [slot, outcome] = host.result();
        if (slot != 40) counts.insert(single(outcome));
        if (slot == 40) isInTime = counts.size() < 15;
    }
    EXPECT_EQ(counts.size(), 20u);
    EXPECT(isInTime);
    host.shutdown();
}

TEST("each call gets its own bytes, whatever its place, in hundreds of messages") {
    Host host(program);
    uint32_t id = host.define("echo");
    std::mt19937 random(20261121);
    std::string large(100000, 'l');
    std::string path = host.file("large", large);
    std::vector<std::string> expected(64);
    for (int round = 0; round < 300; round += 1) {
        uint32_t count = 1 + random() % 16;
        int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        for (uint32_t slot = 0; slot < count; slot += 1)
            host.queue(slot);
        host.send(
            [&](ToSubworker::Builder root) {
                root.setDescriptorCount(1);
                auto calls = root.initCalls(count);
                for (uint32_t slot = 0; slot < count; slot += 1) {
                    Host::set(calls[slot], slot, id, "");
                    auto input = calls[slot].initInputs(1)[0];
                    expected[slot] = std::string(random() % 300, static_cast<char>('a' + random() % 26));
                    if (random() % 4 == 0) {
                        input.setSizeBytes(large.size());
                        if (random() % 2 == 0)
                            input.setDescriptor(0);
                        else
                            input.setPath(path);
                        expected[slot] = large;
                    } else {
                        Host::setInline(input, expected[slot]);
                    }
                }
            },
            {descriptor});
        close(descriptor);
        for (uint32_t i = 0; i < count; i += 1) {
            auto [slot, outcome] = host.result();
            EXPECT_EQ(outcome.error, "");
            EXPECT_EQ(outcome.debug, std::to_string(expected[slot].size()) + " bytes\n");
            auto &output = outcome.outputs[0];
            EXPECT((output.path.empty() ? output.bytes : Host::read(output.path)) == expected[slot]);
            if (!output.path.empty()) std::filesystem::remove(output.path);
        }
    }
    EXPECT_EQ(host.stagedCount(), 0u);
    // A call's inputs are closed by its own thread, perhaps a moment after another has sent its result.
    size_t open = 1;
    for (int attempt = 0; attempt < 500 && open > 0; attempt += 1) {
        if (attempt > 0) usleep(10'000);
        open = 0;
        for (auto &entry : std::filesystem::directory_iterator("/proc/" + std::to_string(host.child) + "/fd")) {
            std::error_code gone; // A descriptor that was just closed.
            auto target = std::filesystem::read_symlink(entry, gone).string();
            open += target.find("/large") != std::string::npos ? 1 : 0;
        }
    }
    EXPECT_EQ(open, 0u);
    host.shutdown();
}

TEST("a worker that sends all before it reads anything is no deadlock") {
    Options options;
    options.hasPage = false;
    Host host(program, options);
    uint32_t id = host.define("echo");
    std::string bytes(60000, 'x');
    for (uint32_t i = 0; i < 600; i += 1) {
        host.call(i % 64, id, "", inlineInput(bytes));
        if (i % 100 == 0) host.send([](ToSubworker::Builder root) { root.setPing(5); });
    }
    for (uint32_t i = 0; i < 600; i += 1)
        EXPECT(single(host.result().second) == bytes);
    host.shutdown();
}

TEST("a worker that sends calls without end is malformed, not a heap without end") {
    Options options;
    options.hasPage = false;
    Host host(program, options);
    uint32_t id = host.define("alone");
    host.call(0, id, "500");
    try {
        for (int round = 0; round < 100; round += 1)
            send(host, 64, id, "0");
    } catch (const check::Failure &) {
        // It is gone before all were sent.
    }
    EXPECT_EQ(host.waitForExit(), 1);
    EXPECT_EQ(host.log(), "tested: malformed message of the worker: far more calls than it has slots\n");
}

TEST("a recalled call is dropped, also while others run") {
    Host host(program);
    uint32_t id = host.define("alone");
    send(host, 1, id, "50");
    waitFor(host, 0, 2);
    host.call(1, id, "0");
    host.call(2, id, "0");
    host.page[1].state = 4;
    EXPECT_EQ(single(host.result().second), "1");
    EXPECT_EQ(host.result().first, 2u);
    EXPECT(host.isSilent(20));
    host.shutdown();
}

TEST("a call for a slot that is done already ends it with a message, and what runs is finished") {
    Host host(program);
    uint32_t id = host.define("nothing", 0);
    send(host, 1, host.define("stay"), "50");
    waitFor(host, 0, 2);
    host.page[5].state = 3;
    host.send([&](ToSubworker::Builder root) { Host::set(root.initCalls(1)[0], 5, id, ""); });
    EXPECT_EQ(host.waitForExit(), 1);
    EXPECT_EQ(host.log(), "tested: malformed message of the worker: call for a slot that is running or done\n");
}

TEST("a cancelled call stops and the others go on, with a control page and without") {
    for (bool hasPage : {true, false}) {
        Options options;
        options.hasPage = hasPage;
        options.takesProgress = true;
        Host host(program, options);
        uint32_t id = host.define("wait");
        send(host, 3, id, "");
        if (hasPage) waitFor(host, 1, 2);
        // Progress says that it runs.
        while (host.progress.size() < 3)
            host.receiveSomething();
        auto cancel = [&](uint32_t slot) {
            if (hasPage) host.page[slot].cancel = 1;
            host.send([&](ToSubworker::Builder root) { root.initCancel(1).set(0, slot); });
        };
        for (uint32_t slot : {1u, 0u, 2u}) {
            cancel(slot);
            auto [stopped, outcome] = host.result();
            EXPECT_EQ(stopped, slot);
            EXPECT(outcome.isCancelled);
        }
        EXPECT_EQ(single(host.run(host.define("echo"), "", inlineInput("next"))), "next");
        host.shutdown();
    }
}

TEST("a remembered input and what hangs on it outlive a drop until the last call ends") {
    Host host(program);
    uint32_t id = host.define("sum");
    std::string bytes(1000, '\1');
    EXPECT_EQ(single(host.run(id, "0", keyedInput(1, bytes, false))), "1000 1");
    send(host, 4, id, "60", [&](uint32_t, Call::Builder call) { keyedInput(1, "", true)(call); });
    waitFor(host, 3, 2);
    host.send([](ToSubworker::Builder root) { root.initDropCached(1)[0].setIndex(1); });
    for (int i = 0; i < 4; i += 1)
        EXPECT_EQ(single(host.result().second), "1000 1");
    EXPECT_EQ(single(host.run(id, "0", keyedInput(2, bytes, false))), "1000 1");
    // Several find nothing and hang something on it: the last one stays, no other is used after it is gone.
    send(host, 4, id, "10", [&](uint32_t, Call::Builder call) { keyedInput(3, bytes, false)(call); });
    for (int i = 0; i < 4; i += 1)
        EXPECT_EQ(single(host.result().second).substr(0, 5), "1000 ");
    EXPECT_EQ(single(host.run(id, "0", keyedInput(3, "", true))), "1000 2");
    host.shutdown();
}

TEST("templates may be replaced while their calls run") {
    Host host(program);
    send(host, 4, host.define("stay"), "20");
    waitFor(host, 0, 2);
    host.send([](ToSubworker::Builder root) {
        auto item = root.initTemplates(1)[0];
        item.setId(1);
        item.setMethod("nothing");
    });
    for (int i = 0; i < 4; i += 1)
        EXPECT_EQ(host.result().second.error, "");
    EXPECT_EQ(host.run(1).outputs.size(), 0u);
    host.shutdown();
}

TEST("several calls wait for room at once, and are answered in any order") {
    Options options;
    options.creditBytes = 100000;
    Host host(program, options);
    send(host, 4, host.define("buffer"), "200000");
    std::vector<Host::Reserve> asked;
    for (int i = 0; i < 4; i += 1)
        asked.push_back(host.reserve());
    host.call(9, host.define("alone"), "0");
    EXPECT_EQ(single(host.result().second), "1");
    for (int i = 3; i >= 0; i -= 1) {
        if (i == 2)
            host.refuse(asked[i].id, "no");
        else
            host.grant(asked[i].id, host.staging);
        auto [slot, outcome] = host.result();
        EXPECT_EQ(slot, asked[i].slot);
        EXPECT_EQ(outcome.error.empty(), i != 2);
    }
    host.grant(99, host.staging);
    EXPECT_EQ(host.waitForExit(), 1);
    EXPECT(host.log().find("answer to a reserve that nobody made") != std::string::npos);
}

TEST("calls that wait for room end with the worker") {
    Options options;
    options.creditBytes = 100000;
    for (bool isToldToEnd : {false, true}) {
        Host host(program, options);
        send(host, 6, host.define("buffer"), "200000");
        for (int i = 0; i < 4; i += 1)
            host.reserve();
        if (isToldToEnd) {
            host.send([](ToSubworker::Builder root) { root.setShutdown(); });
            for (int i = 0; i < 4; i += 1)
                EXPECT(!host.result().second.error.empty());
        } else {
            close(host.socket);
            host.socket = -1;
        }
        EXPECT_EQ(host.waitForExit(), 0);
        EXPECT_EQ(host.stagedCount(), 0u);
        EXPECT_EQ(host.log(), "");
    }
}

TEST("a crash charges what was running, and nothing that was queued") {
    Host host(program);
    send(host, 6, host.define("stay"), "60000");
    waitFor(host, 1, 2);
    host.call(50, host.define("die"), "10");
    EXPECT_EQ(host.waitForExit(), 7);
    for (uint32_t slot = 0; slot < 6; slot += 1)
        EXPECT_EQ(host.page[slot].state.load(), slot < 2 ? 2u : 1u);
    EXPECT_EQ(host.page[50].state.load(), 2u);
}

TEST("the call that makes the process crash is marked, and those beside it are not") {
    for (const char *how : {"fault", "abort", "exit", "trap", "overflow"}) {
        Host host(program);
        send(host, 3, host.define("stay"), "60000");
        waitFor(host, 1, 2);
        host.call(50, host.define(how), "10");
        host.waitForExit();
        EXPECT_EQ(host.page[0].state.load(), 2u);
        EXPECT_EQ(host.page[1].state.load(), 2u);
        EXPECT_EQ(host.page[2].state.load(), 1u);
        EXPECT_EQ(host.page[50].state.load(), 5u);
    }
}

TEST("the end of a process that a call forked is nobody's fault") {
    Host host(program);
    send(host, 1, host.define("stay"), "60000");
    waitFor(host, 0, 2);
    host.call(50, host.define("outlive"));
    EXPECT_EQ(host.waitForExit(), 7);
    EXPECT_EQ(host.page[0].state.load(), 2u);
    EXPECT_EQ(host.page[50].state.load(), 2u);
}

TEST("a fatal signal from outside is nobody's fault") {
    Host host(program);
    send(host, 2, host.define("stay"), "60000");
    waitFor(host, 1, 2);
    kill(host.child, SIGSEGV);
    host.waitForExit();
    for (uint32_t slot = 0; slot < 2; slot += 1)
        EXPECT_EQ(host.page[slot].state.load(), 2u);
}

TEST("what runs is finished and sent at a shutdown, and what is queued is not begun") {
    Host host(program);
    send(host, 6, host.define("stay"), "50");
    waitFor(host, 1, 2);
    host.send([](ToSubworker::Builder root) { root.setShutdown(); });
    host.result();
    host.result();
    EXPECT_EQ(host.waitForExit(), 0);
    EXPECT_EQ(host.page[2].state.load(), 1u);
    EXPECT_EQ(host.log(), "");
}

TEST("small calls come back in few messages") {
    Host host(program);
    uint32_t id = host.define("nothing", 0);
    host.run(id);
    size_t before = host.messageCount, count = 0;
    for (int round = 0; round < 100; round += 1) {
        send(host, 64, id, "");
        for (int i = 0; i < 64; i += 1)
            EXPECT_EQ(host.result().second.error, "");
        count += 64;
    }
    std::printf("      %zu calls in %zu messages\n", count, host.messageCount - before);
    EXPECT(host.messageCount - before < count / 2);
    host.shutdown();
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    program = arguments[1];
    return check::runAll();
}
