// The subworker plane, the worker's side.
#include "generated/subworker.capnp.h"
#include "work.hpp"

// The size of the first message in stream framing; 0 when more bytes are needed to tell.
static size_t announcedSize(const uint8_t *bytes, size_t size, size_t limit) {
    if (size < 4) return 0;
    uint32_t last;
    memcpy(&last, bytes, 4);
    if (last >= 512) throw std::runtime_error("it announces over 512 segments");
    size_t segments = size_t(last) + 1;
    size_t header = (4 + segments * 4 + 7) / 8 * 8;
    if (size < header) return 0;
    size_t total = header;
    for (size_t i = 0; i < segments; i++) {
        uint32_t words;
        memcpy(&words, bytes + 4 + i * 4, 4);
        total += size_t(words) * 8;
    }
    if (total > limit)
        throw std::runtime_error(
            "it announces " + std::to_string(total) + " bytes, over the limit of " + std::to_string(limit));
    return total;
}

static void decodeRegister(ccapnp_work &work, Received &message, Register::Reader from) {
    auto capabilities = from.getCapabilities();
    work.toWorker.kind = CS_REGISTER;
    work.toWorker.registration = {
        message.at(from.getName()), message.at(from.getLibrary()), from.getProtocolVersion(),
        capabilities.getThreads(),  capabilities.getDescriptors(), capabilities.getControlPage(),
        capabilities.getCaching(),
    };
    for (auto task : from.getTasks()) {
        auto name = message.at(task.getName());
        auto documentation = message.at(task.getDocumentation());
        auto inputs = message.texts(work.texts, task.getInputs());
        work.tasks.push_back({name, documentation, inputs, message.texts(work.texts, task.getOutputs())});
    }
}

static cs_output decodeOutput(Received &message, OutputValue::Reader from) {
    cs_output output = {};
    output.content_type = message.at(from.getContentType());
    output.attributes = message.at(from.getAttributes());
    output.is_directory = from.getIsDirectory();
    switch (from.which()) {
    case OutputValue::INLINE:
        output.kind = CS_OUTPUT_INLINE;
        output.value = message.at(from.getInline());
        return output;
    case OutputValue::PATH:
        output.kind = CS_OUTPUT_PATH;
        output.value = message.at(from.getPath());
        return output;
    case OutputValue::SAME_AS_INPUT:
        output.kind = CS_OUTPUT_SAME_AS_INPUT;
        output.input = from.getSameAsInput();
        return output;
    }
    throw std::runtime_error("an output is of an unknown kind");
}

static cs_result decodeResult(ccapnp_work &work, Received &message, Result::Reader from) {
    cs_result result = {};
    result.slot = from.getSlot();
    result.duration_nanoseconds = from.getDurationNanoseconds();
    result.debug = message.at(from.getDebug());
    result.attributes = message.at(from.getAttributes());
    switch (from.which()) {
    case Result::OUTPUTS: {
        auto outputs = from.getOutputs();
        result.kind = CS_OUTPUTS;
        result.outputs = {static_cast<uint32_t>(work.outputs.size()), outputs.size()};
        for (auto output : outputs)
            work.outputs.push_back(decodeOutput(message, output));
        return result;
    }
    case Result::ERROR: {
        auto error = from.getError();
        result.kind = CS_ERROR;
        result.message = message.at(error.getMessage());
        result.detail = message.at(error.getDetail());
        return result;
    }
    case Result::CANCELLED:
        result.kind = CS_CANCELLED;
        return result;
    }
    throw std::runtime_error("a result is of an unknown kind");
}

