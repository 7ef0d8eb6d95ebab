/* The subworker "ffi": functions of any shared library as tasks, by declarations.
 *
 *   ffi [--threads N] [--declarations FILE]…   run by a worker
 *   ffi --check FILE…     says whether the functions of the files are there
 *   ffi --verify FILE…    says what is wrong in the files, and which functions are missing; lists their tasks */
#define _GNU_SOURCE
#include "known.h"
#include "marker.h"
#include "watch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int usage(void) {
    fputs(
        "usage: ffi [--threads N] [--declarations FILE]...    as a subworker; runs N calls at once\n"
        "       ffi --check FILE...     says whether the functions are there\n"
        "       ffi --verify FILE...    says what is wrong in the files, and which functions are missing; lists their "
        "tasks\n",
        stderr);
    return 2;
}

static bool add_file(known *known, const char *path) {
    text problem = {0};
    bool is_added = known_add_file(known, path, &problem);
    if (!is_added) fputs(problem.bytes != NULL ? problem.bytes : "no memory\n", stderr);
    text_release(&problem);
    return is_added;
}

static bool parse(known *known, int count, char **paths) {
    bool are_read = true;
    for (int i = 0; i < count; i += 1)
        are_read = add_file(known, paths[i]) && are_read;
    return are_read;
}

/* False after saying why. */
static bool watch_loads(void) {
    if (watch_install()) return true;
    perror("ffi: a thread that watches the loading of libraries");
    return false;
}

static int check(known *known, int count, char **paths) {
    if (!parse(known, count, paths) || !watch_loads()) return 1;
    text report = {0};
    uint32_t missing = known_check(known, &report);
    fputs(report.bytes != NULL ? report.bytes : "no functions are declared\n", stdout);
    text_release(&report);
    return missing == 0 ? 0 : 1;
}

/* The lines of the report that do not begin with "ok". */
static void print_missing(const char *report) {
    for (const char *line = report; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        if (strncmp(line, "ok ", 3) != 0) fprintf(stderr, "%.*s\n", (int)length, line);
        line += length + (line[length] == '\n');
    }
}

static int verify_all(known *known, int count, char **paths, FILE *list) {
    if (!parse(known, count, paths) || !watch_loads()) return 1;
    text report = {0};
    uint32_t missing = known_check(known, &report);
    if (missing != 0 && report.bytes != NULL) print_missing(report.bytes);
    text_release(&report);
    text tasks = {0};
    known_list(known, &tasks);
    if (missing == 0 && tasks.bytes != NULL) fputs(tasks.bytes, list);
    text_release(&tasks);
    return missing == 0 ? 0 : 1;
}

/* The list ends in a line with a full stop, and nobody else has a hand in it: a library may print something when it is loaded,
 * or start a process that goes on. */
static int verify(known *known, int count, char **paths) {
    int descriptor = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    FILE *list = descriptor >= 0 ? fdopen(descriptor, "w") : NULL;
    if (list == NULL || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        perror("ffi: standard output");
        return 1;
    }
    int code = verify_all(known, count, paths, list);
    fputs(".\n", list);
    return fclose(list) == 0 ? code : 1;
}

/* A number from 1 to the most that a worker gives a process; 0 for anything else. */
static uint32_t thread_count(const char *text) {
    char *end;
    long count = strtol(text, &end, 10);
    return *text != 0 && *end == 0 && count >= 1 && count <= decl_threads_max ? (uint32_t)count : 0;
}

static int run(known *known, int count, char **arguments) {
    for (int i = 0; i < count; i += 2) {
        if (i + 1 == count) return usage();
        if (strcmp(arguments[i], "--threads") == 0) {
            uint32_t threads = thread_count(arguments[i + 1]);
            if (threads == 0) {
                fprintf(
                    stderr, "ffi: --threads is a number from 1 to %d, not '%s'\n", decl_threads_max, arguments[i + 1]);
                return 2;
            }
            known_set_threads(known, threads);
        } else if (strcmp(arguments[i], "--declarations") != 0) {
            return usage();
        } else if (!add_file(known, arguments[i + 1])) {
            return 1;
        }
    }
    csw_subworker *subworker;
    csw_open(NULL, &subworker);
    if (subworker != NULL && known_register(known, subworker) == CSW_ENOMEM) {
        csw_close(subworker);
        fputs("ffi: no memory\n", stderr);
        return 1;
    }
    return csw_run(subworker);
}

int main(int count, char **arguments) {
    known *known = known_make();
    if (known == NULL) return 1;
    marker_install();
    const char *verb = count > 1 ? arguments[1] : "";
    int code;
    if (strcmp(verb, "--check") == 0)
        code = count > 2 ? check(known, count - 2, arguments + 2) : usage();
    else if (strcmp(verb, "--verify") == 0)
        code = count > 2 ? verify(known, count - 2, arguments + 2) : usage();
    else
        code = run(known, count - 1, arguments + 1);
    known_release(known);
    return code;
}
