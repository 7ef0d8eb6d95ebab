// The control plane, both ways.
#include "generated/control.capnp.h"
#include "work.hpp"

namespace control = rain::control;

namespace {

cc_id idOf(control::Attempt::Reader from) {
    return {from.getSession(), from.getTask(), from.getEpoch(), from.getNumber()};
}
cc_id idOf(control::Replica::Reader from) {
    return {from.getSession(), from.getObject(), from.getEpoch(), from.getNumber()};
}
void setId(control::Attempt::Builder to, const cc_id &id) {
    to.setSession(id.session);
    to.setTask(id.index);
    to.setEpoch(id.epoch);
    to.setNumber(id.number);
}
void setId(control::Replica::Builder to, const cc_id &id) {
    to.setSession(id.session);
    to.setObject(id.index);
    to.setEpoch(id.epoch);
    to.setNumber(id.number);
}

template <typename Column> uint32_t position(const Column &column) {
    return static_cast<uint32_t>(column.size());
}

// One frame on its way from bytes into the columns of the work area.
class FrameDecoder {
public:
    FrameDecoder(ccapnp_work &work, Received &message) : work(work), message(message) {}

    void decode() {
        clear();
        auto root = message.root<control::Frame>();
        auto &frame = work.frame;
        switch (root.which()) {
        case control::Frame::HELLO:
            hello(root.getHello());
            break;
        case control::Frame::WELCOME:
            welcome(root.getWelcome());
            break;
        case control::Frame::REFUSED:
            frame.kind = CC_REFUSED;
            frame.refusal = message.at(root.getRefused());
            break;
        case control::Frame::BATCH:
            batch(root.getBatch());
            break;
        case control::Frame::GOODBYE:
            frame.kind = CC_GOODBYE;
            break;
        default:
            throw std::runtime_error("it is of an unknown kind");
        }
        frame.bytes = message.base();
        frame.texts = work.texts.data();
        frame.numbers = work.numbers.data();
        frame.ids = work.ids.data();
        frame.messages = work.messages.data();
        frame.message_count = work.messages.size();
        frame.commands = work.commands.data();
        frame.templates = work.templates.data();
        frame.template_outputs = work.templateOutputs.data();
        frame.assignments = work.assignments.data();
        frame.inputs = work.inputs.data();
        frame.endpoints = work.endpoints.data();
        frame.finished = work.finished.data();
        frame.finished_outputs = work.finishedOutputs.data();
        frame.failed = work.failed.data();
        frame.progress = work.progress.data();
    }

private:
    ccapnp_work &work;
    Received &message;

    void clear() {
        work.texts.clear();
        work.numbers.clear();
        work.ids.clear();
        work.messages.clear();
        work.commands.clear();
        work.templates.clear();
        work.templateOutputs.clear();
        work.assignments.clear();
        work.inputs.clear();
        work.endpoints.clear();
        work.finished.clear();
        work.finishedOutputs.clear();
        work.failed.clear();
        work.progress.clear();
    }

    cc_endpoint endpoint(control::Endpoint::Reader from) { return {message.at(from.getHost()), from.getPort()}; }

    void hello(control::Hello::Reader from) {
        auto &to = work.frame.hello;
        work.frame.kind = CC_HELLO;
        to.protocol_version = from.getProtocolVersion();
        to.incarnation = from.getIncarnation();
        to.place = from.getPlace();
        to.known_worker = from.getWorker();
        to.last_received = from.getLastReceived();
        auto known = from.getKnown();
        to.knows_epoch = known.isEpoch();
        to.known_epoch = known.isEpoch() ? known.getEpoch() : 0;
        to.host_name = message.at(from.getHostName());
        to.process_id = from.getProcessId();
        to.cpus = from.getCpus();
        to.data_endpoint = endpoint(from.getDataEndpoint());
        to.store = message.at(from.getStore());
        to.subworkers = message.texts(work.texts, from.getSubworkers());
        to.has_predecessor = from.hasPredecessor();
        auto predecessor = from.getPredecessor();
        auto running = predecessor.getRunning();
        to.predecessor_end = message.at(predecessor.getEnd());
        to.predecessor_running = {position(work.ids), running.size()};
        for (auto attempt : running)
            work.ids.push_back(idOf(attempt));
    }

