// The work area behind the C face, and the few helpers that both planes share.
#pragma once

#include <capnp/message.h>
#include <capnp/serialize.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <vector>

#include "ccapnp_control.h"
#include "ccapnp_subworker.h"

// A batch of the Link has at most 256 KiB, so it is built in one segment and without a call of malloc.
constexpr size_t firstSegmentWords = 64 * 1024;

struct ccapnp_work {
    char error[512] = "";

    // Decoding. Only one of the two messages is there at a time.
    std::vector<uint64_t> aligned;
    cc_frame frame = {};
    cs_to_worker toWorker = {};
    std::vector<cc_bytes> texts;
    std::vector<uint32_t> numbers;
    std::vector<cc_id> ids;
    std::vector<cc_message> messages;
    std::vector<cc_command> commands;
    std::vector<cc_template> templates;
    std::vector<cc_template_output> templateOutputs;
    std::vector<cc_assignment> assignments;
    std::vector<cc_input> inputs;
    std::vector<cc_endpoint> endpoints;
    std::vector<cc_finished> finished;
    std::vector<cc_finished_output> finishedOutputs;
    std::vector<cc_failed> failed;
    std::vector<cc_progress> progress;
    std::vector<cs_task> tasks;
    std::vector<cs_result> results;
    std::vector<cs_output> outputs;
    std::vector<cs_progress> callProgress;

    // Encoding. libcapnp wants the first segment zeroed, and zeroes what it used of it when the builder goes.
    capnp::word *firstSegment = nullptr;
    std::optional<capnp::MallocMessageBuilder> builder;

    ~ccapnp_work();
    capnp::MallocMessageBuilder &build();
    // The size of what was built, in stream framing.
    size_t builtSize();
};

// Runs `body` and turns everything that it throws into text.
template <typename Body> const char *guarded(ccapnp_work *work, Body &&body) noexcept {
    try {
        body();
        return nullptr;
    } catch (const kj::Exception &exception) {
        snprintf(work->error, sizeof work->error, "%s", exception.getDescription().cStr());
    } catch (const std::exception &exception) {
        snprintf(work->error, sizeof work->error, "%s", exception.what());
    } catch (...) {
        snprintf(work->error, sizeof work->error, "an unknown exception of libcapnp");
    }
    return work->error;
}

// A message that was received: a reader over its bytes, and where text and data lie in them.
class Received {
public:
    Received(ccapnp_work &work, const uint8_t *bytes, size_t size);

    template <typename Root> typename Root::Reader root() { return reader->getRoot<Root>(); }
    const uint8_t *base() const { return reinterpret_cast<const uint8_t *>(words.begin()); }
    template <typename Blob> // Text or data.
    cc_bytes at(Blob blob) const {
        if (blob.size() == 0) return {0, 0}; // An absent one points outside the message.
        auto begin = reinterpret_cast<const uint8_t *>(blob.begin());
        return {static_cast<uint32_t>(begin - base()), static_cast<uint32_t>(blob.size())};
    }
    template <typename Texts> cc_range texts(std::vector<cc_bytes> &column, Texts list) const {
        cc_range range = {static_cast<uint32_t>(column.size()), list.size()};
        for (auto text : list)
            column.push_back(at(text));
        return range;
    }

private:
    kj::ArrayPtr<const capnp::word> words;
    std::optional<capnp::FlatArrayMessageReader> reader;
};

// Sets a text field by its init function; an empty one stays absent, and costs nothing.
template <typename Init> void setText(const uint8_t *bytes, cc_bytes at, Init &&init) {
    if (at.length == 0) return;
    auto text = init(at.length);
    memcpy(text.begin(), bytes + at.offset, at.length);
}
template <typename Init> void setTexts(const uint8_t *bytes, const cc_bytes *texts, cc_range range, Init &&init) {
    if (range.count == 0) return;
    auto list = init(range.count);
    for (uint32_t i = 0; i < range.count; i++) {
        setText(bytes, texts[range.first + i], [&](unsigned n) { return list.init(i, n); });
    }
}
inline capnp::Data::Reader dataAt(const uint8_t *bytes, cc_bytes at) {
    return capnp::Data::Reader(bytes + at.offset, at.length);
}
