#include <csubworker.hpp>

int main() {
    csw::subworker subworker;
    subworker.task("hello", [](std::string_view name) { return "Hello, " + std::string(name) + "!\n"; });
    return subworker.run();
}
