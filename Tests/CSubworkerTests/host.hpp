// A worker as a subworker sees it: starts a program with a socket and a control page, and speaks through libcapnp.
#pragma once

#include "check.hpp"
#include "subworker.capnp.h"

#include <atomic>
#include <capnp/message.h>
#include <capnp/serialize.h>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <memory>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace host {

struct Slot {
    std::atomic<uint32_t> state, cancel, progress, heartbeat, ticket;
    uint32_t reserved[11];
};
static_assert(sizeof(Slot) == 64, "layout of the control page");

struct Options {
    bool hasPage = true;
    bool isWelcomed = true;
    uint32_t inlineBytesMax = 64 << 10;
    uint16_t version = 1;
    uint64_t creditBytes = 0;
    bool takesProgress = false;
    uint8_t logLevel = 0;
    std::vector<std::string> arguments;
    std::string staging; // empty: a directory of the host's own
};

/// A message that came back: the words are the reader's.
struct Received {
    kj::Array<capnp::word> words;
    std::unique_ptr<capnp::FlatArrayMessageReader> reader;
    ToWorker::Reader root() { return reader->getRoot<ToWorker>(); }
};

/// What a test reads from one result.
struct Outcome {
    std::string error, detail, debug, attributes;
    bool isCancelled = false;
    struct Output {
        std::string bytes, path, contentType, attributes;
        int input = -1;
        bool isDirectory = false;
    };
    std::vector<Output> outputs;
    size_t message = 0; // which message it came in
};

class Host {
public:
    std::string directory, staging;
    Slot *page = nullptr;
    size_t messageCount = 0;
    pid_t child = -1;
    int socket = -1;

