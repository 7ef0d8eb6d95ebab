#define _GNU_SOURCE
#include "subworker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const level_names[] = {"", "error", "warning", "info", "debug"};

int csw_log_level_of(const char *name) {
    /* The worker's own levels, which are more. */
    static const struct {
        const char *name;
        int level;
    } levels[] = {
        {"critical", CSW_LOG_ERROR}, {"error", CSW_LOG_ERROR}, {"warning", CSW_LOG_WARNING}, {"notice", CSW_LOG_INFO},
        {"info", CSW_LOG_INFO},      {"debug", CSW_LOG_DEBUG}, {"trace", CSW_LOG_DEBUG},
    };
    for (size_t i = 0; name != NULL && i < sizeof levels / sizeof *levels; i += 1)
        if (strcmp(levels[i].name, name) == 0) return levels[i].level;
    return CSW_LOG_INFO;
}

int csw_log_level(const csw_subworker *subworker) {
    return subworker->log_level;
}

void csw_log(const csw_subworker *subworker, int level, const char *format, ...) {
    if (level < CSW_LOG_ERROR || level > CSW_LOG_DEBUG || level > subworker->log_level) return;
    va_list arguments;
    va_start(arguments, format);
    flockfile(stderr); /* a line of another thread must not come between */
    fprintf(stderr, "%s: %s: ", subworker->name, level_names[level]);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    funlockfile(stderr);
    va_end(arguments);
}