    void welcome(control::Welcome::Reader from) {
        work.frame.kind = CC_WELCOME;
        work.frame.welcome = {
            from.getLastReceived(), from.getEpoch(), from.getWorker(), message.at(from.getDataSecret()),
            from.getIsRestored()};
    }

    void batch(control::Batch::Reader from) {
        auto &to = work.frame.batch;
        work.frame.kind = CC_BATCH;
        to.incarnation = from.getIncarnation();
        to.sequence = from.getSequence();
        to.acknowledged = from.getAcknowledged();
        to.epoch = from.getEpoch();
        switch (from.which()) {
        case control::Batch::EMPTY:
            to.direction = CC_BATCH_EMPTY;
            return;
        case control::Batch::TO_WORKER:
            to.direction = CC_BATCH_TO_WORKER;
            for (auto each : from.getToWorker())
                work.messages.push_back(serverMessage(each));
            return;
        case control::Batch::TO_SERVER:
            to.direction = CC_BATCH_TO_SERVER;
            for (auto each : from.getToServer())
                work.messages.push_back(workerMessage(each));
            return;
        }
        throw std::runtime_error("a batch is of an unknown kind");
    }

    cc_message serverMessage(control::ServerMessage::Reader from) {
        cc_message to = {};
        switch (from.which()) {
        case control::ServerMessage::SESSION: {
            auto session = from.getSession();
            auto subworkers = session.getSubworkers();
            to.kind = CC_SESSION;
            to.number = session.getId();
            to.range = {position(work.commands), subworkers.size()};
            for (auto command : subworkers) {
                auto name = message.at(command.getName());
                auto arguments = message.texts(work.texts, command.getArguments());
                work.commands.push_back({name, arguments, message.texts(work.texts, command.getEnvironment())});
            }
            return to;
        }
        case control::ServerMessage::TEMPLATE:
            to.kind = CC_TEMPLATE;
            to.number = position(work.templates);
            work.templates.push_back(taskTemplate(from.getTemplate()));
            return to;
        case control::ServerMessage::ASSIGN:
            to.kind = CC_ASSIGN;
            to.number = position(work.assignments);
            work.assignments.push_back(assignment(from.getAssign()));
            return to;
        case control::ServerMessage::REVOKE:
            to.kind = CC_REVOKE;
            to.id = idOf(from.getRevoke());
            return to;
        case control::ServerMessage::CANCEL:
            to.kind = CC_CANCEL;
            to.id = idOf(from.getCancel());
            return to;
        case control::ServerMessage::DROP: {
            auto replicas = from.getDrop();
            to.kind = CC_DROP;
            to.range = {position(work.ids), replicas.size()};
            for (auto replica : replicas)
                work.ids.push_back(idOf(replica));
            return to;
        }
        case control::ServerMessage::CLOSE_SESSION:
            to.kind = CC_CLOSE_SESSION;
            to.number = from.getCloseSession();
            return to;
        case control::ServerMessage::PROVIDE: {
            auto inputs = from.getProvide();
            to.kind = CC_PROVIDE;
            to.range = {position(work.inputs), inputs.size()};
            for (auto each : inputs)
                work.inputs.push_back(input(each));
            return to;
        }
        }
        throw std::runtime_error("a message of the server is of an unknown kind");
    }

    cc_template taskTemplate(control::Template::Reader from) {
        cc_template to = {};
        to.session = from.getSession();
        to.index = from.getIndex();
        to.cpus = from.getCpus();
        to.retry_count_max = from.getRetryCountMax();
        to.threads = from.getThreads();
        to.rerun = static_cast<uint32_t>(from.getRerun());
        to.type = message.at(from.getType());
        to.name = message.at(from.getName());
        to.config = message.at(from.getConfig());
        to.origin = message.at(from.getOrigin());
        to.attributes = message.at(from.getAttributes());
        to.input_labels = message.texts(work.texts, from.getInputLabels());
        auto constants = from.getConstants();
        to.constants = {position(work.numbers), constants.size()};
        for (auto constant : constants)
            work.numbers.push_back(constant);
        auto outputs = from.getOutputs();
        to.outputs = {position(work.templateOutputs), outputs.size()};
        for (auto output : outputs) {
            work.templateOutputs.push_back(
                {message.at(output.getLabel()), message.at(output.getContentType()), output.getIsDirectory(),
                 output.getIsKept()});
        }
        if (from.hasProgram()) {
            auto program = from.getProgram();
            to.has_program = 1;
            to.program_object = program.getObject();
            to.program_path = message.at(program.getPath());
            to.program_arguments = message.texts(work.texts, program.getArguments());
            to.program_environment = message.texts(work.texts, program.getEnvironment());
        }
        return to;
    }

