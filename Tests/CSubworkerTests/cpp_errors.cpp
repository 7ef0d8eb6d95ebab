// Mistakes that the header explains. cpp_errors_test.sh compiles each, and looks for the sentence in the comment.
#include <csubworker.hpp>

#include <list>
#include <optional>

int main() {
    csw::subworker subworker;
#if CASE == 1 // an argument of a task must be csw::span<const T>, std::string_view
    subworker.task("list", [](std::list<int>) { return 1; });
#elif CASE == 2 // a task must return nothing, a text, a number
    subworker.task("list", [](int) { return std::list<int>(); });
#elif CASE == 3 // whose arguments have written-out types (no auto)
    subworker.task("generic", [](auto x) { return x; });
#elif CASE == 4 // an input is read-only: take it by value or by const &
    subworker.task("reference", [](std::string &text) { text += "x"; });
#elif CASE == 5 // csw::inputs takes all inputs that are left, so no input can follow it
    subworker.task("rest", [](csw::inputs, int) {});
#elif CASE == 6 // the elements of an input must be trivially copyable
    subworker.task("strings", [](csw::span<const std::string>) {});
#elif CASE == 7 // only a std::optional one can
    subworker.task("optional", [](std::optional<int>, int) {});
#elif CASE == 8 // an argument of a task must be csw::span<const T>, std::string_view
    subworker.task("written", [](csw::span<double>) {});
#else
    subworker.task("good", [](int x) { return x; });
#endif
    return subworker.run();
}