    explicit Host(const std::string &program, Options options = Options()) : options(options) {
        char name[] = "/tmp/csubworker-test-XXXXXX";
        directory = mkdtemp(name);
        staging = options.staging.empty() ? directory + "/staging" : options.staging;
        std::filesystem::create_directory(staging);
        int ends[2];
        EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        socket = ends[0];
        int pageDescriptor = -1;
        if (options.hasPage) {
            pageDescriptor = memfd_create("page", MFD_CLOEXEC);
            EXPECT(ftruncate(pageDescriptor, 4096) == 0);
            page = static_cast<Slot *>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, pageDescriptor, 0));
        }
        child = fork();
        if (child == 0) {
            dup2(ends[1], 10);
            if (pageDescriptor >= 0) dup2(pageDescriptor, 11);
            int log = open((directory + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
            dup2(log, 1);
            dup2(log, 2);
            setenv("RAIN_SUBWORKER_SOCKET", "10", 1);
            setenv("RAIN_SUBWORKER_NAME", "tested", 1);
            if (options.hasPage)
                setenv("RAIN_CONTROL_PAGE", "11", 1);
            else
                unsetenv("RAIN_CONTROL_PAGE");
            std::vector<char *> arguments = {const_cast<char *>(program.c_str())};
            for (auto &argument : options.arguments)
                arguments.push_back(const_cast<char *>(argument.c_str()));
            arguments.push_back(nullptr);
            execv(program.c_str(), arguments.data());
            _exit(127);
        }
        close(ends[1]);
        if (pageDescriptor >= 0) close(pageDescriptor);
        if (options.isWelcomed) welcome();
    }

    ~Host() {
        if (socket >= 0) close(socket);
        if (child > 0) {
            kill(child, SIGKILL);
            waitpid(child, nullptr, 0);
        }
        if (page != nullptr) munmap(page, 4096);
        std::filesystem::remove_all(directory);
    }

    Host(const Host &) = delete;

    void welcome() {
        registration = receive();
        EXPECT(registration.root().isRegister());
        send([&](ToSubworker::Builder root) {
            auto welcome = root.initWelcome();
            welcome.setProtocolVersion(options.version);
            welcome.setWorkerName("host");
            welcome.setStagingDirectory(staging);
            welcome.setInlineBytesMax(options.inlineBytesMax);
            welcome.setCreditBytes(options.creditBytes);
            welcome.setTakesProgress(options.takesProgress);
            welcome.setLogLevel(options.logLevel);
        });
    }

    kj::Array<capnp::word> build(const std::function<void(ToSubworker::Builder)> &fill) {
        capnp::MallocMessageBuilder builder;
        fill(builder.initRoot<ToSubworker>());
        return capnp::messageToFlatArray(builder);
    }

    void send(const std::function<void(ToSubworker::Builder)> &fill, const std::vector<int> &descriptors = {}) {
        auto words = build(fill);
        sendBytes(words.begin(), words.size() * 8, descriptors);
    }

    /// Blocks until all is sent; descriptors go with the first byte.
    void sendBytes(const void *data, size_t size, const std::vector<int> &descriptors = {}) {
        iovec part = {const_cast<void *>(data), size};
        char control[CMSG_SPACE(253 * sizeof(int))] = {};
        msghdr header = {};
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        if (!descriptors.empty()) {
            header.msg_control = control;
            header.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
            auto *rights = CMSG_FIRSTHDR(&header);
            rights->cmsg_level = SOL_SOCKET;
            rights->cmsg_type = SCM_RIGHTS;
            rights->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
            std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size() * sizeof(int));
        }
        while (part.iov_len > 0) {
            ssize_t count = sendmsg(socket, &header, MSG_NOSIGNAL);
            if (count < 0) throw check::Failure(std::string("sendmsg: ") + strerror(errno));
            part.iov_base = static_cast<char *>(part.iov_base) + count;
            part.iov_len -= static_cast<size_t>(count);
            header.msg_control = nullptr;
            header.msg_controllen = 0;
        }
    }

    /// Waits for the next message; fails when none comes within ten seconds or the subworker is gone.
    Received receive() {
        for (;;) {
            if (inbox.size() >= 8) {
                uint32_t head[2];
                std::memcpy(head, inbox.data(), 8);
                size_t size = 8 + static_cast<size_t>(head[1]) * 8;
                if (head[0] == 0 && inbox.size() >= size) {
                    Received received;
                    received.words = kj::heapArray<capnp::word>(size / 8);
                    std::memcpy(received.words.begin(), inbox.data(), size);
                    inbox.erase(0, size);
                    received.reader = std::make_unique<capnp::FlatArrayMessageReader>(received.words);
                    messageCount += 1;
                    return received;
                }
            }
            EXPECT(waitReadable(10000));
            char bytes[65536];
            ssize_t count = recv(socket, bytes, sizeof bytes, 0);
            if (count <= 0) throw check::Failure("the subworker closed the connection; its log: " + log());
            inbox.append(bytes, static_cast<size_t>(count));
        }
    }

    bool waitReadable(int milliseconds) {
        pollfd wait = {socket, POLLIN, 0};
        return poll(&wait, 1, milliseconds) == 1;
    }

    /// Whether nothing comes for so long.
    bool isSilent(int milliseconds) { return inbox.empty() && !waitReadable(milliseconds); }

    /// The exit status; 1000 plus the signal when there was one. Fails when it takes longer than that.
    int waitForExit(int milliseconds = 10000) {
        for (int i = 0; i < milliseconds; i += 1) {
            int status = 0;
            if (waitpid(child, &status, WNOHANG) == child) {
                child = -1;
                return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
            }
            usleep(1000);
        }
        throw check::Failure("the subworker did not end; its log: " + log());
    }

    std::string log() { return read(directory + "/log"); }

    static std::string read(const std::string &path) {
        std::ifstream file(path, std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(file), {});
    }

    size_t stagedCount() {
        return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(staging), {}));
    }

    /// Makes a file of the host's own.
    std::string file(const std::string &name, const std::string &bytes) {
        std::string path = directory + "/" + name;
        std::ofstream(path, std::ios::binary) << bytes;
        return path;
    }

    /// The number of a template with this method and so many outputs; sent once.
    uint32_t define(const std::string &method, unsigned outputCount = 1) {
        uint32_t id = nextTemplate++;
        send([&](ToSubworker::Builder root) {
            auto item = root.initTemplates(1)[0];
            item.setId(id);
            item.setMethod(method);
            item.setName("named " + method);
            auto outputs = item.initOutputs(outputCount);
            if (outputCount > 0) outputs[0].setLabel("result");
        });
        return id;
    }

    void queue(uint32_t slot) {
        if (page == nullptr) return;
        page[slot].cancel = 0;
        page[slot].state = 1;
    }

    /// One call in a message of its own.
    void call(
        uint32_t slot, uint32_t id, const std::string &arguments = "",
        const std::function<void(Call::Builder)> &fill = [](Call::Builder) {},
        const std::vector<int> &descriptors = {}) {
        queue(slot);
        send(
            [&](ToSubworker::Builder root) {
                root.setDescriptorCount(static_cast<uint16_t>(descriptors.size()));
                auto call = root.initCalls(1)[0];
                set(call, slot, id, arguments);
                fill(call);
            },
            descriptors);
    }

    static void set(Call::Builder call, uint32_t slot, uint32_t id, const std::string &arguments) {
        call.setSlot(slot);
        call.setTemplate(id);
        call.setArguments(data(arguments));
    }

    static capnp::Data::Reader data(const std::string &bytes) {
        return capnp::Data::Reader(reinterpret_cast<const kj::byte *>(bytes.data()), bytes.size());
    }

    static void setInline(Input::Builder input, const std::string &bytes) {
        input.setSizeBytes(bytes.size());
        input.setInline(data(bytes));
    }

    struct Reserve {
        uint32_t slot, id;
        uint64_t sizeBytes;
    };
    struct Progress {
        uint32_t slot, millionths;
        std::string text;
    };
    /// Messages that came beside results.
    std::vector<Reserve> reserves;
    std::vector<Progress> progress;
    std::vector<uint64_t> pongs;

    void receiveSomething() {
        Received received = receive();
        take(received);
    }

    bool hasResult() const { return !results.empty(); }

    /// The next reserve that was not taken yet.
    Reserve reserve() {
        while (reserves.empty())
            receiveSomething();
        Reserve first = reserves.front();
        reserves.erase(reserves.begin());
        return first;
    }

    void grant(uint32_t id, const std::string &directory) {
        send([&](ToSubworker::Builder root) {
            auto granted = root.initGranted();
            granted.setId(id);
            granted.setDirectory(directory);
        });
    }

    void refuse(uint32_t id, const std::string &reason) {
        send([&](ToSubworker::Builder root) {
            auto granted = root.initGranted();
            granted.setId(id);
            granted.setRefused(reason);
        });
    }

    /// The next result, in the order of arrival, with its slot.
    std::pair<uint32_t, Outcome> result() {
        while (results.empty())
            receiveSomething();
        auto first = results.front();
        results.erase(results.begin());
        if (page != nullptr) EXPECT_EQ(page[first.first].state.load(), 3u);
        if (page != nullptr) page[first.first].state = 0;
        return first;
    }

    /// Sends one call and returns its outcome.
    Outcome run(
        uint32_t id, const std::string &arguments = "",
        const std::function<void(Call::Builder)> &fill = [](Call::Builder) {},
        const std::vector<int> &descriptors = {}) {
        call(0, id, arguments, fill, descriptors);
        auto [slot, outcome] = result();
        EXPECT_EQ(slot, 0u);
        return outcome;
    }

    /// Asks it to end and expects that it does so without complaint.
    void shutdown() {
        send([](ToSubworker::Builder root) { root.setShutdown(); });
        EXPECT_EQ(waitForExit(), 0);
        EXPECT_EQ(log(), "");
    }

    Received registration;
    Options options;

