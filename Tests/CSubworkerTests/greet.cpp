// Whether programs greet as examples/hello does.  greet PROGRAM…
#include "host.hpp"

using namespace host;

int main(int count, char **arguments) {
    for (int i = 1; i < count; i += 1) {
        std::string program = arguments[i];
        check::tests().push_back({program, [program] {
                                      Host host(program);
                                      Outcome outcome = host.run(host.define("hello"), "", [](Call::Builder call) {
                                          Host::setInline(call.initInputs(1)[0], "world");
                                      });
                                      EXPECT_EQ(outcome.error, "");
                                      EXPECT_EQ(outcome.outputs[0].bytes, "Hello, world!\n");
                                      host.shutdown();
                                  }});
    }
    return check::runAll();
}