    cc_assignment assignment(control::Assignment::Reader from) {
        cc_assignment to = {};
        to.attempt = {from.getSession(), from.getTask(), from.getEpoch(), from.getNumber()};
        to.template_index = from.getTemplate();
        to.first_output = from.getFirstOutput();
        to.array_index = from.getArrayIndex();
        to.loss_count = from.getLossCount();
        to.arguments = message.at(from.getArguments());
        to.name = message.at(from.getName());
        auto inputs = from.getInputs();
        to.inputs = {position(work.inputs), inputs.size()};
        for (auto each : inputs)
            work.inputs.push_back(input(each));
        return to;
    }

    cc_input input(control::Assignment::Input::Reader from) {
        using Input = control::Assignment::Input;
        cc_input to = {};
        to.replica = {from.getSession(), from.getObject(), from.getEpoch(), from.getNumber()};
        to.size_bytes = from.getSizeBytes();
        to.content_type = message.at(from.getContentType());
        to.attributes = message.at(from.getAttributes());
        to.is_directory = from.getIsDirectory();
        switch (from.which()) {
        case Input::HELD:
            to.source = CC_SOURCE_HELD;
            return to;
        case Input::INLINE:
            to.source = CC_SOURCE_INLINE;
            to.value = message.at(from.getInline());
            return to;
        case Input::EXPECT:
            to.source = CC_SOURCE_EXPECT;
            to.expected = idOf(from.getExpect());
            return to;
        case Input::FETCH: {
            auto endpoints = from.getFetch();
            to.source = CC_SOURCE_FETCH;
            to.endpoints = {position(work.endpoints), endpoints.size()};
            for (auto each : endpoints)
                work.endpoints.push_back(endpoint(each));
            return to;
        }
        }
        throw std::runtime_error("an input comes from an unknown kind of source");
    }

    cc_message workerMessage(control::WorkerMessage::Reader from) {
        cc_message to = {};
        switch (from.which()) {
        case control::WorkerMessage::STARTED:
            to.kind = CC_STARTED;
            to.id = idOf(from.getStarted());
            return to;
        case control::WorkerMessage::FINISHED:
            to.kind = CC_FINISHED;
            to.number = position(work.finished);
            work.finished.push_back(finished(from.getFinished()));
            return to;
        case control::WorkerMessage::FAILED:
            to.kind = CC_FAILED;
            to.number = position(work.failed);
            work.failed.push_back(failed(from.getFailed()));
            return to;
        case control::WorkerMessage::CANCELLED:
            to.kind = CC_CANCELLED;
            to.id = idOf(from.getCancelled());
            return to;
        case control::WorkerMessage::REVOKED: {
            auto revoked = from.getRevoked();
            to.kind = CC_REVOKED;
            to.id = idOf(revoked.getAttempt());
            to.flag = revoked.getWasTakenBack();
            return to;
        }
        case control::WorkerMessage::REPLICATED:
            to.kind = CC_REPLICATED;
            to.id = idOf(from.getReplicated());
            return to;
        case control::WorkerMessage::SESSION_CLOSED:
            to.kind = CC_SESSION_CLOSED;
            to.number = from.getSessionClosed();
            return to;
        case control::WorkerMessage::MISSING:
            to.kind = CC_MISSING;
            to.id = idOf(from.getMissing());
            return to;
        case control::WorkerMessage::KNOWS:
            to.kind = CC_KNOWS;
            to.number = from.getKnows();
            return to;
        case control::WorkerMessage::RUNS:
            to.kind = CC_RUNS;
            to.id = idOf(from.getRuns());
            return to;
        case control::WorkerMessage::HOLDS: {
            auto replicas = from.getHolds();
            to.kind = CC_HOLDS;
            to.range = {position(work.ids), replicas.size()};
            for (auto replica : replicas)
                work.ids.push_back(idOf(replica));
            return to;
        }
        case control::WorkerMessage::HANDED_OVER:
            to.kind = CC_HANDED_OVER;
            return to;
        case control::WorkerMessage::PROGRESS: {
            auto list = from.getProgress();
            to.kind = CC_PROGRESS;
            to.range = {position(work.progress), list.size()};
            for (auto each : list) {
                cc_id attempt = {each.getSession(), each.getTask(), each.getEpoch(), each.getNumber()};
                work.progress.push_back({attempt, each.getMillionths(), message.at(each.getText())});
            }
            return to;
        }
        }
        throw std::runtime_error("a message of a worker is of an unknown kind");
    }

