// The ffi subworker with calls at once, as a worker sees it.  threads_test FFI LIBRARY
#include "host.hpp"

#include <map>
#include <numeric>

using namespace host;

namespace {

std::string program, library;

Options threads(unsigned count, std::vector<std::string> more = {}) {
    Options options;
    options.arguments = {"--threads", std::to_string(count)};
    options.arguments.insert(options.arguments.end(), more.begin(), more.end());
    return options;
}

std::string quoted(const std::string &text) {
    std::string made = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') made += '\\';
        made += c;
    }
    return made + "\"";
}

std::string declared(const std::string &members, const std::string &name = "test") {
    return "library " + name + " = \"" + library + "\" { threads = 8; " + members + " }";
}

/// A template of the function, with what the library has in it as the task's own declarations.
uint32_t define(
    Host &host, const std::string &function, const std::string &members, unsigned outputCount = 1,
    const std::string &name = "test") {
    static uint32_t next = 1000;
    uint32_t id = next++;
    std::string config = "{\"declarations\": " + quoted(declared(members, name)) + "}";
    host.send([&](ToSubworker::Builder root) {
        auto item = root.initTemplates(1)[0];
        item.setId(id);
        item.setMethod(name + "/" + function);
        item.setName(function);
        item.setConfig(Host::data(config));
        item.initOutputs(outputCount);
    });
    return id;
}

struct One {
    uint32_t slot, id;
    std::string arguments;
};

void send(Host &host, const std::vector<One> &calls) {
    for (auto &one : calls)
        host.queue(one.slot);
    host.send([&](ToSubworker::Builder root) {
        auto made = root.initCalls(static_cast<unsigned>(calls.size()));
        for (unsigned i = 0; i < calls.size(); i += 1)
            Host::set(made[i], calls[i].slot, calls[i].id, calls[i].arguments);
    });
}

int32_t number(const Outcome &outcome) {
    EXPECT_EQ(outcome.error, "");
    EXPECT_EQ(outcome.outputs.size(), 1u);
    EXPECT_EQ(outcome.outputs[0].bytes.size(), 4u);
    int32_t value;
    std::memcpy(&value, outcome.outputs[0].bytes.data(), 4);
    return value;
}

bool has(const std::string &text, const std::string &part) {
    return text.find(part) != std::string::npos;
}

constexpr uint32_t running = 2, atFault = 5;

/// Three calls stay, the one in slot 1 ends the process. The log, and the status of its end.
std::pair<std::string, int> endBeside(const std::string &function, uint32_t guilty) {
    Host host(program, threads(4));
    uint32_t stay = define(host, "stay_beside", "void stay_beside(int count);", 0);
    uint32_t end = define(host, function, "void " + function + "(int count);", 0);
    send(host, {{0, stay, "[4]"}, {1, end, "[4]"}, {2, stay, "[4]"}, {3, stay, "[4]"}});
    int status = host.waitForExit();
    for (uint32_t slot = 0; slot < 4; slot += 1)
        EXPECT_EQ(host.page[slot].state.load(), slot == 1 ? guilty : running);
    return {host.log(), status};
}

} // namespace

TEST("it registers with as many calls at once as it was started for") {
    for (unsigned count : {1u, 2u, 64u}) {
        Host host(program, threads(count));
        EXPECT_EQ(host.registration.root().getRegister().getCapabilities().getThreads(), count);
        host.shutdown();
    }
}

TEST("wrong numbers of threads are refused") {
    for (auto text : {"0", "-1", "65", "1e9", "four", "", "4 "}) {
        Options options;
        options.arguments = {"--threads", text};
        options.isWelcomed = false;
        Host host(program, options);
        EXPECT_EQ(host.waitForExit(), 2);
        EXPECT(has(host.log(), std::string("--threads is a number from 1 to 64, not '") + text + "'"));
    }
}

TEST("as many calls are in the library at once") {
    Host host(program, threads(8));
    uint32_t id = define(host, "meet", "int meet(int count);");
    send(
        host, {{0, id, "[8]"},
               {1, id, "[8]"},
               {2, id, "[8]"},
               {3, id, "[8]"},
               {4, id, "[8]"},
               {5, id, "[8]"},
               {6, id, "[8]"},
               {7, id, "[8]"}});
    for (int i = 0; i < 8; i += 1)
        EXPECT_EQ(number(host.result().second), 8);
    host.shutdown();
}

TEST("calls of functions of files are, too") {
    std::string path = "/tmp/csubworker-ffi-" + std::to_string(getpid()) + ".ffi";
    std::ofstream(path) << declared("int meet(int count); int same_int(int x) threads = 2;");
    {
        Host host(program, threads(3, {"--declarations", path}));
        uint32_t id = host.define("test/meet"), other = host.define("test/same_int");
        send(host, {{0, id, "[3]"}, {1, id, "[3]"}, {2, id, "[3]"}});
        for (int i = 0; i < 3; i += 1)
            EXPECT_EQ(number(host.result().second), 3);
        EXPECT(has(host.run(other, "[7]").error, "test/same_int: its task wants to run with others"));
        host.shutdown();
    }
    std::filesystem::remove(path);
}

