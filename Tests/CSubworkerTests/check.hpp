// A test is a function with a sentence for a name; a failed expectation ends it and the program goes on with the next.
#pragma once

#include <cstdio>
#include <exception>
#include <functional>
#include <kj/exception.h>
#include <sstream>
#include <string>
#include <vector>

namespace check {

struct Failure : std::exception {
    std::string text;
    explicit Failure(std::string text) : text(std::move(text)) {}
    const char *what() const noexcept override { return text.c_str(); }
};

struct Test {
    std::string name;
    std::function<void()> body;
};

inline std::vector<Test> &tests() {
    static std::vector<Test> all;
    return all;
}

struct Registration {
    Registration(std::string name, std::function<void()> body) {
        tests().push_back({std::move(name), std::move(body)});
    }
};

template <typename A, typename B> void equal(const A &a, const B &b, const char *what, const char *file, int line) {
    if (a == b) return;
    std::ostringstream text;
    text << file << ":" << line << ": " << what << ": " << a << " is not " << b;
    throw Failure(text.str());
}

inline void expect(bool condition, const char *what, const char *file, int line) {
    if (condition) return;
    throw Failure(std::string(file) + ":" + std::to_string(line) + ": not so: " + what);
}

inline int runAll() {
    int failed = 0;
    for (auto &test : tests()) {
        std::string problem;
        // KJ's exceptions are not std::exceptions.
        try {
            test.body();
        } catch (const kj::Exception &exception) {
            problem = kj::str(exception).cStr();
        } catch (const std::exception &exception) {
            problem = exception.what();
        }
        std::printf("%s  %s\n", problem.empty() ? "pass" : "FAIL", test.name.c_str());
        if (!problem.empty()) std::printf("      %s\n", problem.c_str());
        std::fflush(stdout);
        failed += problem.empty() ? 0 : 1;
    }
    std::printf("%zu tests, %d failed\n", tests().size(), failed);
    return failed == 0 && !tests().empty() ? 0 : 1;
}

} // namespace check

#define CHECK_JOIN2(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN2(a, b)
#define TEST(name)                                                                                                     \
    static void CHECK_JOIN(test_, __LINE__)();                                                                         \
    static check::Registration CHECK_JOIN(registration_, __LINE__)(name, CHECK_JOIN(test_, __LINE__));                 \
    static void CHECK_JOIN(test_, __LINE__)()
#define EXPECT(condition) check::expect((condition), #condition, __FILE__, __LINE__)
#define EXPECT_EQ(a, b) check::equal((a), (b), #a, __FILE__, __LINE__)
