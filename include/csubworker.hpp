// csubworker.hpp: makes C++ functions the tasks of a Rain worker. Header only, C++17, over csubworker.h and its library.
//
//     #include <csubworker.hpp>
//
//     int main() {
//         csw::subworker subworker;
//         subworker.task("dot", [](csw::span<const double> x, csw::span<const double> y) {
//             return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
//         });
//         return subworker.run();
//     }
//
// The function's types are the task's signature. Each argument is one input, in their order:
//
//     csw::span<const T>, std::string_view    the bytes, without a copy: read-only, gone when the function returns
//     std::vector<T>, std::string             a copy of the bytes
//     a number, bool, an enumeration          from its text when the input is JSON or text, else from its own bytes
//     a plain struct, std::array<T, n>        a copy of its bytes
//     std::optional of any of these           nothing where the input was left out; only inputs of that kind can follow
//     std::filesystem::path                   where the input can be read, a file or a directory
//     csw::input                              the input itself: bytes, path, label, content type, attributes, a parsed form
//     csw::inputs                             all inputs that are left; the last argument
//
// except for these, which are none:
//
//     csw::context &                          the call: debug lines, progress, whether it was cancelled, its facts
//     csw::output<T>                          an output that is made in place: see there
//
// What the function returns are the outputs, behind those of csw::output arguments: nothing, one value, or a std::tuple or
// std::pair of them:
//
//     std::string, const char *, std::string_view   the text                        content type text
//     a number, bool, an enumeration                its text                        content type json
//     std::vector<T>, csw::span, std::array         the values' bytes               content type array/f8 and the like
//     a plain struct                                its bytes
//     std::filesystem::path                         the file or directory, moved away
//     csw::same_as                                  one of the inputs again, without a copy
//
// T is a trivially copyable type; a plain struct is an aggregate that is one. With C++20 std::span is as good as csw::span.
// It compiles with -fno-rtti. An exception that leaves the function fails the task with its what(); csw::cancelled, which
// csw::context::check() throws, ends it as cancelled. A class of this header belongs to the thread that uses it; csw::context,
// csw::input and csw::output are valid until the function returns.
#ifndef CSUBWORKER_HPP
#define CSUBWORKER_HPP

#include <csubworker.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <functional>
#include <limits>
#include <locale>
#include <memory>
#include <new>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>
#if defined(__has_include)
#if __cplusplus >= 202002L && __has_include(<span>)
#include <span>
#endif
#endif
#if defined(__GNUC__) && defined(__cpp_rtti)
#include <cxxabi.h>
#endif