private:
    std::string inbox;
    uint32_t nextTemplate = 1;
    std::vector<std::pair<uint32_t, Outcome>> results;

    void take(Received &received) {
        if (received.root().isReserve()) {
            auto reserve = received.root().getReserve();
            reserves.push_back({reserve.getSlot(), reserve.getId(), reserve.getSizeBytes()});
            return;
        }
        if (received.root().isProgress()) {
            for (auto item : received.root().getProgress())
                progress.push_back({item.getSlot(), item.getMillionths(), item.getText().cStr()});
            return;
        }
        if (received.root().isPong()) {
            pongs.push_back(received.root().getPong());
            return;
        }
        EXPECT(received.root().isResults());
        for (auto item : received.root().getResults()) {
            Outcome outcome;
            outcome.message = messageCount;
            outcome.debug = item.getDebug().cStr();
            outcome.attributes = string(item.getAttributes());
            outcome.isCancelled = item.isCancelled();
            if (item.isError()) {
                outcome.error = item.getError().getMessage().cStr();
                outcome.detail = item.getError().getDetail().cStr();
            }
            if (item.isOutputs())
                for (auto value : item.getOutputs()) {
                    Outcome::Output output;
                    if (value.isInline()) output.bytes = string(value.getInline());
                    if (value.isPath()) output.path = value.getPath().cStr();
                    if (value.isSameAsInput()) output.input = value.getSameAsInput();
                    output.contentType = value.getContentType().cStr();
                    output.attributes = string(value.getAttributes());
                    output.isDirectory = value.getIsDirectory();
                    outcome.outputs.push_back(output);
                }
            results.push_back({item.getSlot(), outcome});
        }
    }

    static std::string string(capnp::Data::Reader data) {
        return std::string(reinterpret_cast<const char *>(data.begin()), data.size());
    }
};

} // namespace host
