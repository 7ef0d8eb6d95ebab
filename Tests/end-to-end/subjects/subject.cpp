// A subworker for `rain subworker check`, in C++.
#include <csubworker.hpp>

#include <chrono>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>

int main() {
    csw::subworker subworker;
    subworker.task("dot", [](csw::span<const double> x, csw::span<const double> y) {
        return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
    });
    subworker.task(
        "large", [](std::string_view text) { return std::vector<char>(1 << 20, text.empty() ? 'x' : text[0]); });
    subworker.task("tree", [](csw::context &context, std::filesystem::path from) {
        auto to = context.staging_path();
        std::filesystem::create_directory(to);
        for (const auto &entry : std::filesystem::directory_iterator(from))
            std::filesystem::copy_file(entry.path(), to / entry.path().filename());
        return to;
    });
    subworker.task("fail", []() -> int { throw std::runtime_error("thrown"); });
    subworker.task("endless", [](csw::context &context) {
        while (true) {
            context.check();
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    });
    return subworker.run();
}
