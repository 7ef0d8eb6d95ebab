#include "ctoml.h"

#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

#define TOML_ENABLE_FORMATTERS 1
#include <toml++/toml.h>

namespace {

char *copy(const std::string &text) {
    return strdup(text.c_str());
}

} // namespace

extern "C" char *rain_toml_to_json(const char *text, size_t size, char **error) {
    *error = nullptr;
    try {
        toml::table root = toml::parse(std::string_view(text, size));
        std::ostringstream json;
        json << toml::json_formatter(root);
        return copy(json.str());
    } catch (const toml::parse_error &problem) {
        std::ostringstream message;
        message << "line " << problem.source().begin.line << ", column " << problem.source().begin.column << ": "
                << problem.description();
        *error = copy(message.str());
    } catch (const std::exception &problem) {
        *error = strdup(problem.what());
    }
    return nullptr;
}
