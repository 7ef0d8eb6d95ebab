// The C codec against libcapnp, in both directions, and against messages that nobody should send.
#include "check.hpp"
#include "subworker.capnp.h"

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <cstdlib>
#include <cstring>
#include <random>

extern "C" {
#include "protocol.h"
#include "table.h"
}

namespace {

using Words = kj::Array<capnp::word>;

std::string text(csw_bytes bytes) {
    return std::string(static_cast<const char *>(bytes.data), bytes.size);
}

/// A message's bytes in memory of exactly their size, so that a sanitizer sees a read past the end.
struct Message {
    std::vector<uint64_t> words;
    size_t bytes;
    explicit Message(const void *data, size_t size) : words((size + 7) / 8), bytes(size) {
        if (size != 0) std::memcpy(words.data(), data, size);
    }
    explicit Message(const Words &from) : Message(from.begin(), from.size() * sizeof(capnp::word)) {}
    uint8_t *data() { return reinterpret_cast<uint8_t *>(words.data()); }
};

/// All that a message says, as text: what two decoders must agree on. Empty with `error` set when it is malformed.
std::string describe(Message &message, std::string &error) {
    static csw_reader reader;
    const char *reason = nullptr;
    size_t size = csw_frame_size(message.data(), message.bytes, 64 << 20, &reason);
    if (reason != nullptr || size == 0 || size > message.bytes) {
        error = reason != nullptr ? reason : "incomplete";
        return "";
    }
    csw_reader_open(&reader, message.data(), size);
    csw_envelope envelope;
    std::ostringstream out;
    if (csw_decode_envelope(&reader, &envelope)) {
        out << "kind " << envelope.kind << " descriptors " << envelope.descriptor_count;
        switch (envelope.kind) {
        case CSW_MESSAGE_WELCOME: {
            csw_wire_welcome welcome;
            csw_decode_welcome(&envelope.body, &welcome);
            out << " version " << welcome.protocol_version << " worker " << text(welcome.worker_name) << " staging "
                << text(welcome.staging_directory) << " inline " << welcome.inline_bytes_max << " credit "
                << welcome.credit_bytes << " progress " << welcome.takes_progress << " log "
                << static_cast<int>(welcome.log_level);
            break;
        }
        case CSW_MESSAGE_GRANTED: {
            csw_wire_granted granted;
            csw_decode_granted(&envelope.body, &granted);
            out << " id " << granted.id << " refused " << granted.is_refused << " " << text(granted.text);
            break;
        }
        case CSW_MESSAGE_REFUSED:
            out << " because " << text(envelope.refused);
            break;
        case CSW_MESSAGE_TEMPLATES:
            for (uint32_t i = 0; i < envelope.list.count; i += 1) {
                csw_wire_template item;
                if (!csw_decode_template(&envelope.list, i, &item)) break;
                out << "\ntemplate " << item.id << " " << text(item.method) << " " << text(item.name) << " "
                    << text(item.config) << " " << text(item.attributes) << " constants " << item.constant_count;
                for (uint32_t k = 0; k < item.input_labels.count && reader.error == nullptr; k += 1)
                    out << " in " << text(csw_list_text(&item.input_labels, k));
                for (uint32_t k = 0; k < item.outputs.count; k += 1) {
                    csw_wire_output output;
                    if (!csw_decode_output(&item.outputs, k, &output)) break;
                    out << " out " << text(output.label) << " " << text(output.content_type) << " "
                        << output.is_directory;
                }
            }
            break;
        case CSW_MESSAGE_CALLS:
            for (uint32_t i = 0; i < envelope.list.count; i += 1) {
                csw_wire_call call;
                if (!csw_decode_call(&envelope.list, i, &call)) break;
                out << "\ncall " << call.slot << " " << call.template_id << " " << call.attempt.session << " "
                    << call.attempt.task << " " << call.attempt.epoch << " " << call.attempt.attempt << " "
                    << text(call.arguments) << " " << call.array_index << " " << call.ticket;
                for (uint32_t k = 0; k < call.inputs.count; k += 1) {
                    csw_wire_input input;
                    if (!csw_decode_input(&call.inputs, k, &input)) break;
                    out << "\n  input " << input.key.session << " " << input.key.index << " " << input.key.epoch << " "
                        << input.key.number << " " << input.size_bytes << " " << text(input.content_type) << " "
                        << input.is_directory << " " << input.keep << " " << text(input.attributes) << " at "
                        << input.location;
                    if (input.location == CSW_LOCATION_INLINE) out << " " << text(input.bytes);
                    if (input.location == CSW_LOCATION_DESCRIPTOR) out << " " << input.descriptor;
                    if (input.location == CSW_LOCATION_PATH) out << " " << text(input.path);
                }
            }
            break;
        case CSW_MESSAGE_DROP_CACHED:
            for (uint32_t i = 0; i < envelope.list.count; i += 1) {
                csw_key key;
                if (!csw_decode_key(&envelope.list, i, &key)) break;
                out << " key " << key.session << " " << key.index << " " << key.epoch << " " << key.number;
            }
            break;
        case CSW_MESSAGE_CANCEL:
            for (uint32_t i = 0; i < envelope.list.count && reader.error == nullptr; i += 1)
                out << " slot " << csw_list_u32(&envelope.list, i);
            break;
        case CSW_MESSAGE_PING:
            out << " " << envelope.ping;
            break;
        case CSW_MESSAGE_SHUTDOWN:
        case CSW_MESSAGE_KIND_COUNT:
            break;
        }
    }
    error = reader.error != nullptr ? reader.error : "";
    return reader.error != nullptr ? "" : out.str();
}

std::string bytesOf(capnp::Data::Reader data) {
    return std::string(reinterpret_cast<const char *>(data.begin()), data.size());
}

/// The same with libcapnp; throws when the message is malformed.
std::string describeWithLibcapnp(ToSubworker::Reader root) {
    std::ostringstream out;
    out << "kind " << static_cast<int>(root.which()) << " descriptors " << root.getDescriptorCount();
    switch (root.which()) {
    case ToSubworker::WELCOME: {
        auto welcome = root.getWelcome();
        out << " version " << welcome.getProtocolVersion() << " worker " << welcome.getWorkerName().cStr()
            << " staging " << welcome.getStagingDirectory().cStr() << " inline " << welcome.getInlineBytesMax()
            << " credit " << welcome.getCreditBytes() << " progress " << welcome.getTakesProgress() << " log "
            << static_cast<int>(welcome.getLogLevel());
        break;
    }
    case ToSubworker::GRANTED: {
        auto granted = root.getGranted();
        out << " id " << granted.getId() << " refused " << granted.isRefused() << " "
            << (granted.isRefused() ? granted.getRefused() : granted.getDirectory()).cStr();
        break;
    }
    case ToSubworker::REFUSED:
        out << " because " << root.getRefused().cStr();
        break;
    case ToSubworker::TEMPLATES:
        for (auto item : root.getTemplates()) {
            out << "\ntemplate " << item.getId() << " " << item.getMethod().cStr() << " " << item.getName().cStr()
                << " " << bytesOf(item.getConfig()) << " " << bytesOf(item.getAttributes()) << " constants "
                << item.getConstantCount();
            for (auto label : item.getInputLabels())
                out << " in " << label.cStr();
            for (auto output : item.getOutputs())
                out << " out " << output.getLabel().cStr() << " " << output.getContentType().cStr() << " "
                    << output.getIsDirectory();
        }
        break;
    case ToSubworker::CALLS:
        for (auto call : root.getCalls()) {
            out << "\ncall " << call.getSlot() << " " << call.getTemplate() << " " << call.getSession() << " "
                << call.getTask() << " " << call.getEpoch() << " " << call.getAttempt() << " "
                << bytesOf(call.getArguments()) << " " << call.getArrayIndex() << " " << call.getTicket();
            for (auto input : call.getInputs()) {
                auto key = input.getKey();
                out << "\n  input " << key.getSession() << " " << key.getIndex() << " " << key.getEpoch() << " "
                    << key.getNumber() << " " << input.getSizeBytes() << " " << input.getContentType().cStr() << " "
                    << input.getIsDirectory() << " " << input.getKeep() << " " << bytesOf(input.getAttributes())
                    << " at " << static_cast<int>(input.which());
                if (input.isInline()) out << " " << bytesOf(input.getInline());
                if (input.isDescriptor()) out << " " << input.getDescriptor();
                if (input.isPath()) out << " " << input.getPath().cStr();
            }
        }
        break;
    case ToSubworker::DROP_CACHED:
        for (auto key : root.getDropCached())
            out << " key " << key.getSession() << " " << key.getIndex() << " " << key.getEpoch() << " "
                << key.getNumber();
        break;
    case ToSubworker::CANCEL:
        for (auto slot : root.getCancel())
            out << " slot " << slot;
        break;
    case ToSubworker::PING:
        out << " " << root.getPing();
        break;
    case ToSubworker::SHUTDOWN:
        break;
    }
    return out.str();
}

capnp::Data::Reader asData(const char *string) {
    return capnp::Data::Reader(reinterpret_cast<const kj::byte *>(string), std::strlen(string));
}

void fillCalls(ToSubworker::Builder root, unsigned count) {
    root.setDescriptorCount(3);
    auto calls = root.initCalls(count);
    for (unsigned i = 0; i < count; i += 1) {
        auto call = calls[i];
        call.setSlot(i % 64);
        call.setTemplate(7 + i);
        call.setSession(1);
        call.setTask(100 + i);
        call.setEpoch(3);
        call.setAttempt(i);
        call.setArguments(asData("[1, \"zwei\", 3.0]"));
        call.setArrayIndex(i * 2);
        call.setTicket(i + 1);
        auto inputs = call.initInputs(5);
        for (unsigned k = 0; k < 5; k += 1) {
            auto key = inputs[k].initKey();
            key.setSession(1);
            key.setIndex(k);
            key.setEpoch(3);
            key.setNumber(i);
            inputs[k].setContentType("text");
            inputs[k].setKeep(k == 1);
        }
        inputs[0].setInline(asData("some bytes"));
        inputs[0].setSizeBytes(10);
        inputs[0].setAttributes(asData("{\"a\": 1}"));
        inputs[1].setDescriptor(2);
        inputs[1].setSizeBytes(1ull << 40);
        inputs[2].setPath("/some/where/else");
        inputs[2].setIsDirectory(true);
        inputs[3].setCached();
        inputs[4].setInline(asData(""));
    }
}

void fillTemplates(ToSubworker::Builder root) {
    auto templates = root.initTemplates(2);
    for (unsigned i = 0; i < 2; i += 1) {
        templates[i].setId(40 + i);
        templates[i].setMethod("count");
        templates[i].setName("words/count");
        templates[i].setConfig(asData("{\"k\": [1, 2]}"));
        templates[i].setAttributes(asData("{}"));
        templates[i].setConstantCount(static_cast<uint16_t>(i));
        auto labels = templates[i].initInputLabels(2);
        labels.set(0, "words");
        labels.set(1, "and a longer label than eight bytes");
        auto outputs = templates[i].initOutputs(2);
        outputs[0].setLabel("counts");
        outputs[0].setContentType("text/plain");
        outputs[1].setIsDirectory(true);
    }
}

/// Every kind of message that a worker sends.
std::vector<std::function<void(ToSubworker::Builder)>> everyMessage() {
    return {
        [](auto root) {
            auto welcome = root.initWelcome();
            welcome.setProtocolVersion(1);
            welcome.setWorkerName("worker-3");
            welcome.setStagingDirectory("/dev/shm/rain/staging");
            welcome.setInlineBytesMax(65536);
            welcome.setCreditBytes(3ull << 33);
            welcome.setTakesProgress(true);
            welcome.setLogLevel(4);
        },
        [](auto root) { root.setRefused("no task of that name"); },
        [](auto root) { fillTemplates(root); },
        [](auto root) { fillCalls(root, 1); },
        [](auto root) { fillCalls(root, 64); },
        [](auto root) { root.initCalls(0); },
        [](auto root) {
            auto keys = root.initDropCached(3);
            for (unsigned i = 0; i < 3; i += 1)
                keys[i].setIndex(i + 9);
        },
        [](auto root) {
            auto slots = root.initCancel(3);
            slots.set(0, 5);
            slots.set(2, 63);
        },
        [](auto root) { root.setPing(0xfedcba9876543210u); },
        [](auto root) { root.setShutdown(); },
        [](auto root) {
            auto granted = root.initGranted();
            granted.setId(0xfedcba98);
            granted.setDirectory("/dev/shm/rain/staging");
        },
        [](auto root) { root.initGranted().setRefused("memory and disk are full"); },
    };
}

Words build(
    const std::function<void(ToSubworker::Builder)> &fill, unsigned firstSegmentWords,
    capnp::AllocationStrategy strategy) {
    capnp::MallocMessageBuilder builder(firstSegmentWords, strategy);
    fill(builder.initRoot<ToSubworker>());
    return capnp::messageToFlatArray(builder);
}

void expectSame(const Words &words) {
    Message message(words);
    capnp::FlatArrayMessageReader reader(words);
    std::string error;
    std::string ours = describe(message, error);
    EXPECT_EQ(error, "");
    const char *reason = nullptr;
    EXPECT_EQ(csw_frame_size(message.data(), message.bytes, 64 << 20, &reason), message.bytes);
    EXPECT_EQ(ours, describeWithLibcapnp(reader.getRoot<ToSubworker>()));
}

uint64_t seed() {
    const char *text = std::getenv("CSW_TEST_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 0) : 20261121;
}

/// A message of hand-made segments.
Message framed(const std::vector<std::vector<uint64_t>> &segments) {
    std::vector<uint32_t> header = {static_cast<uint32_t>(segments.size() - 1)};
    for (auto &segment : segments)
        header.push_back(static_cast<uint32_t>(segment.size()));
    if (header.size() % 2 != 0) header.push_back(0);
    std::vector<uint64_t> words(header.size() / 2);
    std::memcpy(words.data(), header.data(), header.size() * 4);
    for (auto &segment : segments)
        words.insert(words.end(), segment.begin(), segment.end());
    return Message(words.data(), words.size() * 8);
}

uint64_t structPointer(int offset, unsigned dataWords, unsigned pointers) {
    return static_cast<uint32_t>(offset) << 2 | static_cast<uint64_t>(dataWords) << 32 |
           static_cast<uint64_t>(pointers) << 48;
}

uint64_t listPointer(int offset, unsigned sizeCode, uint64_t count) {
    return (static_cast<uint32_t>(offset) << 2 | 1u) | static_cast<uint64_t>(sizeCode) << 32 | count << 35;
}

uint64_t farPointer(unsigned pad, unsigned segment, bool isDouble) {
    return (static_cast<uint64_t>(pad) << 3 | (isDouble ? 4u : 0u) | 2u) | static_cast<uint64_t>(segment) << 32;
}

std::string errorOf(Message message) {
    std::string error;
    describe(message, error);
    return error;
}

const uint64_t pingData = 6ull << 16; // kind in bits 16 to 31 of the first word

} // namespace

TEST("reads what libcapnp writes in one segment") {
    for (auto &fill : everyMessage())
        expectSame(build(fill, 1024, capnp::AllocationStrategy::GROW_HEURISTICALLY));
}

TEST("reads messages of many segments, with far pointers") {
    unsigned segments = 0, far = 0;
    for (unsigned first = 1; first <= 12; first += 1)
        for (auto &fill : everyMessage()) {
            // 64 calls in segments of one object each are more than 512 segments, which is a limit.
            Words words = build(fill, first, capnp::AllocationStrategy::FIXED_SIZE);
            uint32_t count = *reinterpret_cast<const uint32_t *>(words.begin()) + 1;
            if (count > 512) continue;
            expectSame(words);
            segments = std::max(segments, count);
            Message message(words);
            if ((message.words[count / 2 + 1] & 7) == 2) far += 1;
        }
    EXPECT(segments > 20);
    EXPECT(far > 5);
}

TEST("reads double-far pointers that libcapnp makes") {
    // A text that fills its segment before its pointer is known: no room there for a landing pad.
    static const uint64_t external[8] = {~0ull, 2, 3, 4, 5, 6, 7, ~0ull};
    unsigned doubleFar = 0;
    for (size_t length : {7, 8, 31, 500}) {
        capnp::MallocMessageBuilder builder(4, capnp::AllocationStrategy::FIXED_SIZE);
        auto root = builder.initRoot<ToSubworker>();
        std::string why(length, 'y');
        root.adoptRefused(builder.getOrphanage().newOrphanCopy(capnp::Text::Reader(why.c_str(), why.size())));
        Words words = capnp::messageToFlatArray(builder);
        Message message(words);
        size_t header = (message.words[0] & 0xffffffff) / 2 + 1 + ((message.words[0] & 1) != 0 ? 1 : 0);
        if ((message.words[header + 3] & 7) == 6) doubleFar += 1;
        expectSame(words);
    }
    EXPECT(doubleFar > 0);
    capnp::MallocMessageBuilder builder(4, capnp::AllocationStrategy::FIXED_SIZE);
    auto root = builder.initRoot<ToSubworker>();
    fillCalls(root, 3);
    for (auto call : root.getCalls())
        call.getInputs()[0].adoptInline(builder.getOrphanage().referenceExternalData(
            capnp::Data::Reader(reinterpret_cast<const kj::byte *>(external), 64)));
    for (auto call : root.getCalls())
        call.getInputs()[0].setSizeBytes(64);
    expectSame(capnp::messageToFlatArray(builder));
}

TEST("refuses more than 512 segments") {
    Words words = build([](auto root) { fillCalls(root, 64); }, 1, capnp::AllocationStrategy::FIXED_SIZE);
    EXPECT_EQ(errorOf(Message(words)), "more than 512 segments");
}

TEST("reads hand-made far and double-far pointers") {
    std::string error;
    Message single = framed({{farPointer(1, 1, false)}, {0, structPointer(0, 2, 0), pingData, 42}});
    EXPECT_EQ(describe(single, error), "kind 6 descriptors 0 42");
    Message twice =
        framed({{farPointer(1, 1, true)}, {0, farPointer(1, 2, false), structPointer(0, 2, 0)}, {99, pingData, 43}});
    EXPECT_EQ(describe(twice, error), "kind 6 descriptors 0 43");
    Message text = framed(
        {{structPointer(0, 2, 1), 1ull << 16, 0, farPointer(0, 1, true)},
         {farPointer(1, 0, false), listPointer(0, 2, 4)}});
    // The text's content is segment 0 from word 1: its first four bytes are 0, 0, 1, 0.
    EXPECT_EQ(describe(text, error), "kind 1 descriptors 0 because " + std::string("\0\0\1", 3));
    EXPECT_EQ(error, "");
}

TEST("a malformed far pointer is an error") {
    EXPECT_EQ(errorOf(framed({{farPointer(0, 1, false)}})), "far pointer to a segment that is not there");
    EXPECT_EQ(errorOf(framed({{farPointer(7, 0, false)}})), "far pointer out of its segment");
    EXPECT_EQ(errorOf(framed({{farPointer(1, 0, true), farPointer(0, 0, false)}})), "far pointer out of its segment");
    EXPECT_EQ(
        errorOf(framed({{farPointer(1, 0, false), farPointer(1, 0, false)}})),
        "landing pad that holds no struct or list pointer");
    EXPECT_EQ(
        errorOf(framed({{farPointer(1, 0, true), structPointer(0, 2, 0), 0}})),
        "double-far pointer without a far pointer in its landing pad");
    EXPECT_EQ(
        errorOf(framed({{farPointer(1, 0, true), farPointer(0, 9, false), structPointer(0, 2, 0)}})),
        "far pointer to a segment that is not there");
}

TEST("a pointer out of its segment, of the wrong kind or to a capability is an error") {
    EXPECT_EQ(errorOf(framed({{}})), "empty first segment");
    EXPECT_EQ(errorOf(framed({{0}})), "no root");
    EXPECT_EQ(errorOf(framed({{structPointer(1, 2, 0), 0, 0}})), "pointer out of its segment");
    EXPECT_EQ(errorOf(framed({{structPointer(-3, 2, 0), 0, 0}})), "pointer out of its segment");
    EXPECT_EQ(errorOf(framed({{structPointer(0, 65535, 65535), 0}})), "pointer out of its segment");
    EXPECT_EQ(errorOf(framed({{listPointer(0, 2, 8), 0}})), "list where a struct belongs");
    EXPECT_EQ(errorOf(framed({{3}})), "capability where data belongs");
    EXPECT_EQ(
        errorOf(framed({{structPointer(0, 1, 1), 1ull << 16, structPointer(-1, 0, 0)}})),
        "struct where a list belongs");
    EXPECT_EQ(
        errorOf(framed({{structPointer(0, 1, 1), 1ull << 16, listPointer(0, 2, 8), 0x4141414141414141}})),
        "text that does not end in NUL");
    EXPECT_EQ(
        errorOf(framed({{structPointer(0, 1, 1), 1ull << 16, listPointer(0, 2, 0)}})), "text that does not end in NUL");
    EXPECT_EQ(
        errorOf(framed({{structPointer(0, 1, 1), 1ull << 16, listPointer(0, 4, 1), 0}})),
        "list of something else where bytes belong");
    EXPECT_EQ(
        errorOf(framed({{structPointer(0, 1, 0), 99ull << 16}})), "message of a kind that this version does not know");
}

TEST("a list whose count exceeds its words, or that has no size and millions of elements, is an error") {
    uint64_t calls = 3ull << 16;
    EXPECT_EQ(
        errorOf(framed({{structPointer(0, 1, 1), calls, listPointer(0, 7, 2), structPointer(2, 2, 0), 0, 0}})),
        "list of structs that is longer than its words");
    EXPECT_EQ(
        errorOf(framed({{structPointer(0, 1, 1), calls, listPointer(0, 7, 0), structPointer(1 << 28, 0, 0)}})),
        "more to read than there are bytes: pointers overlap");
    EXPECT_EQ(
        errorOf(framed({{structPointer(0, 1, 1), calls, listPointer(0, 0, (1u << 29) - 1)}})),
        "more to read than there are bytes: pointers overlap");
    EXPECT_EQ(
        errorOf(framed({{structPointer(0, 1, 1), calls, listPointer(0, 7, 1), listPointer(0, 2, 1), 0}})),
        "list of structs whose tag is none");
    EXPECT_EQ(
        errorOf(framed({{structPointer(0, 1, 1), calls, listPointer(0, 1, 64), 0}})),
        "list of bits where there is none in the schema");
}

TEST("pointers that share bytes again and again are an error, not work without end") {
    // 4,000 templates whose method is one text of 16 KiB: 64 MiB to read out of 100 KiB.
    const unsigned count = 4000, textWords = 2048;
    std::vector<uint64_t> segment = {
        structPointer(0, 1, 1), 2ull << 16, listPointer(0, 7, count * 2), structPointer(static_cast<int>(count), 1, 1)};
    for (unsigned i = 0; i < count; i += 1) {
        segment.push_back(i);
        segment.push_back(listPointer(static_cast<int>((count - i - 1) * 2), 2, textWords * 8));
    }
    segment.resize(segment.size() + textWords, 0);
    EXPECT_EQ(errorOf(framed({segment})), "more to read than there are bytes: pointers overlap");
}

TEST("nesting has a limit") {
    // A struct whose only pointer leads to the next one.
    std::vector<uint64_t> segment;
    for (int i = 0; i < 100; i += 1)
        segment.push_back(structPointer(0, 0, 1));
    segment.push_back(0);
    Message message = framed({segment});
    static csw_reader reader;
    csw_reader_open(&reader, message.data(), message.bytes);
    csw_struct at = csw_reader_root(&reader);
    for (int i = 0; i < 62; i += 1)
        at = csw_struct_struct(&at, 0);
    EXPECT(reader.error == nullptr);
    for (int i = 0; i < 10; i += 1)
        at = csw_struct_struct(&at, 0);
    EXPECT_EQ(std::string(reader.error != nullptr ? reader.error : ""), "nested too deep");
}

TEST("a struct may be smaller or larger than this version knows") {
    std::string error;
    // A root of no data and no pointers: everything has its default.
    Message small = framed({{structPointer(-1, 0, 0)}});
    EXPECT_EQ(
        describe(small, error), "kind 0 descriptors 0 version 0 worker  staging  inline 0 credit 0 progress 0 log 0");
    Message large = framed({{structPointer(0, 5, 3), pingData, 44, 7, 7, 7, 0, 0, 0}});
    EXPECT_EQ(describe(large, error), "kind 6 descriptors 0 44");
    // Keys as a list of numbers of 8 bytes: a list of structs that was a list of their first fields once.
    Message keys = framed({{structPointer(0, 1, 1), 4ull << 16, listPointer(0, 5, 2), 7ull << 32 | 6, 9ull << 32 | 8}});
    EXPECT_EQ(describe(keys, error), "kind 4 descriptors 0 key 6 7 0 0 key 8 9 0 0");
    // And slots as a list of structs.
    Message slots =
        framed({{structPointer(0, 1, 1), 5ull << 16, listPointer(0, 7, 4), structPointer(2, 1, 1), 11, 0, 12, 0}});
    EXPECT_EQ(describe(slots, error), "kind 5 descriptors 0 slot 11 slot 12");
    EXPECT_EQ(error, "");
}

TEST("a header that promises too much is an error at once") {
    const char *reason = nullptr;
    uint32_t large[2] = {0, 1u << 30};
    EXPECT_EQ(csw_frame_size(reinterpret_cast<uint8_t *>(large), 8, 64 << 20, &reason), 0u);
    EXPECT_EQ(std::string(reason), "longer than the limit for one message");
    reason = nullptr;
    uint32_t many[2] = {0xffffffffu, 1};
    EXPECT_EQ(csw_frame_size(reinterpret_cast<uint8_t *>(many), 8, 64 << 20, &reason), 0u);
    EXPECT_EQ(std::string(reason), "more than 512 segments");
}

TEST("semantic nonsense is an error: slots, sizes, relative paths") {
    auto of = [](const std::function<void(Call::Builder)> &fill) {
        return errorOf(Message(build(
            [&](auto root) {
                fillCalls(root, 1);
                fill(root.getCalls()[0]);
            },
            1024, capnp::AllocationStrategy::GROW_HEURISTICALLY)));
    };
    EXPECT_EQ(of([](auto call) { call.setSlot(64); }), "call for a slot above 63");
    EXPECT_EQ(
        of([](auto call) { call.getInputs()[0].setSizeBytes(11); }),
        "inline input that is not as long as its size says");
    EXPECT_EQ(of([](auto call) { call.getInputs()[2].setPath("a/b"); }), "input whose path is not absolute");
    EXPECT_EQ(of([](auto call) { call.getInputs()[2].setPath(""); }), "input whose path is not absolute");
}

TEST("a message that is cut off anywhere is incomplete or an error") {
    for (auto strategy : {capnp::AllocationStrategy::GROW_HEURISTICALLY, capnp::AllocationStrategy::FIXED_SIZE})
        for (auto &fill : everyMessage()) {
            Words words = build(fill, strategy == capnp::AllocationStrategy::FIXED_SIZE ? 2 : 1024, strategy);
            size_t size = words.size() * 8;
            if (size > 20000) continue;
            for (size_t cut = 0; cut < size; cut += 1)
                EXPECT(errorOf(Message(words.begin(), cut)) != "");
            // Cut off, but with a header that agrees: every pointer beyond the end is found.
            Message whole(words);
            uint32_t count = static_cast<uint32_t>(whole.words[0]) + 1;
            if (count != 1) continue;
            for (size_t left = 0; left + 2 < words.size(); left += 1) {
                Message cut(words.begin(), (left + 1) * 8);
                cut.words[0] = static_cast<uint64_t>(left) << 32;
                std::string error;
                std::string said = describe(cut, error);
                EXPECT(error != "" || said != "");
            }
        }
}

TEST("mutated messages are read or refused, and never read out of bounds") {
    std::mt19937_64 random(seed());
    auto messages = everyMessage();
    unsigned refused = 0, accepted = 0, differing = 0;
    for (unsigned round = 0; round < 60000; round += 1) {
        bool isSegmented = random() % 2 != 0;
        auto &fill = messages[random() % messages.size()];
        Words words = build(
            fill, isSegmented ? 1 + static_cast<unsigned>(random() % 8) : 1024,
            isSegmented ? capnp::AllocationStrategy::FIXED_SIZE : capnp::AllocationStrategy::GROW_HEURISTICALLY);
        Message message(words);
        for (unsigned k = 0, count = 1 + random() % 4; k < count; k += 1) {
            size_t word = random() % message.words.size();
            switch (random() % 4) {
            case 0:
                message.words[word] ^= 1ull << random() % 64;
                break;
            case 1:
                message.data()[random() % message.bytes] = static_cast<uint8_t>(random());
                break;
            case 2:
                message.words[word] = message.words[random() % message.words.size()];
                break;
            default:
                message.words[word] = random() % 2 != 0 ? random() : ~0ull >> random() % 64;
                break;
            }
        }
        std::string error;
        std::string ours = describe(message, error);
        if (error != "") {
            refused += 1;
            continue;
        }
        accepted += 1;
        // What both accept, both read alike.
        std::string theirs;
        try {
            capnp::ReaderOptions options;
            options.traversalLimitInWords = 8 << 20;
            capnp::FlatArrayMessageReader reader(
                kj::arrayPtr(reinterpret_cast<const capnp::word *>(message.words.data()), message.words.size()),
                options);
            theirs = describeWithLibcapnp(reader.getRoot<ToSubworker>());
        } catch (const kj::Exception &) {
            continue;
        }
        // cStr() ends at a NUL inside a text; then only the beginning is alike.
        if (ours.find('\0') == std::string::npos && ours != theirs) differing += 1;
    }
    std::printf(
        "      seed %llu: %u refused, %u accepted\n", static_cast<unsigned long long>(seed()), refused, accepted);
    EXPECT(refused > 5000);
    EXPECT(accepted > 5000);
    EXPECT_EQ(differing, 0u);
}

// --- The builder ---------------------------------------------------------------------------------------------------

namespace {

csw_bytes bytes(const char *string) {
    return {string, std::strlen(string)};
}

/// Opens what the C builder made, with libcapnp.
struct Built {
    Words words;
    capnp::FlatArrayMessageReader reader;
    explicit Built(const csw_builder &builder) : words(copy(builder)), reader(words) {}
    ToWorker::Reader root() { return reader.getRoot<ToWorker>(); }
    static Words copy(const csw_builder &builder) {
        auto words = kj::heapArray<capnp::word>(builder.words);
        std::memcpy(words.begin(), builder.bytes, builder.words * 8);
        return words;
    }
};

} // namespace

TEST("libcapnp reads a registration") {
    const char *inputs[] = {"words", "stop words"}, *outputs[] = {"counts"};
    const char *inputTypes[] = {"text/plain", ""}, *outputTypes[] = {"application/json"};
    csw_wire_task tasks[] = {
        {"count", "Counts.", inputs, 2, outputs, 1, inputTypes, outputTypes},
        {"", "", nullptr, 0, nullptr, 0, nullptr, nullptr}};
    csw_wire_register message = {"wordcount", "csubworker 0.1.0", tasks, 2, true, false, true, 1};
    csw_builder builder = {};
    EXPECT(csw_encode_register(&builder, &message));
    Built built(builder);
    auto read = built.root().getRegister();
    EXPECT_EQ(read.getProtocolVersion(), PROTOCOL_VERSION);
    EXPECT_EQ(std::string(read.getName()), "wordcount");
    EXPECT_EQ(std::string(read.getLibrary()), "csubworker 0.1.0");
    EXPECT(read.getCapabilities().getDescriptors());
    EXPECT(!read.getCapabilities().getControlPage());
    EXPECT(read.getCapabilities().getCaching());
    EXPECT_EQ(read.getCapabilities().getThreads(), 1);
    EXPECT_EQ(read.getTasks().size(), 2u);
    EXPECT_EQ(std::string(read.getTasks()[0].getName()), "count");
    EXPECT_EQ(std::string(read.getTasks()[0].getDocumentation()), "Counts.");
    EXPECT_EQ(std::string(read.getTasks()[0].getInputs()[1]), "stop words");
    EXPECT_EQ(std::string(read.getTasks()[0].getOutputs()[0]), "counts");
    EXPECT_EQ(read.getTasks()[0].getInputContentTypes().size(), 2u);
    EXPECT_EQ(std::string(read.getTasks()[0].getInputContentTypes()[0]), "text/plain");
    EXPECT_EQ(std::string(read.getTasks()[0].getInputContentTypes()[1]), "");
    EXPECT_EQ(std::string(read.getTasks()[0].getOutputContentTypes()[0]), "application/json");
    EXPECT_EQ(read.getTasks()[1].getInputContentTypes().size(), 0u);
    EXPECT_EQ(std::string(read.getTasks()[1].getName()), "");
    EXPECT_EQ(read.getTasks()[1].getInputs().size(), 0u);
    csw_builder_release(&builder);
}

TEST("libcapnp reads a pong") {
    csw_builder builder = {};
    EXPECT(csw_encode_pong(&builder, 0x123456789abcdef0));
    EXPECT_EQ(Built(builder).root().getPong(), 0x123456789abcdef0u);
    csw_builder_release(&builder);
}

TEST("libcapnp reads a reserve and progress") {
    csw_builder builder = {};
    EXPECT(csw_encode_reserve(&builder, 63, 0xfedcba98, 3ull << 40));
    {
        Built built(builder);
        auto read = built.root().getReserve();
        EXPECT_EQ(read.getSlot(), 63u);
        EXPECT_EQ(read.getId(), 0xfedcba98u);
        EXPECT_EQ(read.getSizeBytes(), 3ull << 40);
    }
    for (std::string line : {"", "1234567", "half of the words are counted"}) {
        EXPECT(csw_encode_progress(&builder, 7, 500000, {line.data(), line.size()}));
        Built built(builder);
        auto read = built.root().getProgress();
        EXPECT_EQ(read.size(), 1u);
        EXPECT_EQ(read[0].getSlot(), 7u);
        EXPECT_EQ(read[0].getMillionths(), 500000u);
        EXPECT_EQ(std::string(read[0].getText()), line);
    }
    csw_builder_release(&builder);
}

TEST("libcapnp reads results of every kind, from 0 to 64 in a message") {
    csw_results results = {};
    std::string large(70000, 'x');
    for (unsigned count = 0; count <= 64; count += count < 4 ? 1 : 20) {
        if (count == 0) continue;
        for (unsigned i = 0; i < count; i += 1) {
            csw_wire_value values[] = {
                {CSW_LOCATION_INLINE, bytes("some bytes"), bytes("text"), bytes("{\"a\":1}"), false, 0},
                {CSW_LOCATION_PATH, bytes("/staging/1"), bytes(""), bytes(""), true, 0},
                {CSW_LOCATION_CACHED, bytes(""), bytes(""), bytes(""), false, 17},
                {CSW_LOCATION_INLINE, {large.data(), large.size()}, bytes(""), bytes(""), false, 0},
                {CSW_LOCATION_INLINE, bytes(""), bytes(""), bytes(""), false, 0},
            };
            csw_wire_result result = {};
            result.slot = i;
            result.duration_ns = 1000000007ull * i;
            result.outcome = static_cast<csw_outcome>(i % 3);
            result.debug = i % 2 == 0 ? bytes("a line\nanother\n") : bytes("");
            result.attributes = i % 4 == 0 ? bytes("{}") : bytes("");
            result.outputs = values;
            result.output_count = i % 6 == 0 ? 5 : i % 5;
            result.message = bytes("went wrong");
            result.detail = bytes("here\nand there");
            EXPECT(csw_results_add(&results, &result));
        }
        csw_results_finish(&results);
        Built built(results.builder);
        auto read = built.root().getResults();
        EXPECT_EQ(read.size(), count);
        for (unsigned i = 0; i < count; i += 1) {
            EXPECT_EQ(read[i].getSlot(), i);
            EXPECT_EQ(read[i].getDurationNanoseconds(), 1000000007ull * i);
            EXPECT_EQ(std::string(read[i].getDebug()), i % 2 == 0 ? "a line\nanother\n" : "");
            EXPECT_EQ(bytesOf(read[i].getAttributes()), i % 4 == 0 ? "{}" : "");
            EXPECT_EQ(static_cast<unsigned>(read[i].which()), i % 3);
            if (read[i].isError()) {
                EXPECT_EQ(std::string(read[i].getError().getMessage()), "went wrong");
                EXPECT_EQ(std::string(read[i].getError().getDetail()), "here\nand there");
            }
            if (!read[i].isOutputs()) continue;
            auto outputs = read[i].getOutputs();
            EXPECT_EQ(outputs.size(), i % 6 == 0 ? 5 : i % 5);
            if (outputs.size() < 5) continue;
            EXPECT_EQ(bytesOf(outputs[0].getInline()), "some bytes");
            EXPECT_EQ(std::string(outputs[0].getContentType()), "text");
            EXPECT_EQ(bytesOf(outputs[0].getAttributes()), "{\"a\":1}");
            EXPECT_EQ(std::string(outputs[1].getPath()), "/staging/1");
            EXPECT(outputs[1].getIsDirectory());
            EXPECT_EQ(outputs[2].getSameAsInput(), 17);
            EXPECT(bytesOf(outputs[3].getInline()) == large);
            EXPECT(outputs[4].isInline());
            EXPECT_EQ(outputs[4].getInline().size(), 0u);
        }
        csw_results_clear(&results);
    }
    csw_builder_release(&results.builder);
}

TEST("a results message takes no more than 64") {
    csw_results results = {};
    csw_wire_result result = {};
    result.outcome = CSW_OUTCOME_CANCELLED;
    for (unsigned i = 0; i < 64; i += 1)
        EXPECT(csw_results_add(&results, &result));
    EXPECT(!csw_results_add(&results, &result));
    csw_builder_release(&results.builder);
}

TEST("a table finds what was put in and not removed") {
    std::mt19937_64 random(seed());
    csw_table table = {};
    std::vector<uint64_t> present(512, 0);
    std::vector<uint64_t> values(100000);
    for (size_t round = 0; round < values.size(); round += 1) {
        uint64_t at = random() % present.size();
        csw_table_key key = {at % 7, at};
        uint64_t expected = present[at];
        void *found = csw_table_find(&table, key);
        EXPECT(found == (expected != 0 ? &values[expected] : nullptr));
        if (random() % 2 == 0 && round != 0) {
            EXPECT(csw_table_put(&table, key, &values[round]));
            present[at] = round;
        } else {
            EXPECT(csw_table_remove(&table, key) == found);
            present[at] = 0;
        }
    }
    size_t count = 0;
    for (auto value : present)
        count += value != 0 ? 1 : 0;
    EXPECT_EQ(table.count, count);
    csw_table_release(&table, [](void *) {});
}

int main() {
    return check::runAll();
}