static void decodeToWorker(ccapnp_work &work, Received &message) {
    work.texts.clear();
    work.tasks.clear();
    work.results.clear();
    work.outputs.clear();
    work.callProgress.clear();
    auto root = message.root<ToWorker>();
    switch (root.which()) {
    case ToWorker::REGISTER:
        decodeRegister(work, message, root.getRegister());
        break;
    case ToWorker::RESULTS:
        work.toWorker.kind = CS_RESULTS;
        for (auto result : root.getResults())
            work.results.push_back(decodeResult(work, message, result));
        break;
    case ToWorker::PONG:
        work.toWorker.kind = CS_PONG;
        work.toWorker.pong = root.getPong();
        break;
    case ToWorker::RESERVE: {
        auto reserve = root.getReserve();
        work.toWorker.kind = CS_RESERVE;
        work.toWorker.reserve = {reserve.getSizeBytes(), reserve.getSlot(), reserve.getId()};
        break;
    }
    case ToWorker::PROGRESS:
        work.toWorker.kind = CS_PROGRESS;
        for (auto progress : root.getProgress())
            work.callProgress.push_back({progress.getSlot(), progress.getMillionths(), message.at(progress.getText())});
        break;
    default:
        throw std::runtime_error("it is of an unknown kind");
    }
    auto &out = work.toWorker;
    out.bytes = message.base();
    out.texts = work.texts.data();
    out.tasks = work.tasks.data();
    out.task_count = work.tasks.size();
    out.results = work.results.data();
    out.result_count = work.results.size();
    out.outputs = work.outputs.data();
    out.progress = work.callProgress.data();
    out.progress_count = work.callProgress.size();
}

static void encodeTemplates(const cs_to_subworker &from, capnp::List<Template>::Builder to) {
    for (uint32_t i = 0; i < to.size(); i++) {
        const cs_template &source = from.templates[i];
        auto target = to[i];
        target.setId(source.id);
        target.setConstantCount(static_cast<uint16_t>(source.constant_count));
        setText(from.bytes, source.method, [&](unsigned n) { return target.initMethod(n); });
        setText(from.bytes, source.name, [&](unsigned n) { return target.initName(n); });
        if (source.config.length > 0) target.setConfig(dataAt(from.bytes, source.config));
        if (source.attributes.length > 0) target.setAttributes(dataAt(from.bytes, source.attributes));
        setTexts(from.bytes, from.texts, source.input_labels, [&](unsigned n) { return target.initInputLabels(n); });
        if (source.outputs.count == 0) continue;
        auto outputs = target.initOutputs(source.outputs.count);
        for (uint32_t j = 0; j < source.outputs.count; j++) {
            const cs_template_output &output = from.template_outputs[source.outputs.first + j];
            auto targetOutput = outputs[j];
            setText(from.bytes, output.label, [&](unsigned n) { return targetOutput.initLabel(n); });
            setText(from.bytes, output.content_type, [&](unsigned n) { return targetOutput.initContentType(n); });
            targetOutput.setIsDirectory(output.is_directory != 0);
        }
    }
}

static void setKey(ObjectKey::Builder key, const cc_id &id) {
    key.setSession(id.session);
    key.setIndex(id.index);
    key.setEpoch(id.epoch);
    key.setNumber(id.number);
}

static void encodeInput(const cs_to_subworker &from, const cs_input &source, Input::Builder target) {
    setKey(target.initKey(), source.replica);
    target.setSizeBytes(source.size_bytes);
    setText(from.bytes, source.content_type, [&](unsigned n) { return target.initContentType(n); });
    target.setIsDirectory(source.is_directory != 0);
    target.setKeep(source.is_kept != 0);
    if (source.attributes.length > 0) target.setAttributes(dataAt(from.bytes, source.attributes));
    switch (source.kind) {
    case CS_INPUT_INLINE:
        target.setInline(dataAt(from.bytes, source.value));
        break;
    case CS_INPUT_DESCRIPTOR:
        target.setDescriptor(source.descriptor);
        break;
    case CS_INPUT_PATH: {
        auto path = target.initPath(source.value.length);
        memcpy(path.begin(), from.bytes + source.value.offset, source.value.length);
        break;
    }
    case CS_INPUT_CACHED:
        target.setCached();
        break;
    }
}

