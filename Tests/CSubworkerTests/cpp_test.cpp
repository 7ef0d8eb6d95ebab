// Tasks in C++ as a worker meets them.  cpp_test EVERY_LAMBDA
#include "host.hpp"

#include <limits>
#include <map>

using namespace host;

namespace {

std::string program;

struct Given {
    std::string bytes, contentType;
};

/// Inputs in the message.
auto inputs(const std::vector<Given> &all) {
    return [all](Call::Builder call) {
        auto list = call.initInputs(static_cast<unsigned>(all.size()));
        for (unsigned i = 0; i < all.size(); i += 1) {
            Host::setInline(list[i], all[i].bytes);
            list[i].setContentType(all[i].contentType);
        }
    };
}

template <typename T> std::string raw(const std::vector<T> &values) {
    return std::string(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T));
}

template <typename T> Given one(T value) {
    return {raw(std::vector<T>{value}), ""};
}

std::vector<Outcome::Output> outputs(const Outcome &outcome) {
    EXPECT_EQ(outcome.error, "");
    return outcome.outputs;
}

std::string single(const Outcome &outcome) {
    EXPECT_EQ(outputs(outcome).size(), 1u);
    return outcome.outputs[0].bytes;
}

} // namespace

TEST("the types of a function are its signature") {
    Host host(program);
    auto registration = host.registration.root().getRegister();
    EXPECT_EQ(registration.getCapabilities().getThreads(), 2);
    std::map<std::string, TaskType::Reader> tasks;
    for (auto task : registration.getTasks())
        tasks.emplace(task.getName().cStr(), task);
    auto dot = tasks.at("dot");
    EXPECT_EQ(std::string(dot.getDocumentation()), "The scalar product.");
    EXPECT_EQ(std::string(dot.getInputs()[1]), "y");
    EXPECT_EQ(std::string(dot.getOutputs()[0]), "product");
    EXPECT_EQ(std::string(dot.getOutputContentTypes()[0]), "json");
    auto twice = tasks.at("double");
    EXPECT_EQ(twice.getInputs().size(), 1u);
    EXPECT_EQ(twice.getOutputs().size(), 3u);
    EXPECT_EQ(std::string(twice.getOutputContentTypes()[0]), "array/f4");
    EXPECT_EQ(std::string(twice.getOutputContentTypes()[1]), "array/i4");
    EXPECT_EQ(std::string(twice.getOutputContentTypes()[2]), "text");
    EXPECT_EQ(tasks.at("join").getInputs().size(), 0u);
    EXPECT_EQ(tasks.at("nothing").getOutputs().size(), 0u);
    EXPECT_EQ(tasks.at("numbers").getInputs().size(), 5u);
    host.shutdown();
}

TEST("spans, vectors and texts are the bytes of the inputs") {
    Host host(program);
    std::vector<double> x = {1, 2, 3}, y = {4, 5, 6};
    EXPECT_EQ(single(host.run(host.define("dot"), "", inputs({{raw(x), ""}, {raw(y), "array/f8"}}))), "32.0");
    EXPECT_EQ(single(host.run(host.define("dot"), "", inputs({{"", ""}, {"", ""}}))), "0.0");
    Outcome scaled = host.run(host.define("scale"), "", inputs({{raw(x), ""}}));
    EXPECT(single(scaled) == raw(std::vector<double>{3, 6, 9}));
    EXPECT_EQ(scaled.outputs[0].contentType, "array/f8");
    Outcome greeted = host.run(host.define("greet"), "", inputs({{"Ada", ""}}));
    EXPECT_EQ(single(greeted), "Hello, Ada!");
    EXPECT_EQ(greeted.outputs[0].contentType, "text");
    EXPECT(
        single(host.run(host.define("points"), "", inputs({{raw<float>({1, 2, 3, 4}), ""}}))) ==
        raw<float>({2, 1, 4, 3}));
    EXPECT_EQ(single(host.run(host.define("join"), "", inputs({{"a", ""}, {"b", ""}, {"c", ""}}))), "a+b+c");
    EXPECT_EQ(single(host.run(host.define("join"), "", inputs({{"a", ""}}))), "a");
    host.shutdown();
}

