// A subworker in C++ with a task for each kind of argument and result.
#include <csubworker.hpp>

#include <atomic>
#include <chrono>
#include <fstream>
#include <map>
#include <numeric>
#include <thread>

namespace {

double dot(csw::span<const double> x, csw::span<const double> y) {
    if (x.size() != y.size()) throw std::invalid_argument("the vectors differ in length");
    return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
}

struct Point {
    float x, y;
};

struct Pixel {
    std::uint8_t red, green, blue;
    std::array<float, 2> at;
};

enum class Colour : std::uint8_t { red = 1, green = 2 };

/// Counts how often an input is parsed.
std::atomic<int> parsedCount{0};

struct Scale {
    double factor;
    std::vector<double> operator()(std::vector<double> values) const {
        for (auto &value : values)
            value *= factor;
        return values;
    }
};

} // namespace

int main() {
    csw::subworker subworker;
    csw::task_options labelled;
    labelled.documentation = "The scalar product.";
    labelled.inputs = {"x", "y"};
    labelled.outputs = {"product"};
    labelled.threads = 2;
    subworker.task("dot", dot, labelled);
    subworker.task("scale", Scale{3});
    subworker.task("greet", [](std::string_view who) { return "Hello, " + std::string(who) + "!"; });
    subworker.task("join", [](const std::string &first, csw::inputs others) {
        std::string all = first;
        for (auto &other : others)
            all += "+" + std::string(other.text());
        return all;
    });
    subworker.task("numbers", [](std::int64_t a, std::uint8_t b, float c, bool d, Colour e) {
        return std::make_tuple(a + 1, b, c, d, e);
    });
    subworker.task("divide", [](long a, long b) { return std::make_pair(a / b, a % b); });
    subworker.task("points", [](csw::span<const Point> points) {
        std::vector<Point> turned;
        for (auto &point : points)
            turned.push_back({point.y, point.x});
        return turned;
    });
    subworker.task("mirror", [](Pixel pixel, const std::array<double, 3> &weights) {
        std::swap(pixel.red, pixel.blue);
        std::swap(pixel.at[0], pixel.at[1]);
        return std::make_tuple(pixel, std::array<double, 2>{weights[2], weights[0]});
    });
    subworker.task("perhaps", [](long a, std::optional<long> b, const std::optional<std::string> &c) {
        return std::to_string(a) + (b ? " " + std::to_string(*b) : "") + (c ? " " + *c : "");
    });
    subworker.task("count up", [count = 0]() mutable { return ++count; });
    subworker.task("captured", [word = std::make_unique<std::string>("owned")](long n) noexcept {
        return *word + std::to_string(n);
    });
    subworker.task("wrapped", std::function<long(long)>([](long n) { return -n; }));
#if defined(__cpp_lib_span)
    subworker.task("halves", [](std::span<const double> x) { return std::make_pair(x.first(x.size() / 2), x.size()); });
#endif
    subworker.task("double", [](csw::span<const float> x, csw::output<float> twice, csw::output<std::int32_t> sizes) {
        csw::span<float> out = twice.resize(x.size());
        for (std::size_t i = 0; i < x.size(); ++i)
            out[i] = 2 * x[i];
        sizes.resize(1)[0] = static_cast<std::int32_t>(x.size());
        sizes.content_type("user/sizes");
        sizes.attributes("{\"count\":1}");
        return "doubled";
    });
    subworker.task("nothing", [](csw::context &) {});
    subworker.task("facts", [](csw::context &context, csw::input first) {
        context.debug("one line");
        context.progress(0.5, "half");
        context.set_attributes("{\"seen\":true}");
        return std::string(context.method()) + " " + std::string(context.name()) + " " + std::string(context.config()) +
               " " + std::string(context.arguments()) + " " + std::string(first.label()) + " " +
               std::string(first.content_type()) + " " + std::to_string(first.size()) + " " +
               std::string(first.attributes()) + " " + std::to_string(first.position());
    });
    subworker.task("size_at", [](const std::filesystem::path &path) { return std::filesystem::file_size(path); });
    subworker.task("file", [](csw::context &context) {
        auto path = context.staging_path();
        std::ofstream(path) << "made as a file";
        return path;
    });
    subworker.task("second", [](csw::inputs) { return csw::same_as{1}; });
    subworker.task("words", [](csw::input text) {
        using Words = std::map<std::string, int>;
        auto words = text.parsed<Words>([](const csw::input &from) {
            parsedCount += 1;
            Words counted;
            std::istringstream stream{std::string(from.text())};
            for (std::string word; stream >> word;)
                counted[word] += 1;
            return counted;
        });
        return std::make_tuple(words->size(), parsedCount.load());
    });
    subworker.task("wait", [](csw::context &context) {
        for (int i = 0; i < 10000; ++i) {
            context.check();
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    });
    subworker.task("throw", [](int which) {
        if (which == 1) throw std::out_of_range("no such element");
        if (which == 2) throw csw::error("a message", "and a detail");
        if (which == 3) throw std::bad_alloc();
        if (which == 4) throw 17;
        if (which == 5) throw csw::cancelled();
        return which;
    });
    subworker.task("", [](csw::context &context) { return "any: " + std::string(context.method()); });

    bool isRefused = false;
    try {
        labelled.inputs = {"only one"};
        subworker.task("badly labelled", dot, labelled);
    } catch (const csw::error &refused) {
        isRefused = refused.what() == std::string("task \"badly labelled\" has 2 inputs, but 1 labels");
    }
    if (!isRefused) return 3;
    return subworker.run();
}