    cc_finished finished(control::Finished::Reader from) {
        cc_finished to = {};
        to.attempt = {from.getSession(), from.getTask(), from.getEpoch(), from.getNumber()};
        to.started_unix_microseconds = from.getStartedUnixMicroseconds();
        to.duration_nanoseconds = from.getDurationNanoseconds();
        to.debug = message.at(from.getDebug());
        to.attributes = message.at(from.getAttributes());
        auto outputs = from.getOutputs();
        to.outputs = {position(work.finishedOutputs), outputs.size()};
        for (auto output : outputs)
            work.finishedOutputs.push_back(finishedOutput(output));
        return to;
    }

    cc_finished_output finishedOutput(control::Finished::Output::Reader from) {
        using Output = control::Finished::Output;
        cc_finished_output to = {};
        to.size_bytes = from.getSizeBytes();
        to.content_type = message.at(from.getContentType());
        to.attributes = message.at(from.getAttributes());
        to.is_directory = from.getIsDirectory();
        switch (from.which()) {
        case Output::STORED:
            return to;
        case Output::INLINE:
            to.is_inline = 1;
            to.value = message.at(from.getInline());
            return to;
        }
        throw std::runtime_error("an output is of an unknown kind");
    }

    cc_failed failed(control::Failed::Reader from) {
        cc_failed to = {};
        to.attempt = idOf(from.getAttempt());
        to.cause = static_cast<uint32_t>(from.getCause());
        to.exit_code = from.getExitCode();
        to.signal = from.getSignal();
        to.has_exit_code = from.getHasExitCode();
        to.has_signal = from.getHasSignal();
        to.message = message.at(from.getMessage());
        to.detail = message.at(from.getDetail());
        to.debug = message.at(from.getDebug());
        to.host = message.at(from.getHost());
        return to;
    }
};

// One frame on its way from columns into a message.
class FrameEncoder {
public:
    explicit FrameEncoder(const cc_frame &frame) : frame(frame), bytes(frame.bytes) {}

    void encode(control::Frame::Builder to) {
        switch (frame.kind) {
        case CC_HELLO:
            hello(to.initHello());
            break;
        case CC_WELCOME: {
            auto welcome = to.initWelcome();
            welcome.setEpoch(frame.welcome.epoch);
            welcome.setWorker(frame.welcome.worker);
            welcome.setLastReceived(frame.welcome.last_received);
            welcome.setDataSecret(dataAt(bytes, frame.welcome.data_secret));
            welcome.setIsRestored(frame.welcome.is_restored != 0);
            break;
        }
        case CC_REFUSED: {
            auto text = to.initRefused(frame.refusal.length);
            memcpy(text.begin(), bytes + frame.refusal.offset, frame.refusal.length);
            break;
        }
        case CC_BATCH:
            batch(to.initBatch());
            break;
        case CC_GOODBYE:
            to.setGoodbye();
            break;
        }
    }

private:
    const cc_frame &frame;
    const uint8_t *bytes;

    void endpoint(const cc_endpoint &from, control::Endpoint::Builder to) {
        setText(bytes, from.host, [&](unsigned n) { return to.initHost(n); });
        to.setPort(from.port);
    }