TEST("structs and arrays of a fixed length are their bytes") {
    struct Pixel {
        std::uint8_t red, green, blue;
        std::array<float, 2> at;
    };
    Host host(program);
    uint32_t id = host.define("mirror", 2);
    Given pixel{raw<Pixel>({{1, 2, 3, {4, 5}}}), ""}, weights{raw<double>({7, 8, 9}), "array/f8"};
    auto made = outputs(host.run(id, "", inputs({pixel, weights})));
    Pixel turned;
    EXPECT_EQ(made[0].bytes.size(), sizeof turned);
    std::memcpy(&turned, made[0].bytes.data(), sizeof turned);
    EXPECT(turned.red == 3 && turned.green == 2 && turned.blue == 1 && turned.at[0] == 5 && turned.at[1] == 4);
    EXPECT_EQ(made[0].contentType, "");
    EXPECT_EQ(made[1].bytes, raw<double>({9, 7}));
    EXPECT_EQ(made[1].contentType, "array/f8");
    EXPECT_EQ(
        host.run(id, "", inputs({{"abc", ""}, weights})).error,
        "input 0 has 3 bytes instead of the 12 that its struct or array has");
    EXPECT_EQ(
        host.run(id, "", inputs({pixel, {weights.bytes, "array/i8"}})).error,
        "input 1 is array/i8; the task takes array/f8");
    host.shutdown();
}

TEST("inputs that are optional may be left out, from the last one on") {
    Host host(program);
    uint32_t id = host.define("perhaps");
    Given one{"1", "json"}, two{"2", "json"}, three{"3", ""};
    EXPECT_EQ(single(host.run(id, "", inputs({one}))), "1");
    EXPECT_EQ(single(host.run(id, "", inputs({one, two}))), "1 2");
    EXPECT_EQ(single(host.run(id, "", inputs({one, two, three}))), "1 2 3");
    EXPECT_EQ(host.run(id).error, "task \"perhaps\" takes at least 1 inputs, but was given 0");
    EXPECT_EQ(
        host.run(id, "", inputs({one, two, three, three})).error,
        "task \"perhaps\" takes at most 3 inputs, but was given 4");
    host.shutdown();
}

TEST("a function may own things, keep state and be wrapped") {
    Host host(program);
    uint32_t id = host.define("count up");
    EXPECT_EQ(single(host.run(id)), "1");
    EXPECT_EQ(single(host.run(id)), "2");
    EXPECT_EQ(single(host.run(host.define("captured"), "", inputs({{"1", "json"}}))), "owned1");
    EXPECT_EQ(single(host.run(host.define("wrapped"), "", inputs({{"1", "json"}}))), "-1");
    host.shutdown();
}

TEST("an array of other elements than the function takes is an error") {
    Host host(program);
    std::string x = raw<double>({1, 2}), y = raw<int64_t>({1, 2});
    EXPECT_EQ(
        host.run(host.define("dot"), "", inputs({{x, "array/f8[2]"}, {y, "array/i8[2]"}})).error,
        "input 1 is array/i8[2]; the task takes array/f8");
    EXPECT_EQ(
        host.run(host.define("scale"), "", inputs({{y, "array/f4[4]"}})).error,
        "input 0 is array/f4[4]; the task takes array/f8");
    EXPECT_EQ(single(host.run(host.define("dot"), "", inputs({{x, "array/f8[2]"}, {x, "array/f8"}}))), "5.0");
    host.shutdown();
}