TEST("each call has its own values, in hundreds of calls of many functions") {
    Host host(program, threads(8));
    std::vector<uint32_t> ids;
    for (auto type : {"int", "unsigned int", "int32_t", "uint32_t"}) {
        std::string name = std::string("same_") + (type == std::string("unsigned int") ? "unsigned_int" : type);
        for (int k = 0; k < 3; k += 1) /* so that a function is made several times */
            ids.push_back(define(host, name, std::string(type) + " " + name + "(" + type + " x);"));
    }
    uint32_t dot = define(host, "dot", "double dot(size_t n, const double x[n], const double y[n]);");
    for (int round = 0; round < 100; round += 1) {
        std::vector<One> calls;
        for (uint32_t slot = 0; slot < 24; slot += 1) {
            uint32_t value = static_cast<uint32_t>(round) * 100 + slot;
            calls.push_back(
                {slot, ids[(slot + static_cast<uint32_t>(round)) % ids.size()], "[" + std::to_string(value) + "]"});
        }
        calls.push_back({40, dot, "[[1, 2, " + std::to_string(round) + "], [1, 1, 2]]"});
        send(host, calls);
        for (int i = 0; i < 25; i += 1) {
            auto [slot, outcome] = host.result();
            if (slot == 40) {
                double value;
                EXPECT_EQ(outcome.error, "");
                std::memcpy(&value, outcome.outputs[0].bytes.data(), 8);
                EXPECT_EQ(value, 3.0 + 2 * round);
            } else {
                EXPECT_EQ(number(outcome), round * 100 + static_cast<int>(slot));
            }
        }
    }
    host.shutdown();
}

TEST("a library is initialised once, and before the first call, whoever comes first") {
    Host host(program, threads(8));
    std::string members = "init void start_slowly(void); int slow_start_count(void);";
    std::vector<One> calls;
    for (uint32_t slot = 0; slot < 16; slot += 1)
        calls.push_back({slot, define(host, "slow_start_count", members), "[]"});
    send(host, calls);
    for (int i = 0; i < 16; i += 1)
        EXPECT_EQ(number(host.result().second), 1);
    host.shutdown();
}

TEST("while a library begins, calls of others go on") {
    Host host(program, threads(2));
    uint32_t beginning = define(host, "was_met", "init void begin_with_another(void); int was_met(void);");
    uint32_t other = define(host, "meet", "int meet(int count);", 1, "other");
    send(host, {{0, beginning, "[]"}});
    while (host.page[0].state.load() != running)
        usleep(100);
    send(host, {{1, other, "[2]"}});
    std::map<uint32_t, int32_t> values;
    for (int i = 0; i < 2; i += 1) {
        auto [slot, outcome] = host.result();
        values[slot] = number(outcome);
    }
    EXPECT_EQ(values[0], 1);
    EXPECT_EQ(values[1], 2);
    host.shutdown();
}

TEST("every failure has the text of its own code") {
    Host host(program, threads(8));
    uint32_t coded =
        define(host, "fail_with", "int fail_with(int code) errors = \"nonzero\" error_string = slow_error;", 0);
    uint32_t numbered = define(host, "fail_errno_slowly", "int fail_errno_slowly(int code) errors = \"negative\";");
    for (int round = 0; round < 20; round += 1) {
        std::vector<One> calls;
        for (uint32_t slot = 0; slot < 32; slot += 1)
            calls.push_back({slot, slot % 2 == 0 ? coded : numbered, "[" + std::to_string(slot + 1) + "]"});
        send(host, calls);
        for (int i = 0; i < 32; i += 1) {
            auto [slot, outcome] = host.result();
            std::string code = std::to_string(slot + 1);
            EXPECT_EQ(
                outcome.error,
                slot % 2 == 0 ? "test/fail_with failed: test error " + code + " (it returned " + code + ")"
                              : "test/fail_errno_slowly failed: " + std::string(strerror(static_cast<int>(slot) + 1)) +
                                    " (it returned -1, errno " + code + ")");
        }
    }
    host.shutdown();
}

TEST("a crash names the function that crashed, and charges its call alone") {
    const std::map<std::string, std::pair<int, std::string>> ends = {
        {"crash_beside", {1000 + SIGSEGV, "SIGSEGV"}},
        {"give_up_beside", {1000 + SIGABRT, "SIGABRT"}},
        {"overflow_beside", {1000 + SIGSEGV, "SIGSEGV"}},
    };
    for (auto &[function, expected] : ends) {
        auto [log, status] = endBeside(function, atFault);
        EXPECT_EQ(status, expected.first);
        EXPECT(has(log, "ffi: crashed while calling test/" + function + ": " + expected.second));
        EXPECT(!has(log, "stay_beside"));
    }
}

TEST("so does an exit()") {
    auto [log, status] = endBeside("leave_beside", atFault);
    EXPECT_EQ(status, 3);
    EXPECT(has(log, "ffi: the process was ended while calling test/leave_beside: exit() was called"));
}

TEST("who uses what an exit() of another call tears down is not to blame") {
    Host host(program, threads(2));
    uint32_t use = define(host, "use_beside", "void use_beside(int count);", 0);
    uint32_t leave = define(host, "leave_beside", "void leave_beside(int count);", 0);
    send(host, {{0, use, "[2]"}, {1, leave, "[2]"}});
    EXPECT_EQ(host.waitForExit(), 1000 + SIGSEGV);
    EXPECT_EQ(host.page[0].state.load(), running);
    EXPECT_EQ(host.page[1].state.load(), atFault);
    EXPECT(has(host.log(), "the process was ended while calling test/leave_beside: exit() was called"));
    EXPECT(!has(host.log(), "use_beside"));
}

TEST("a crash on a thread of the library's own names all that it may belong to, and charges them") {
    auto [log, status] = endBeside("crash_elsewhere", running);
    EXPECT_EQ(status, 1000 + SIGSEGV);
    EXPECT(has(log, "calling test/crash_elsewhere") && has(log, "calling test/stay_beside"));
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    program = arguments[1];
    library = arguments[2];
    return check::runAll();
}