namespace csw {

/// Elements that somebody else owns, side by side. Since 0.2.
template <class T> class span {
public:
    using element_type = T;
    using value_type = std::remove_cv_t<T>;
    using iterator = T *;

    constexpr span() noexcept = default;
    constexpr span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    /// Of a container with data() and size(): a vector, an array, another span.
    template <
        class Container, class = std::enable_if_t<
                             std::is_convertible_v<decltype(std::declval<Container &>().data()), T *> &&
                             std::is_convertible_v<decltype(std::declval<Container &>().size()), std::size_t>>>
    constexpr span(Container &&container) : data_(container.data()), size_(container.size()) {}

    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T &operator[](std::size_t i) const { return data_[i]; }
    constexpr T &front() const { return data_[0]; }
    constexpr T &back() const { return data_[size_ - 1]; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr span subspan(std::size_t from, std::size_t count) const { return span(data_ + from, count); }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

/// Fails the task with a text of one line, and a detail (a traceback, say) for who wants to know more. Since 0.2.
class error : public std::runtime_error {
public:
    explicit error(const std::string &message, std::string detail = "")
        : std::runtime_error(message), detail_(std::move(detail)) {}
    const std::string &detail() const noexcept { return detail_; }

private:
    std::string detail_;
};

/// Ends the task as cancelled; does so only when somebody cancelled it. Since 0.2.
class cancelled : public std::exception {
public:
    const char *what() const noexcept override { return "cancelled"; }
};

/// An output that is input i again, without a copy; the inputs of the call are counted from 0. Since 0.2.
struct same_as {
    std::size_t input;
};

namespace detail {

inline void check(const csw_call *call, csw_status status) {
    if (status != CSW_OK) throw error(csw_call_message(call));
}

inline std::string_view text(csw_bytes bytes) {
    return {static_cast<const char *>(bytes.data), bytes.size};
}

/// The inputs of a task follow the constants of its template.
inline std::size_t place(const csw_call *call, std::size_t input) {
    return csw_constant_count(call) + input;
}

template <class T>
constexpr bool is_plain = std::is_trivially_copyable_v<T> && !std::is_pointer_v<T> && !std::is_reference_v<T>;
template <class T> constexpr bool is_number = std::is_arithmetic_v<T> || std::is_enum_v<T>;
/// Plain structs and arrays. What is no aggregate may be a view of memory that is somebody else's, as std::span is.
template <class T>
constexpr bool is_record =
    std::is_class_v<T> &&std::is_aggregate_v<T> &&is_plain<T> && !std::is_empty_v<T> && !std::is_same_v<T, same_as>;

/// "input 1 \"weights\"", for errors.
inline std::string input_title(const csw_call *call, std::size_t i) {
    std::string title = "input " + std::to_string(i - csw_constant_count(call));
    const char *label = csw_input_label(call, i);
    return *label != 0 ? title + " \"" + label + "\"" : title;
}

/// std::array is an array of its elements, anything else one of itself.
template <class T> struct element_of { using type = T; };
template <class T, std::size_t count> struct element_of<std::array<T, count>> { using type = T; };

/// "array/f8": the kind and size of the elements; "" for what is no number.
template <class T> std::string array_type() {
    if constexpr (std::is_same_v<T, bool>)
        return "array/b1";
    else if constexpr (std::is_floating_point_v<T> && sizeof(T) <= 8)
        return "array/f" + std::to_string(sizeof(T));
    else if constexpr (std::is_integral_v<T>)
        return (std::is_signed_v<T> ? "array/i" : "array/u") + std::to_string(sizeof(T));
    else
        return "";
}

/// An array whose elements are said to be others is an error, and not a wrong number. Bytes may be looked at as bytes.
template <class T> void check_array_type(csw_call *call, std::size_t i) {
    const std::string wanted = array_type<T>();
    const std::string_view given = csw_input_content_type(call, i);
    if (wanted.empty() || sizeof(T) == 1 || given.substr(0, 6) != "array/") return;
    if (given.substr(0, given.find('[')) != wanted)
        throw error(input_title(call, i) + " is " + std::string(given) + "; the task takes " + wanted);
}

template <class T> span<const T> elements(csw_call *call, std::size_t i) {
    static_assert(is_plain<T>, "csw: the elements of an input must be trivially copyable: numbers or plain structs");
    check_array_type<T>(call, i);
    csw_bytes bytes;
    check(call, csw_input_bytes(call, i, &bytes));
    if (bytes.size % sizeof(T) != 0)
        throw error(
            input_title(call, i) + " has " + std::to_string(bytes.size) + " bytes, which is no multiple of " +
            std::to_string(sizeof(T)));
    if (reinterpret_cast<std::uintptr_t>(bytes.data) % alignof(T) != 0)
        throw error(
            input_title(call, i) + " is not aligned to " + std::to_string(alignof(T)) + " bytes: take a vector");
    return {static_cast<const T *>(bytes.data), bytes.size / sizeof(T)};
}

inline bool is_text(std::string_view content_type) {
    return content_type.substr(0, 4) == "json" || content_type.substr(0, 4) == "text";
}

/// Integers as integers, so that none loses digits; char is a number here, and no letter.
template <class T> T parse(std::string_view text, const std::string &title) {
    auto fail = [&](const char *why) -> T {
        throw error(title + " is " + why + ": " + std::string(text.substr(0, 40)));
    };
    if constexpr (std::is_same_v<T, bool>) {
        if (text == "true" || text == "1") return true;
        if (text == "false" || text == "0") return false;
        return fail("neither true nor false");
    } else {
        using wide = std::conditional_t<
            std::is_floating_point_v<T>, T, std::conditional_t<std::is_signed_v<T>, long long, unsigned long long>>;
        if constexpr (std::is_floating_point_v<T>) {
            if (text == "NaN") return std::numeric_limits<T>::quiet_NaN();
            if (text == "Infinity") return std::numeric_limits<T>::infinity();
            if (text == "-Infinity") return -std::numeric_limits<T>::infinity();
        }
        if (std::is_unsigned_v<T> && text.find('-') != text.npos) return fail("negative");
        std::istringstream stream{std::string(text)};
        stream.imbue(std::locale::classic());
        wide value{};
        stream >> value;
        if (!stream || !(stream >> std::ws).eof()) return fail("no number of this type");
        if (!std::is_floating_point_v<T> && (value < static_cast<wide>(std::numeric_limits<T>::min()) ||
                                             value > static_cast<wide>(std::numeric_limits<T>::max())))
            return fail("out of range");
        return static_cast<T>(value);
    }
}

template <class T> T number(csw_call *call, std::size_t i) {
    csw_bytes bytes;
    check(call, csw_input_bytes(call, i, &bytes));
    if constexpr (std::is_enum_v<T>) {
        return static_cast<T>(number<std::underlying_type_t<T>>(call, i));
    } else {
        if (is_text(csw_input_content_type(call, i))) return parse<T>(text(bytes), input_title(call, i));
        if (bytes.size != sizeof(T))
            throw error(
                input_title(call, i) + " has " + std::to_string(bytes.size) + " bytes instead of the " +
                std::to_string(sizeof(T)) + " of its number");
        if constexpr (std::is_same_v<T, bool>) {
            return *static_cast<const unsigned char *>(bytes.data) != 0;
        } else {
            T value;
            std::memcpy(&value, bytes.data, sizeof value);
            return value;
        }
    }
}

template <class T> T record(csw_call *call, std::size_t i) {
    check_array_type<typename element_of<T>::type>(call, i);
    csw_bytes bytes;
    check(call, csw_input_bytes(call, i, &bytes));
    if (bytes.size != sizeof(T))
        throw error(
            input_title(call, i) + " has " + std::to_string(bytes.size) + " bytes instead of the " +
            std::to_string(sizeof(T)) + " that its struct or array has");
    T value;
    std::memcpy(&value, bytes.data, sizeof value);
    return value;
}

template <class T> std::string format(T value) {
    if constexpr (std::is_enum_v<T>) {
        return format(static_cast<std::underlying_type_t<T>>(value));
    } else if constexpr (std::is_same_v<T, bool>) {
        return value ? "true" : "false";
    } else if constexpr (std::is_floating_point_v<T>) {
        if (value != value) return "NaN";
        if (value > std::numeric_limits<T>::max()) return "Infinity";
        if (value < std::numeric_limits<T>::lowest()) return "-Infinity";
        std::ostringstream stream;
        stream.imbue(std::locale::classic());
        stream.precision(std::numeric_limits<T>::max_digits10);
        stream << value;
        std::string made = stream.str();
        // A reader of JSON would take a whole number for an integer.
        return made.find_first_of(".e") == made.npos ? made + ".0" : made;
    } else {
        return std::to_string(value);
    }
}

inline void set_type(csw_call *call, std::size_t output, const std::string &content_type) {
    // What the client declared stays.
    if (content_type.empty() || *csw_output_content_type(call, output) != 0) return;
    check(call, csw_output_set_content_type(call, output, content_type.c_str()));
}

/// Its address stands for a type, also without RTTI.
template <class T> struct type_mark { static constexpr char mark = 0; };

/// A parsed form that hangs on an input, with the type that it was made as.
struct attachment {
    const char *type;
    std::shared_ptr<const void> value;
};

} // namespace detail

/// One input of a call. Since 0.2.
class input {
public:
    /// `i` counts the constants of the template too, as in csubworker.h.
    input(csw_call *call, std::size_t i) : call_(call), i_(i) {}

    std::string_view text() const {
        csw_bytes bytes;
        detail::check(call_, csw_input_bytes(call_, i_, &bytes));
        return detail::text(bytes);
    }
    /// The bytes as elements of a type, without a copy.
    template <class T> span<const T> elements() const { return detail::elements<T>(call_, i_); }
    std::filesystem::path path() const {
        const char *path;
        detail::check(call_, csw_input_path(call_, i_, &path));
        return path;
    }
    std::string_view label() const { return csw_input_label(call_, i_); }
    std::string_view content_type() const { return csw_input_content_type(call_, i_); }
    std::uint64_t size() const { return csw_input_size(call_, i_); }
    /// JSON text.
    std::string_view attributes() const { return detail::text(csw_input_attributes(call_, i_)); }
    bool is_directory() const { return csw_input_is_directory(call_, i_); }
    /// Its position among the inputs of the function.
    std::size_t position() const { return i_ - csw_constant_count(call_); }

    /// What `make` makes of this input; kept from call to call where the subworker remembers the input.
    ///
    ///     std::shared_ptr<const Model> model = weights.parsed<Model>([](const csw::input &from) { return Model(from.text()); });
    template <class T, class Make> std::shared_ptr<const T> parsed(Make &&make) const {
        auto *found = static_cast<detail::attachment *>(csw_input_attached(call_, i_));
        if (found != nullptr && found->type == &detail::type_mark<T>::mark)
            return std::static_pointer_cast<const T>(found->value);
        auto made = std::make_shared<const T>(std::forward<Make>(make)(*this));
        if (!csw_input_is_cached(call_, i_)) return made;
        auto kept = std::make_unique<detail::attachment>(detail::attachment{&detail::type_mark<T>::mark, made});
        auto destroy = [](void *value, void *) { delete static_cast<detail::attachment *>(value); };
        detail::check(call_, csw_input_attach(call_, i_, kept.get(), destroy, nullptr));
        kept.release();
        return made;
    }

private:
    csw_call *call_;
    std::size_t i_;
};

/// The inputs that no other argument took. Since 0.2.
class inputs : public std::vector<input> {
public:
    using std::vector<input>::vector;
};

/// An output that is made in place: a large one is the object itself, mapped.
///
///     [](csw::span<const float> x, csw::output<float> y) {
///         csw::span<float> out = y.resize(x.size());
///         for (std::size_t i = 0; i < x.size(); ++i) out[i] = 2 * x[i];
///     }
///
/// What was not resized is empty. Since 0.2.
template <class T> class output {
    static_assert(
        detail::is_plain<T> && !std::is_const_v<T>, "csw: the elements of an output must be trivially copyable");

public:
    output(csw_call *call, std::size_t i) : call_(call), i_(i) {
        void *data;
        detail::check(call_, csw_output_buffer(call_, i_, 0, &data));
        detail::set_type(call_, i_, detail::array_type<T>());
    }
    /// Room for so many elements: those that were there stay, new ones are zero. Earlier spans are invalid.
    span<T> resize(std::size_t count) {
        void *data;
        if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_alloc();
        detail::check(call_, csw_output_resize(call_, i_, count * sizeof(T), &data));
        return {static_cast<T *>(data), count};
    }
    void content_type(const std::string &type) {
        detail::check(call_, csw_output_set_content_type(call_, i_, type.c_str()));
    }
    void attributes(std::string_view json) {
        detail::check(call_, csw_output_set_attributes(call_, i_, json.data(), json.size()));
    }

private:
    csw_call *call_;
    std::size_t i_;
};

/// The call that is running. Since 0.2.
class context {
public:
    explicit context(csw_call *call) : call_(call) {}

    /// A line for the task's debug text.
    void debug(std::string_view line) { detail::check(call_, csw_debug_text(call_, line.data(), line.size())); }
    /// How far the task is, 0 to 1, and one line on what it does.
    void progress(double fraction, const std::string &text = "") {
        detail::check(call_, csw_progress(call_, fraction, text.c_str()));
    }
    bool is_cancelled() const noexcept { return csw_cancelled(call_); }
    /// Ends the task here when it was cancelled. One load: ask as often as you like.
    void check() const {
        if (is_cancelled()) throw cancelled();
    }
    /// JSON texts of the client: of the task type's template, of this task, of the user's own.
    std::string_view config() const { return detail::text(csw_call_config(call_)); }
    std::string_view arguments() const { return detail::text(csw_call_arguments(call_)); }
    std::string_view attributes() const { return detail::text(csw_call_attributes(call_)); }
    /// JSON text that the client reads from the finished task.
    void set_attributes(std::string_view json) {
        detail::check(call_, csw_set_attributes(call_, json.data(), json.size()));
    }
    std::string_view method() const { return csw_call_method(call_); }
    std::string_view name() const { return csw_call_name(call_); }
    std::uint32_t array_index() const { return csw_call_array_index(call_); }
    csw_attempt attempt() const { return csw_call_attempt(call_); }
    /// A path at which a file or directory can be made, to be returned as an output.
    std::filesystem::path staging_path() {
        const char *path;
        detail::check(call_, csw_staging_path(call_, &path));
        return path;
    }
    /// For the functions of csubworker.h.
    csw_call *call() const noexcept { return call_; }

private:
    csw_call *call_;
};

namespace detail {

// --- Signatures ------------------------------------------------------------------------------------------------------

template <class... Arguments> struct list {};

template <class Result, class... Arguments> struct signature_of {
    using result = Result;
    using arguments = list<Arguments...>;
};

template <class Function, class = void> struct signature { static constexpr bool is_known = false; };
template <class R, class... A> struct signature<R (*)(A...), void> : signature_of<R, A...> {
    static constexpr bool is_known = true;
};
template <class R, class... A> struct signature<R (*)(A...) noexcept, void> : signature<R (*)(A...)> {};
template <class R, class C, class... A> struct signature<R (C::*)(A...), void> : signature<R (*)(A...)> {};
template <class R, class C, class... A> struct signature<R (C::*)(A...) const, void> : signature<R (*)(A...)> {};
template <class R, class C, class... A> struct signature<R (C::*)(A...) noexcept, void> : signature<R (*)(A...)> {};
template <class R, class C, class... A>
struct signature<R (C::*)(A...) const noexcept, void> : signature<R (*)(A...)> {};
template <class Function>
struct signature<Function, std::void_t<decltype(&Function::operator())>> : signature<decltype(&Function::operator())> {
};

// --- Arguments -------------------------------------------------------------------------------------------------------

/// Where the next argument comes from.
struct source {
    csw_call *call;
    context *self;
    std::size_t next_input;
    std::size_t next_output = 0;
};

enum class role { unknown, input, rest, output, context };

template <class T, class = void> struct argument { static constexpr role is = role::unknown; };
template <class T> struct argument<span<const T>> {
    static constexpr role is = role::input;
    static span<const T> take(source &from) { return elements<T>(from.call, from.next_input++); }
};
#if defined(__cpp_lib_span)
template <class T> struct argument<std::span<const T>> {
    static constexpr role is = role::input;
    static std::span<const T> take(source &from) {
        auto found = elements<T>(from.call, from.next_input++);
        return {found.data(), found.size()};
    }
};
#endif
template <class T> struct argument<T, std::enable_if_t<is_record<T>>> {
    static constexpr role is = role::input;
    static T take(source &from) { return record<T>(from.call, from.next_input++); }
};
template <class T> struct argument<std::optional<T>> {
    static_assert(argument<T>::is == role::input, "csw: only an input can be a std::optional");
    static constexpr role is = role::input;
    static std::optional<T> take(source &from) {
        if (from.next_input >= csw_input_count(from.call)) return std::nullopt;
        return argument<T>::take(from);
    }
};
template <> struct argument<std::string_view> {
    static constexpr role is = role::input;
    static std::string_view take(source &from) { return input(from.call, from.next_input++).text(); }
};
template <> struct argument<std::string> {
    static constexpr role is = role::input;
    static std::string take(source &from) { return std::string(input(from.call, from.next_input++).text()); }
};
template <class T> struct argument<std::vector<T>> {
    static_assert(is_plain<T>, "csw: the elements of an input must be trivially copyable: numbers or plain structs");
    static_assert(!std::is_same_v<T, bool>, "csw: take csw::span<const bool> or std::vector<std::uint8_t>");
    static constexpr role is = role::input;
    static std::vector<T> take(source &from) {
        check_array_type<T>(from.call, from.next_input);
        std::string_view bytes = input(from.call, from.next_input).text();
        if (bytes.size() % sizeof(T) != 0) elements<T>(from.call, from.next_input); // throws, and says why
        from.next_input += 1;
        std::vector<T> values(bytes.size() / sizeof(T));
        if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
        return values;
    }
};
template <class T> struct argument<T, std::enable_if_t<is_number<T>>> {
    static constexpr role is = role::input;
    static T take(source &from) { return number<T>(from.call, from.next_input++); }
};
template <> struct argument<std::filesystem::path> {
    static constexpr role is = role::input;
    static std::filesystem::path take(source &from) { return input(from.call, from.next_input++).path(); }
};
template <> struct argument<input> {
    static constexpr role is = role::input;
    static input take(source &from) { return input(from.call, from.next_input++); }
};
template <> struct argument<inputs> {
    static constexpr role is = role::rest;
    static inputs take(source &from) {
        inputs all;
        while (from.next_input < csw_input_count(from.call))
            all.emplace_back(from.call, from.next_input++);
        return all;
    }
};
template <class T> struct argument<output<T>> {
    static constexpr role is = role::output;
    static output<T> take(source &from) { return output<T>(from.call, from.next_output++); }
};
template <> struct argument<context> {
    static constexpr role is = role::context;
    static std::reference_wrapper<context> take(source &from) { return *from.self; }
};

template <class A> using argument_of = argument<std::remove_cv_t<std::remove_reference_t<A>>>;

/// By value or const &; only the context by &.
template <class A>
constexpr bool is_passable = !std::is_lvalue_reference_v<A> || std::is_const_v<std::remove_reference_t<A>> ||
                             argument_of<A>::is == role::context;

template <class A> constexpr bool check_argument() {
    static_assert(
        argument_of<A>::is != role::unknown,
        "csw: an argument of a task must be csw::span<const T>, std::string_view, std::string, std::vector<T>, a "
        "number, a plain struct, std::array<T, n>, std::optional of these, "
        "std::filesystem::path, csw::input, csw::inputs, csw::output<T> or csw::context &");
    static_assert(
        is_passable<A>, "csw: an input is read-only: take it by value or by const &, or make a csw::output<T>");
    return true;
}

template <role wanted, class... A> constexpr std::size_t count_of(list<A...>) {
    return (std::size_t{0} + ... + (argument_of<A>::is == wanted ? 1 : 0));
}

template <class T> constexpr bool is_optional = false;
template <class T> constexpr bool is_optional<std::optional<T>> = true;

/// An input that a call must have.
template <class A>
constexpr bool is_required =
    argument_of<A>::is == role::input && !is_optional<std::remove_cv_t<std::remove_reference_t<A>>>;

template <class... A> constexpr std::size_t required_count(list<A...>) {
    return (std::size_t{0} + ... + (is_required<A> ? 1 : 0));
}

/// Whether nothing that is an input follows csw::inputs, and nothing that is required an optional one.
template <class... A> constexpr bool is_in_order(list<A...>) {
    bool has_rest = false, has_optional = false, is_good = true;
    (void)has_rest, (void)has_optional; // unused where there is no argument
    ((is_good = is_good && !(has_rest && argument_of<A>::is == role::input) && !(has_optional && is_required<A>),
      has_rest = has_rest || argument_of<A>::is == role::rest,
      has_optional = has_optional || (argument_of<A>::is == role::input && !is_required<A>)),
     ...);
    return is_good;
}

// --- Results ---------------------------------------------------------------------------------------------------------

template <class T, class = void> struct result { static constexpr bool is_known = false; };
template <class T> struct result<T, std::enable_if_t<std::is_convertible_v<const T &, std::string_view>>> {
    static constexpr bool is_known = true;
    static std::string content_type() { return "text"; }
    static void set(csw_call *call, std::size_t i, const T &value) {
        std::string_view text = value;
        check(call, csw_output_bytes(call, i, text.data(), text.size()));
        set_type(call, i, "text");
    }
};
template <class T> struct result<T, std::enable_if_t<is_number<T>>> {
    static constexpr bool is_known = true;
    static std::string content_type() { return "json"; }
    static void set(csw_call *call, std::size_t i, T value) {
        std::string text = format(value);
        check(call, csw_output_bytes(call, i, text.data(), text.size()));
        set_type(call, i, "json");
    }
};
template <class T> struct plain_result {
    static_assert(is_plain<T>, "csw: the elements of an output must be trivially copyable: numbers or plain structs");
    static_assert(!std::is_same_v<T, bool>, "csw: return std::vector<std::uint8_t>");
    static constexpr bool is_known = true;
    static std::string content_type() { return array_type<T>(); }
    static void set(csw_call *call, std::size_t i, span<const T> values) {
        check(call, csw_output_bytes(call, i, values.data(), values.size_bytes()));
        set_type(call, i, array_type<T>());
    }
};
template <class T> struct result<std::vector<T>> : plain_result<T> {};
template <class T> struct result<span<T>> : plain_result<std::remove_cv_t<T>> {};
template <class T, std::size_t count> struct result<std::array<T, count>> : plain_result<T> {};
#if defined(__cpp_lib_span)
template <class T> struct result<std::span<T>> {
    static constexpr bool is_known = true;
    static std::string content_type() { return array_type<std::remove_cv_t<T>>(); }
    static void set(csw_call *call, std::size_t i, std::span<T> values) {
        plain_result<std::remove_cv_t<T>>::set(call, i, values);
    }
};
#endif
template <class T> struct result<T, std::enable_if_t<is_record<T> && std::is_same_v<typename element_of<T>::type, T>>> {
    static constexpr bool is_known = true;
    static std::string content_type() { return ""; }
    static void set(csw_call *call, std::size_t i, const T &value) {
        check(call, csw_output_bytes(call, i, &value, sizeof value));
    }
};
template <> struct result<std::filesystem::path> {
    static constexpr bool is_known = true;
    static std::string content_type() { return ""; }
    static void set(csw_call *call, std::size_t i, const std::filesystem::path &value) {
        check(call, csw_output_path(call, i, value.c_str()));
    }
};
template <> struct result<same_as> {
    static constexpr bool is_known = true;
    static std::string content_type() { return ""; }
    static void set(csw_call *call, std::size_t i, same_as value) {
        check(call, csw_output_same_as_input(call, i, place(call, value.input)));
    }
};

template <class T> constexpr bool check_result() {
    static_assert(
        result<T>::is_known,
        "csw: a task must return nothing, a text, a number, std::vector<T>, a plain struct, std::filesystem::path, "
        "csw::same_as, or a std::tuple or std::pair of them");
    return true;
}

template <class R> struct results {
    static constexpr std::size_t count = 1;
    static std::vector<std::string> content_types() { return {result<R>::content_type()}; }
    static constexpr bool is_checked = check_result<R>();
    static void set(csw_call *call, std::size_t i, const R &value) { result<R>::set(call, i, value); }
};
template <> struct results<void> {
    static constexpr std::size_t count = 0;
    static std::vector<std::string> content_types() { return {}; }
    static constexpr bool is_checked = true;
};
template <class... R> struct results<std::tuple<R...>> {
    static constexpr std::size_t count = sizeof...(R);
    static std::vector<std::string> content_types() { return {result<R>::content_type()...}; }
    static constexpr bool is_checked = (true && ... && check_result<R>());
    static void set(csw_call *call, std::size_t i, const std::tuple<R...> &values) {
        std::apply([&](const R &...value) { (result<R>::set(call, i++, value), ...); }, values);
    }
};
template <class A, class B> struct results<std::pair<A, B>> : results<std::tuple<A, B>> {};

// --- Tasks -----------------------------------------------------------------------------------------------------------

/// A function as the library calls it.
template <class Function, class... A> csw_status invoke(csw_call *call, Function &function, list<A...>) {
    using result_type = std::decay_t<decltype(function(std::declval<A>()...))>;
    constexpr std::size_t input_count = count_of<role::input>(list<A...>());
    constexpr std::size_t required = required_count(list<A...>());
    constexpr bool has_rest = count_of<role::rest>(list<A...>()) != 0;
    constexpr std::size_t output_count = count_of<role::output>(list<A...>()) + results<result_type>::count;
    std::size_t given = csw_input_count(call) - csw_constant_count(call), wanted = csw_output_count(call);
    if (given < required || (given > input_count && !has_rest)) {
        const char *bound = has_rest || (given < required && required < input_count) ? "at least "
                            : required < input_count                                 ? "at most "
                                                                                     : "";
        return csw_fail(
            call, "task \"%s\" takes %s%zu inputs, but was given %zu", csw_call_method(call), bound,
            given < required ? required : input_count, given);
    }
    if (wanted != output_count)
        return csw_fail(
            call, "task \"%s\" has %zu outputs, but was asked for %zu", csw_call_method(call), output_count, wanted);
    context self(call);
    source from{call, &self, place(call, 0)};
    // In braces, because only there arguments are evaluated in their order.
    std::tuple<decltype(argument_of<A>::take(from))...> arguments{argument_of<A>::take(from)...};
    if constexpr (std::is_void_v<result_type>)
        std::apply(function, std::move(arguments));
    else
        results<result_type>::set(call, from.next_output, std::apply(function, std::move(arguments)));
    return CSW_OK;
}

inline csw_status fail(csw_call *call, std::string_view message, std::string_view detail) {
    return csw_fail_text(call, message.data(), message.size(), detail.data(), detail.size());
}

#if defined(__cpp_rtti)
inline std::string type_name(const std::exception &thrown) {
    const std::type_info &type = typeid(thrown);
#if defined(__GNUC__)
    int status = 0;
    std::unique_ptr<char, void (*)(void *)> name(
        abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), std::free);
    if (name) return name.get();
#endif
    return type.name();
}
#else
inline std::string type_name(const std::exception &) {
    return "";
}
#endif

/// What no exception may leave: C code called it.
template <class Function> csw_status guarded(csw_call *call, void *function) noexcept {
    try {
        return invoke(call, *static_cast<Function *>(function), typename signature<Function>::arguments());
    } catch (const cancelled &) {
        return CSW_ECANCELLED;
    } catch (const error &thrown) {
        return fail(call, thrown.what(), thrown.detail());
    } catch (const std::bad_alloc &) {
        return fail(call, "no memory", "");
    } catch (const std::exception &thrown) {
        return fail(call, thrown.what(), type_name(thrown));
    } catch (...) {
        return fail(call, "the task threw something that is no std::exception", "");
    }
}

} // namespace detail

/// How a task is registered, besides its function. Since 0.2.
struct task_options {
    std::string documentation;
    /// Labels: as many as the function has, or none.
    std::vector<std::string> inputs;
    std::vector<std::string> outputs;
    /// Calls that may run at once; the function must then be thread-safe.
    std::size_t threads = 1;
};

/// A subworker: a program that a worker starts to run its tasks. Since 0.2.
class subworker {
public:
    /// \param name  of the subworker; empty: the one that the worker uses.
    explicit subworker(const std::string &name = "") {
        csw_options options = CSW_OPTIONS_INIT;
        if (!name.empty()) options.name = name.c_str();
        if (csw_open(&options, &handle_) != CSW_OK) throw std::bad_alloc();
    }
    ~subworker() { csw_close(handle_); }
    subworker(const subworker &) = delete;
    subworker &operator=(const subworker &) = delete;

    /// Makes a function, a lambda or another object with one operator() a task. Its types are the task's signature; it is kept, and
    /// may change itself from call to call when it is not called at once.
    /// Throws csw::error when the labels are not as many as the function has, or the name is taken.
    template <class Function> subworker &task(const std::string &name, Function &&function, task_options options = {}) {
        using kept_type = std::decay_t<Function>;
        using known = detail::signature<kept_type>;
        static_assert(
            known::is_known, "csw: a task must be a function or an object with one operator(), whose arguments have "
                             "written-out types (no auto)");
        if constexpr (known::is_known)
            add<kept_type>(name, std::forward<Function>(function), options, typename known::arguments());
        return *this;
    }

    /// Runs calls until the worker goes away or says so: `return subworker.run();`. The exit status of the program.
    int run() { return csw_run(std::exchange(handle_, nullptr)); }

    /// For the functions of csubworker.h; NULL after run().
    csw_subworker *handle() const noexcept { return handle_; }

private:
    template <class Function, class Given, class... A>
    void add(const std::string &name, Given &&function, const task_options &options, detail::list<A...>) {
        using all = detail::list<A...>;
        constexpr bool is_good = (true && ... && detail::check_argument<A>());
        if constexpr (is_good) {
            using result_type = std::decay_t<typename detail::signature<Function>::result>;
            static_assert(detail::results<result_type>::is_checked);
            static_assert(
                detail::is_in_order(all()) && detail::count_of<detail::role::rest>(all()) <= 1,
                "csw: csw::inputs takes all inputs that are left, so no input can follow it; and only a std::optional "
                "one can "
                "follow a std::optional one");
            constexpr bool has_rest = detail::count_of<detail::role::rest>(all()) != 0;
            constexpr std::size_t input_count = detail::count_of<detail::role::input>(all());
            // The library's own count has no room for what may be left out.
            constexpr bool is_fixed = !has_rest && input_count == detail::required_count(all());
            std::vector<std::string> types = types_of_outputs<result_type>(all());
            auto inputs = labels(name, "inputs", options.inputs, is_fixed ? input_count : 0);
            auto outputs = labels(name, "outputs", options.outputs, types.size());
            std::vector<const char *> content_types;
            for (auto &one : types)
                content_types.push_back(one.c_str());
            auto kept = std::make_shared<Function>(std::forward<Given>(function));
            csw_task_type type = CSW_TASK_TYPE_INIT;
            type.name = name.c_str();
            type.documentation = options.documentation.c_str();
            type.inputs = inputs.data();
            type.input_count = inputs.size();
            type.outputs = outputs.data();
            type.output_count = outputs.size();
            type.output_content_types = content_types.data();
            type.threads = options.threads;
            type.function = detail::guarded<Function>;
            type.context = kept.get();
            if (csw_task(handle_, &type) != CSW_OK) throw error(csw_message(handle_));
            functions_.push_back(std::move(kept));
        }
    }

    template <class Result, class... A> static std::vector<std::string> types_of_outputs(detail::list<A...>) {
        std::vector<std::string> types, returned = detail::results<Result>::content_types();
        (add_type<std::remove_cv_t<std::remove_reference_t<A>>>(types), ...);
        types.insert(types.end(), returned.begin(), returned.end());
        return types;
    }
    template <class A> static void add_type(std::vector<std::string> &types) {
        if constexpr (detail::argument<A>::is == detail::role::output)
            types.push_back(output_type(static_cast<A *>(nullptr)));
    }
    template <class T> static std::string output_type(output<T> *) { return detail::array_type<T>(); }

    static std::vector<const char *> labels(
        const std::string &name, const char *what, const std::vector<std::string> &given, std::size_t count) {
        if (!given.empty() && given.size() != count)
            throw error(
                "task \"" + name + "\" has " + std::to_string(count) + " " + what + ", but " +
                std::to_string(given.size()) + " labels");
        std::vector<const char *> texts;
        for (std::size_t i = 0; i < count; ++i)
            texts.push_back(given.empty() ? "" : given[i].c_str());
        return texts;
    }

    csw_subworker *handle_ = nullptr;
    std::vector<std::shared_ptr<void>> functions_;
};

} // namespace csw

#endif