    void hello(control::Hello::Builder to) {
        const cc_hello &from = frame.hello;
        to.setProtocolVersion(static_cast<uint16_t>(from.protocol_version));
        to.setIncarnation(from.incarnation);
        to.setPlace(from.place);
        to.setWorker(from.known_worker);
        to.setLastReceived(from.last_received);
        if (from.knows_epoch) to.getKnown().setEpoch(from.known_epoch);
        setText(bytes, from.host_name, [&](unsigned n) { return to.initHostName(n); });
        to.setProcessId(from.process_id);
        to.setCpus(from.cpus);
        endpoint(from.data_endpoint, to.initDataEndpoint());
        setText(bytes, from.store, [&](unsigned n) { return to.initStore(n); });
        setTexts(bytes, frame.texts, from.subworkers, [&](unsigned n) { return to.initSubworkers(n); });
        if (from.has_predecessor == 0) return;
        auto predecessor = to.initPredecessor();
        setText(bytes, from.predecessor_end, [&](unsigned n) { return predecessor.initEnd(n); });
        if (from.predecessor_running.count == 0) return;
        auto running = predecessor.initRunning(from.predecessor_running.count);
        for (uint32_t i = 0; i < from.predecessor_running.count; i++)
            setId(running[i], frame.ids[from.predecessor_running.first + i]);
    }

    void batch(control::Batch::Builder to) {
        const cc_batch &from = frame.batch;
        to.setEpoch(from.epoch);
        to.setIncarnation(from.incarnation);
        to.setSequence(from.sequence);
        to.setAcknowledged(from.acknowledged);
        auto count = static_cast<unsigned>(frame.message_count);
        if (from.direction == CC_BATCH_TO_WORKER) {
            auto messages = to.initToWorker(count);
            for (unsigned i = 0; i < count; i++)
                serverMessage(frame.messages[i], messages[i]);
        } else if (from.direction == CC_BATCH_TO_SERVER) {
            auto messages = to.initToServer(count);
            for (unsigned i = 0; i < count; i++)
                workerMessage(frame.messages[i], messages[i]);
        }
    }

    void serverMessage(const cc_message &from, control::ServerMessage::Builder to) {
        switch (from.kind) {
        case CC_SESSION: {
            auto session = to.initSession();
            session.setId(from.number);
            if (from.range.count == 0) break;
            auto subworkers = session.initSubworkers(from.range.count);
            for (uint32_t i = 0; i < from.range.count; i++) {
                const cc_command &command = frame.commands[from.range.first + i];
                auto target = subworkers[i];
                setText(bytes, command.name, [&](unsigned n) { return target.initName(n); });
                setTexts(bytes, frame.texts, command.arguments, [&](unsigned n) { return target.initArguments(n); });
                setTexts(
                    bytes, frame.texts, command.environment, [&](unsigned n) { return target.initEnvironment(n); });
            }
            break;
        }
        case CC_TEMPLATE:
            taskTemplate(frame.templates[from.number], to.initTemplate());
            break;
        case CC_ASSIGN:
            assignment(frame.assignments[from.number], to.initAssign());
            break;
        case CC_REVOKE:
            setId(to.initRevoke(), from.id);
            break;
        case CC_CANCEL:
            setId(to.initCancel(), from.id);
            break;
        case CC_DROP: {
            auto replicas = to.initDrop(from.range.count);
            for (uint32_t i = 0; i < from.range.count; i++)
                setId(replicas[i], frame.ids[from.range.first + i]);
            break;
        }
        case CC_CLOSE_SESSION:
            to.setCloseSession(from.number);
            break;
        case CC_PROVIDE: {
            auto inputs = to.initProvide(from.range.count);
            for (uint32_t i = 0; i < from.range.count; i++)
                input(frame.inputs[from.range.first + i], inputs[i]);
            break;
        }
        }
    }

