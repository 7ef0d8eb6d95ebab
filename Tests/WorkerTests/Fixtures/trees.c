/* A subworker for tests: directories as inputs and outputs. */
#include <csubworker.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static csw_status make_tree(csw_call *call, size_t i) {
    const char *path;
    csw_status status = csw_staging_path(call, &path);
    if (status != CSW_OK) return status;
    char name[4096];
    if (mkdir(path, 0700) != 0) return csw_fail(call, "mkdir failed");
    for (int n = 0; n < 3; ++n) {
        snprintf(name, sizeof name, "%s/%d", path, n);
        FILE *file = fopen(name, "w");
        if (!file || fprintf(file, "file %d", n) < 0 || fclose(file) != 0) return csw_fail(call, "no file");
    }
    return csw_output_path(call, i, path);
}

static csw_status tree(csw_call *call, void *context) {
    (void)context;
    return make_tree(call, 0);
}

/* A directory and a text that is too large for a message. */
static csw_status both(csw_call *call, void *context) {
    (void)context;
    void *memory;
    csw_status status = csw_output_buffer(call, 1, 1 << 20, &memory);
    return status == CSW_OK ? make_tree(call, 0) : status;
}

/* The names in a directory. */
static csw_status names(csw_call *call, void *context) {
    (void)context;
    const char *path;
    csw_status status = csw_input_path(call, 0, &path);
    if (status != CSW_OK) return status;
    if (!csw_input_is_directory(call, 0)) return csw_fail(call, "no directory");
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0) return csw_fail(call, "%s can't be read", path);
    char text[4096] = "";
    for (int n = 0; n < count; ++n) {
        if (entries[n]->d_name[0] != '.') strcat(strcat(text, entries[n]->d_name), " ");
        free(entries[n]);
    }
    free(entries);
    return csw_output_printf(call, 0, "%s", text);
}

static csw_status same(csw_call *call, void *context) {
    (void)context;
    return csw_output_same_as_input(call, 0, 0);
}

static csw_status pipe_inside(csw_call *call, void *context) {
    (void)context;
    const char *path;
    csw_status status = csw_staging_path(call, &path);
    if (status != CSW_OK) return status;
    char name[4096];
    snprintf(name, sizeof name, "%s/pipe", path);
    if (mkdir(path, 0700) != 0 || mkfifo(name, 0600) != 0) return csw_fail(call, "no pipe");
    return csw_output_path(call, 0, path);
}

/* Writes to its input, as far as it may. */
static csw_status scribble(csw_call *call, void *context) {
    (void)context;
    const char *path;
    csw_status status = csw_input_path(call, 0, &path);
    if (status != CSW_OK) return status;
    chmod(path, 0644);
    int file = open(path, O_WRONLY);
    const char *result = file >= 0 && write(file, "!", 1) == 1 ? "written" : "refused";
    if (file >= 0) close(file);
    return csw_output_printf(call, 0, "%s", result);
}

int main(void) {
    static const struct {
        const char *name;
        csw_function *function;
    } tasks[] = {{"tree", tree}, {"both", both},        {"names", names},
                 {"same", same}, {"pipe", pipe_inside}, {"scribble", scribble}};
    csw_subworker *subworker;
    csw_open(NULL, &subworker);
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; ++i) {
        csw_task_type type = {CSW_TASK, .name = tasks[i].name, .function = tasks[i].function};
        csw_task(subworker, &type);
    }
    return csw_run(subworker);
}