TEST("numbers are read as text or as their bytes, and written as text") {
    Host host(program);
    uint32_t id = host.define("numbers", 5);
    auto made = outputs(host.run(
        id, "",
        inputs(
            {one<int64_t>(std::numeric_limits<int64_t>::max() - 1),
             one<uint8_t>(200),
             one<float>(0.1f),
             {"\1", ""},
             {"\2", ""}})));
    EXPECT_EQ(made[0].bytes, "9223372036854775807");
    EXPECT_EQ(made[1].bytes, "200");
    EXPECT_EQ(made[2].bytes, "0.100000001");
    EXPECT_EQ(made[3].bytes, "true");
    EXPECT_EQ(made[4].bytes, "2");
    EXPECT_EQ(made[0].contentType, "json");
    made = outputs(host.run(
        id, "", inputs({{"-5", "json"}, {" 7\n", "text"}, {"-1.5e3", "json"}, {"false", "json"}, {"1", "text-utf8"}})));
    EXPECT_EQ(made[0].bytes, "-4");
    EXPECT_EQ(made[2].bytes, "-1500.0");
    EXPECT_EQ(made[3].bytes, "false");
    made = outputs(
        host.run(id, "", inputs({{"0", "json"}, {"0", "json"}, {"NaN", "json"}, {"0", "json"}, {"1", "json"}})));
    EXPECT_EQ(made[2].bytes, "NaN");
    auto refused = [&](const std::vector<Given> &given) { return host.run(id, "", inputs(given)).error; };
    Given good = {"1", "json"};
    EXPECT_EQ(refused({{"x", "json"}, good, good, good, good}), "input 0 is no number of this type: x");
    EXPECT_EQ(refused({{"1.5", "json"}, good, good, good, good}), "input 0 is no number of this type: 1.5");
    EXPECT_EQ(
        refused({{"99999999999999999999", "json"}, good, good, good, good}),
        "input 0 is no number of this type: 99999999999999999999");
    EXPECT_EQ(refused({good, {"256", "json"}, good, good, good}), "input 1 is out of range: 256");
    EXPECT_EQ(refused({good, {"-1", "json"}, good, good, good}), "input 1 is negative: -1");
    EXPECT_EQ(refused({good, good, good, {"maybe", "json"}, good}), "input 3 is neither true nor false: maybe");
    EXPECT_EQ(refused({{"12", ""}, good, good, good, good}), "input 0 has 2 bytes instead of the 8 of its number");
    made = outputs(host.run(host.define("divide", 2), "", inputs({{"17", "json"}, {"5", "json"}})));
    EXPECT_EQ(made[0].bytes + " " + made[1].bytes, "3 2");
    host.shutdown();
}

TEST("outputs can be made in place, large ones in the object itself") {
    Host host(program);
    for (size_t count : {size_t(0), size_t(3), size_t(100000)}) {
        std::vector<float> x(count, 1.5f);
        {
            std::string path = host.file("x", raw(x));
            auto made = outputs(host.run(host.define("double", 3), "", [&](Call::Builder call) {
                auto input = call.initInputs(1)[0];
                input.setSizeBytes(x.size() * 4);
                input.setPath(path);
            }));
            EXPECT_EQ(made[0].path.empty(), count < 100000);
            std::string bytes = made[0].path.empty() ? made[0].bytes : Host::read(made[0].path);
            EXPECT(bytes == raw(std::vector<float>(count, 3.0f)));
            EXPECT_EQ(made[0].contentType, "array/f4");
            EXPECT(made[1].bytes == raw<int32_t>({static_cast<int32_t>(count)}));
            EXPECT_EQ(made[1].contentType, "user/sizes");
            EXPECT_EQ(made[1].attributes, "{\"count\":1}");
            EXPECT_EQ(made[2].bytes, "doubled");
        }
    }
    host.shutdown();
}

TEST("what the client declared as a content type stays") {
    Host host(program);
    host.send([](ToSubworker::Builder root) {
        auto item = root.initTemplates(1)[0];
        item.setId(900);
        item.setMethod("greet");
        item.initOutputs(1)[0].setContentType("user/greeting");
    });
    EXPECT_EQ(outputs(host.run(900, "", inputs({{"Ada", ""}})))[0].contentType, "");
    host.shutdown();
}

TEST("paths, files and inputs that become outputs") {
    Host host(program);
    EXPECT_EQ(single(host.run(host.define("size_at"), "", inputs({{"12345", ""}}))), "5");
    Outcome file = host.run(host.define("file"));
    EXPECT_EQ(Host::read(outputs(file)[0].path), "made as a file");
    // A constant of the template goes before the inputs.
    host.send([](ToSubworker::Builder root) {
        auto item = root.initTemplates(1)[0];
        item.setId(901);
        item.setMethod("second");
        item.setConstantCount(1);
        item.initOutputs(1);
    });
    EXPECT_EQ(outputs(host.run(901, "", inputs({{"constant", ""}, {"a", ""}, {"b", ""}})))[0].input, 2);
    host.shutdown();
}

TEST("the context has the facts of the call, debug lines and progress") {
    Options options;
    options.takesProgress = true;
    Host host(program, options);
    host.send([](ToSubworker::Builder root) {
        auto item = root.initTemplates(1)[0];
        item.setId(902);
        item.setMethod("facts");
        item.setName("its name");
        item.setConfig(Host::data("{\"c\":1}"));
        item.initInputLabels(1).set(0, "label");
        item.initOutputs(1);
    });
    Outcome outcome = host.run(902, "[2]", [](Call::Builder call) {
        auto input = call.initInputs(1)[0];
        Host::setInline(input, "abc");
        input.setContentType("user/x");
        input.setAttributes(Host::data("{\"a\":3}"));
    });
    EXPECT_EQ(single(outcome), "facts its name {\"c\":1} [2] label user/x 3 {\"a\":3} 0");
    EXPECT_EQ(outcome.debug, "one line\n");
    EXPECT_EQ(outcome.attributes, "{\"seen\":true}");
    EXPECT_EQ(host.progress.size(), 1u);
    EXPECT_EQ(host.progress[0].text, "half");
    EXPECT_EQ(host.progress[0].millionths, 500000u);
    EXPECT_EQ(single(host.run(host.define("what no other takes"))), "any: what no other takes");
    host.shutdown();
}