    void taskTemplate(const cc_template &from, control::Template::Builder to) {
        to.setSession(from.session);
        to.setIndex(from.index);
        to.setCpus(from.cpus);
        to.setRetryCountMax(from.retry_count_max);
        to.setThreads(from.threads);
        to.setRerun(static_cast<control::Template::Rerun>(from.rerun));
        setText(bytes, from.type, [&](unsigned n) { return to.initType(n); });
        setText(bytes, from.name, [&](unsigned n) { return to.initName(n); });
        setText(bytes, from.origin, [&](unsigned n) { return to.initOrigin(n); });
        if (from.config.length > 0) to.setConfig(dataAt(bytes, from.config));
        if (from.attributes.length > 0) to.setAttributes(dataAt(bytes, from.attributes));
        setTexts(bytes, frame.texts, from.input_labels, [&](unsigned n) { return to.initInputLabels(n); });
        if (from.constants.count > 0) {
            to.setConstants(kj::arrayPtr(frame.numbers + from.constants.first, from.constants.count));
        }
        if (from.has_program != 0) {
            auto program = to.initProgram();
            program.setObject(from.program_object);
            setText(bytes, from.program_path, [&](unsigned n) { return program.initPath(n); });
            setTexts(bytes, frame.texts, from.program_arguments, [&](unsigned n) { return program.initArguments(n); });
            setTexts(
                bytes, frame.texts, from.program_environment, [&](unsigned n) { return program.initEnvironment(n); });
        }
        if (from.outputs.count == 0) return;
        auto outputs = to.initOutputs(from.outputs.count);
        for (uint32_t i = 0; i < from.outputs.count; i++) {
            const cc_template_output &output = frame.template_outputs[from.outputs.first + i];
            auto target = outputs[i];
            setText(bytes, output.label, [&](unsigned n) { return target.initLabel(n); });
            setText(bytes, output.content_type, [&](unsigned n) { return target.initContentType(n); });
            target.setIsDirectory(output.is_directory != 0);
            target.setIsKept(output.is_kept != 0);
        }
    }

    void assignment(const cc_assignment &from, control::Assignment::Builder to) {
        to.setSession(from.attempt.session);
        to.setTask(from.attempt.index);
        to.setEpoch(from.attempt.epoch);
        to.setNumber(from.attempt.number);
        to.setTemplate(from.template_index);
        to.setFirstOutput(from.first_output);
        to.setArrayIndex(from.array_index);
        if (from.loss_count > 0) to.setLossCount(static_cast<uint16_t>(from.loss_count));
        if (from.arguments.length > 0) to.setArguments(dataAt(bytes, from.arguments));
        setText(bytes, from.name, [&](unsigned n) { return to.initName(n); });
        if (from.inputs.count == 0) return;
        auto inputs = to.initInputs(from.inputs.count);
        for (uint32_t i = 0; i < from.inputs.count; i++)
            input(frame.inputs[from.inputs.first + i], inputs[i]);
    }

    void input(const cc_input &from, control::Assignment::Input::Builder to) {
        to.setSession(from.replica.session);
        to.setObject(from.replica.index);
        to.setEpoch(from.replica.epoch);
        to.setNumber(from.replica.number);
        to.setSizeBytes(from.size_bytes);
        setText(bytes, from.content_type, [&](unsigned n) { return to.initContentType(n); });
        if (from.attributes.length > 0) to.setAttributes(dataAt(bytes, from.attributes));
        to.setIsDirectory(from.is_directory != 0);
        switch (from.source) {
        case CC_SOURCE_HELD:
            to.setHeld();
            break;
        case CC_SOURCE_INLINE:
            to.setInline(dataAt(bytes, from.value));
            break;
        case CC_SOURCE_EXPECT:
            setId(to.initExpect(), from.expected);
            break;
        case CC_SOURCE_FETCH: {
            auto endpoints = to.initFetch(from.endpoints.count);
            for (uint32_t i = 0; i < from.endpoints.count; i++) {
                endpoint(frame.endpoints[from.endpoints.first + i], endpoints[i]);
            }
            break;
        }
        }
    }