static void encodeCalls(const cs_to_subworker &from, capnp::List<Call>::Builder to) {
    for (uint32_t i = 0; i < to.size(); i++) {
        const cs_call &source = from.calls[i];
        auto target = to[i];
        target.setSlot(source.slot);
        target.setTemplate(source.template_id);
        target.setSession(source.attempt.session);
        target.setTask(source.attempt.index);
        target.setEpoch(source.attempt.epoch);
        target.setAttempt(source.attempt.number);
        target.setArrayIndex(source.array_index);
        target.setTicket(source.ticket);
        if (source.arguments.length > 0) target.setArguments(dataAt(from.bytes, source.arguments));
        if (source.inputs.count == 0) continue;
        auto inputs = target.initInputs(source.inputs.count);
        for (uint32_t j = 0; j < source.inputs.count; j++)
            encodeInput(from, from.inputs[source.inputs.first + j], inputs[j]);
    }
}

static void encodeToSubworker(const cs_to_subworker &from, ToSubworker::Builder to) {
    to.setDescriptorCount(static_cast<uint16_t>(from.descriptor_count));
    switch (from.kind) {
    case CS_WELCOME: {
        auto welcome = to.initWelcome();
        welcome.setProtocolVersion(static_cast<uint16_t>(from.welcome.protocol_version));
        setText(from.bytes, from.welcome.worker_name, [&](unsigned n) { return welcome.initWorkerName(n); });
        setText(
            from.bytes, from.welcome.staging_directory, [&](unsigned n) { return welcome.initStagingDirectory(n); });
        welcome.setInlineBytesMax(from.welcome.inline_bytes_max);
        welcome.setCreditBytes(from.welcome.credit_bytes);
        welcome.setTakesProgress(from.welcome.takes_progress != 0);
        welcome.setLogLevel(from.welcome.log_level);
        break;
    }
    case CS_REFUSED: {
        auto text = to.initRefused(from.refusal.length);
        memcpy(text.begin(), from.bytes + from.refusal.offset, from.refusal.length);
        break;
    }
    case CS_TEMPLATES:
        encodeTemplates(from, to.initTemplates(static_cast<unsigned>(from.template_count)));
        break;
    case CS_CALLS:
        encodeCalls(from, to.initCalls(static_cast<unsigned>(from.call_count)));
        break;
    case CS_DROP_CACHED: {
        auto keys = to.initDropCached(static_cast<unsigned>(from.replica_count));
        for (uint32_t i = 0; i < keys.size(); i++)
            setKey(keys[i], from.replicas[i]);
        break;
    }
    case CS_CANCEL: {
        auto slots = to.initCancel(static_cast<unsigned>(from.slot_count));
        for (uint32_t i = 0; i < slots.size(); i++)
            slots.set(i, from.slots[i]);
        break;
    }
    case CS_PING:
        to.setPing(from.ping);
        break;
    case CS_SHUTDOWN:
        to.setShutdown();
        break;
    case CS_GRANTED: {
        auto granted = to.initGranted();
        granted.setId(from.granted.id);
        // The union has no member for nothing, so an empty text is said too.
        auto text = from.granted.is_refused ? granted.initRefused(from.granted.text.length)
                                            : granted.initDirectory(from.granted.text.length);
        if (from.granted.text.length > 0)
            memcpy(text.begin(), from.bytes + from.granted.text.offset, from.granted.text.length);
        break;
    }
    }
}

extern "C" {

const char *ccapnp_decode_to_worker(
    ccapnp_work *work, const uint8_t *bytes, size_t size, size_t limit, size_t *consumed, const cs_to_worker **out) {
    return guarded(work, [&] {
        *consumed = 0;
        size_t whole = announcedSize(bytes, size, limit);
        if (whole == 0 || whole > size) return;
        Received message(*work, bytes, whole);
        decodeToWorker(*work, message);
        *consumed = whole;
        *out = &work->toWorker;
    });
}

const char *ccapnp_encode_to_subworker(ccapnp_work *work, const cs_to_subworker *message, size_t *size) {
    return guarded(work, [&] {
        encodeToSubworker(*message, work->build().initRoot<ToSubworker>());
        *size = work->builtSize();
    });
}

} // extern "C"
