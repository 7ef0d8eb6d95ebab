#include "work.hpp"

ccapnp_work::~ccapnp_work() {
    builder.reset();
    free(firstSegment);
}

capnp::MallocMessageBuilder &ccapnp_work::build() {
    builder.reset();
    if (firstSegment == nullptr) {
        firstSegment = static_cast<capnp::word *>(calloc(firstSegmentWords, sizeof(capnp::word)));
        if (firstSegment == nullptr) throw std::bad_alloc();
    }
    return builder.emplace(kj::arrayPtr(firstSegment, firstSegmentWords));
}

size_t ccapnp_work::builtSize() {
    return capnp::computeSerializedSizeInWords(*builder) * sizeof(capnp::word);
}

Received::Received(ccapnp_work &work, const uint8_t *bytes, size_t size) {
    if (size % sizeof(capnp::word) != 0) throw std::runtime_error("its size is no multiple of 8 bytes");
    // Positions in a message have 32 bits here.
    if (size > UINT32_MAX) throw std::runtime_error("it has over 4 GiB");
    size_t count = size / sizeof(capnp::word);
    if (reinterpret_cast<uintptr_t>(bytes) % alignof(capnp::word) == 0) {
        words = kj::arrayPtr(reinterpret_cast<const capnp::word *>(bytes), count);
    } else {
        work.aligned.resize(count);
        memcpy(work.aligned.data(), bytes, size);
        words = kj::arrayPtr(reinterpret_cast<const capnp::word *>(work.aligned.data()), count);
    }
    capnp::ReaderOptions options;
    // Every object is read once. Twice its size leaves room for far pointers, and none for a message that unfolds into
    // much more than itself by pointing many times to the same place.
    options.traversalLimitInWords = count * 2 + 128;
    options.nestingLimit = 32;
    reader.emplace(words, options);
}

extern "C" {

ccapnp_work *ccapnp_open(void) {
    try {
        return new ccapnp_work();
    } catch (...) {
        return nullptr;
    }
}

void ccapnp_close(ccapnp_work *work) {
    delete work;
}

void ccapnp_take(ccapnp_work *work, uint8_t *to) {
    if (!work->builder) return;
    auto segments = work->builder->getSegmentsForOutput();
    // The segment table: their number less one, each one's size in words, padded to a word.
    uint32_t entry = static_cast<uint32_t>(segments.size() - 1);
    memcpy(to, &entry, 4);
    to += 4;
    for (auto segment : segments) {
        entry = static_cast<uint32_t>(segment.size());
        memcpy(to, &entry, 4);
        to += 4;
    }
    if (segments.size() % 2 == 0) {
        memset(to, 0, 4);
        to += 4;
    }
    for (auto segment : segments) {
        memcpy(to, segment.begin(), segment.size() * sizeof(capnp::word));
        to += segment.size() * sizeof(capnp::word);
    }
    work->builder.reset();
}

} // extern "C"