    void workerMessage(const cc_message &from, control::WorkerMessage::Builder to) {
        switch (from.kind) {
        case CC_STARTED:
            setId(to.initStarted(), from.id);
            break;
        case CC_FINISHED:
            finished(frame.finished[from.number], to.initFinished());
            break;
        case CC_FAILED:
            failed(frame.failed[from.number], to.initFailed());
            break;
        case CC_CANCELLED:
            setId(to.initCancelled(), from.id);
            break;
        case CC_REVOKED: {
            auto revoked = to.initRevoked();
            setId(revoked.initAttempt(), from.id);
            revoked.setWasTakenBack(from.flag != 0);
            break;
        }
        case CC_REPLICATED:
            setId(to.initReplicated(), from.id);
            break;
        case CC_SESSION_CLOSED:
            to.setSessionClosed(from.number);
            break;
        case CC_MISSING:
            setId(to.initMissing(), from.id);
            break;
        case CC_KNOWS:
            to.setKnows(from.number);
            break;
        case CC_RUNS:
            setId(to.initRuns(), from.id);
            break;
        case CC_HOLDS: {
            auto replicas = to.initHolds(from.range.count);
            for (uint32_t i = 0; i < from.range.count; i++)
                setId(replicas[i], frame.ids[from.range.first + i]);
            break;
        }
        case CC_HANDED_OVER:
            to.setHandedOver();
            break;
        case CC_PROGRESS: {
            auto list = to.initProgress(from.range.count);
            for (uint32_t i = 0; i < from.range.count; i++)
                progress(frame.progress[from.range.first + i], list[i]);
            break;
        }
        }
    }

    void progress(const cc_progress &from, control::Progress::Builder to) {
        to.setSession(from.attempt.session);
        to.setTask(from.attempt.index);
        to.setEpoch(from.attempt.epoch);
        to.setNumber(from.attempt.number);
        to.setMillionths(from.millionths);
        setText(bytes, from.text, [&](unsigned n) { return to.initText(n); });
    }

    void finished(const cc_finished &from, control::Finished::Builder to) {
        to.setSession(from.attempt.session);
        to.setTask(from.attempt.index);
        to.setEpoch(from.attempt.epoch);
        to.setNumber(from.attempt.number);
        to.setStartedUnixMicroseconds(from.started_unix_microseconds);
        to.setDurationNanoseconds(from.duration_nanoseconds);
        setText(bytes, from.debug, [&](unsigned n) { return to.initDebug(n); });
        if (from.attributes.length > 0) to.setAttributes(dataAt(bytes, from.attributes));
        if (from.outputs.count == 0) return;
        auto outputs = to.initOutputs(from.outputs.count);
        for (uint32_t i = 0; i < from.outputs.count; i++) {
            const cc_finished_output &output = frame.finished_outputs[from.outputs.first + i];
            auto target = outputs[i];
            target.setSizeBytes(output.size_bytes);
            setText(bytes, output.content_type, [&](unsigned n) { return target.initContentType(n); });
            if (output.attributes.length > 0) target.setAttributes(dataAt(bytes, output.attributes));
            target.setIsDirectory(output.is_directory != 0);
            if (output.is_inline) target.setInline(dataAt(bytes, output.value));
        }
    }

    void failed(const cc_failed &from, control::Failed::Builder to) {
        setId(to.initAttempt(), from.attempt);
        to.setCause(static_cast<control::Failed::Cause>(from.cause));
        to.setExitCode(from.exit_code);
        to.setSignal(from.signal);
        to.setHasExitCode(from.has_exit_code != 0);
        to.setHasSignal(from.has_signal != 0);
        setText(bytes, from.message, [&](unsigned n) { return to.initMessage(n); });
        setText(bytes, from.detail, [&](unsigned n) { return to.initDetail(n); });
        setText(bytes, from.debug, [&](unsigned n) { return to.initDebug(n); });
        setText(bytes, from.host, [&](unsigned n) { return to.initHost(n); });
    }
};

} // namespace

extern "C" {

const char *ccapnp_decode_frame(ccapnp_work *work, const uint8_t *bytes, size_t size, const cc_frame **out) {
    return guarded(work, [&] {
        Received message(*work, bytes, size);
        FrameDecoder(*work, message).decode();
        *out = &work->frame;
    });
}

const char *ccapnp_encode_frame(ccapnp_work *work, const cc_frame *frame, size_t *size) {
    return guarded(work, [&] {
        FrameEncoder(*frame).encode(work->build().initRoot<control::Frame>());
        *size = work->builtSize();
    });
}

} // extern "C"