TEST("a parsed form is kept where the input is remembered, and else made each time") {
    Host host(program);
    uint32_t id = host.define("words", 2);
    auto keyed = [](bool isCached) {
        return [=](Call::Builder call) {
            auto input = call.initInputs(1)[0];
            input.initKey().setIndex(1);
            if (isCached) {
                input.setCached();
            } else {
                Host::setInline(input, "to be or not to be");
                input.setKeep(true);
            }
        };
    };
    EXPECT_EQ(outputs(host.run(id, "", keyed(false)))[1].bytes, "1");
    EXPECT_EQ(outputs(host.run(id, "", keyed(true)))[1].bytes, "1");
    EXPECT_EQ(outputs(host.run(id, "", keyed(true)))[0].bytes, "4");
    for (auto expected : {"2", "3"})
        EXPECT_EQ(outputs(host.run(id, "", inputs({{"other words", ""}})))[1].bytes, expected);
    host.send([](ToSubworker::Builder root) { root.initDropCached(1)[0].setIndex(1); });
    EXPECT_EQ(outputs(host.run(id, "", keyed(false)))[1].bytes, "4");
    host.shutdown();
}

TEST("a cancelled task ends where it looks") {
    Host host(program);
    host.call(0, host.define("wait", 0));
    while (host.page[0].state != 2)
        usleep(500);
    host.page[0].cancel = 1;
    EXPECT(host.result().second.isCancelled);
    host.shutdown();
}

TEST("an exception is the task's error, and the subworker goes on") {
    Host host(program);
    uint32_t id = host.define("throw");
    Outcome outcome = host.run(id, "", inputs({{"1", "json"}}));
    EXPECT_EQ(outcome.error, "no such element");
    EXPECT_EQ(outcome.detail, "std::out_of_range");
    outcome = host.run(id, "", inputs({{"2", "json"}}));
    EXPECT_EQ(outcome.error, "a message");
    EXPECT_EQ(outcome.detail, "and a detail");
    EXPECT_EQ(host.run(id, "", inputs({{"3", "json"}})).error, "no memory");
    EXPECT_EQ(host.run(id, "", inputs({{"4", "json"}})).error, "the task threw something that is no std::exception");
    EXPECT_EQ(
        host.run(id, "", inputs({{"5", "json"}})).error, "the task returned CSW_ECANCELLED, but nobody cancelled it");
    EXPECT_EQ(single(host.run(id, "", inputs({{"6", "json"}}))), "6");
    EXPECT_EQ(
        host.run(host.define("dot"), "", inputs({{raw<double>({1}), ""}, {"", ""}})).error,
        "the vectors differ in length");
    host.shutdown();
}

TEST("what does not fit the types fails the task with the reason") {
    Host host(program);
    EXPECT_EQ(
        host.run(host.define("dot"), "", inputs({{"", ""}})).error, "task \"dot\" takes 2 inputs, but was given 1");
    EXPECT_EQ(host.run(host.define("join")).error, "task \"join\" takes at least 1 inputs, but was given 0");
    EXPECT_EQ(host.run(host.define("nothing", 1)).error, "task \"nothing\" has 0 outputs, but was asked for 1");
    EXPECT_EQ(
        host.run(host.define("nothing", 0), "", inputs({{"", ""}})).error,
        "task \"nothing\" takes 0 inputs, but was given 1");
    EXPECT_EQ(host.run(host.define("nothing", 0)).error, "");
    EXPECT_EQ(
        host.run(host.define("scale"), "", inputs({{"1234567", ""}})).error,
        "input 0 has 7 bytes, which is no multiple of 8");
    EXPECT_EQ(
        host.run(host.define("second"), "", inputs({{"a", ""}})).error,
        "output 0 \"result\" can't be input 1: the task has 1");
    host.shutdown();
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    program = arguments[1];
    return check::runAll();
}
