/* A subworker whose tasks run at once. */
#define _GNU_SOURCE
#include <csubworker.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long number(csw_call *call) {
    csw_bytes text = csw_call_arguments(call);
    char copy[32] = "";
    if (text.size < sizeof copy) memcpy(copy, text.data, text.size);
    return strtol(copy, NULL, 10);
}

static void wait_milliseconds(long milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* How many calls are in a task now, and how many were at most. */
typedef struct crowd {
    atomic_int now, most;
} crowd;

static void enter(crowd *who) {
    int now = atomic_fetch_add(&who->now, 1) + 1;
    int most = atomic_load(&who->most);
    while (now > most && !atomic_compare_exchange_weak(&who->most, &most, now)) {}
}

static void leave(crowd *who) {
    atomic_fetch_sub(&who->now, 1);
}

/* Ends when as many calls as the argument says are in here at once. */
static csw_status meet(csw_call *call, void *context) {
    crowd *who = context;
    int wanted = (int)number(call);
    enter(who);
    for (int i = 0; atomic_load(&who->most) < wanted && i < 10000; i += 1)
        wait_milliseconds(1);
    int most = atomic_load(&who->most);
    leave(who);
    return most >= wanted ? csw_output_printf(call, 0, "%d", most) : csw_fail(call, "only %d met", most);
}

/* Stays for a while; says how many there were at most. */
static csw_status stay(csw_call *call, void *context) {
    crowd *who = context;
    enter(who);
    wait_milliseconds(number(call));
    leave(who);
    return csw_output_printf(call, 0, "%d", atomic_load(&who->most));
}

/* Not thread-safe: counts without any care, and must always be on one thread. */
static csw_status alone(csw_call *call, void *context) {
    static pthread_t thread;
    static long count;
    (void)context;
    if (count == 0) thread = pthread_self();
    if (!pthread_equal(thread, pthread_self())) return csw_fail(call, "on another thread");
    long before = count;
    if (number(call) != 0) wait_milliseconds(number(call));
    count = before + 1;
    return csw_output_printf(call, 0, "%ld", count);
}

static csw_status echo(csw_call *call, void *context) {
    (void)context;
    csw_bytes bytes;
    csw_status status = csw_input_bytes(call, 0, &bytes);
    if (status == CSW_OK) status = csw_debug(call, "%zu bytes", bytes.size);
    return status == CSW_OK ? csw_output_bytes(call, 0, bytes.data, bytes.size) : status;
}

/* A buffer of so many bytes. */
static csw_status buffer(csw_call *call, void *context) {
    (void)context;
    size_t size = (size_t)number(call);
    void *bytes;
    csw_status status = csw_output_buffer(call, 0, size, &bytes);
    if (status == CSW_OK) memset(bytes, 'b', size);
    return status;
}

static atomic_int alive_count;

static void destroy(void *value, void *context) {
    (void)context;
    atomic_fetch_sub(&alive_count, 1);
    free(value);
}

/* The sum of a remembered input's bytes, found once, and used for a while. "sum alive" */
static csw_status sum(csw_call *call, void *context) {
    (void)context;
    long *value = csw_input_attached(call, 0);
    if (value == NULL) {
        csw_bytes bytes;
        csw_status status = csw_input_bytes(call, 0, &bytes);
        if (status != CSW_OK) return status;
        value = calloc(1, sizeof *value);
        if (value == NULL) return CSW_ENOMEM;
        for (size_t i = 0; i < bytes.size; i += 1)
            *value += ((const unsigned char *)bytes.data)[i];
        atomic_fetch_add(&alive_count, 1);
        status = csw_input_attach(call, 0, value, destroy, NULL);
        if (status != CSW_OK) return status;
    }
    if (number(call) != 0) wait_milliseconds(number(call));
    return csw_output_printf(call, 0, "%ld %d", *value, atomic_load(&alive_count));
}

static csw_status wait_for_cancel(csw_call *call, void *context) {
    (void)context;
    for (int i = 0; i < 10000; i += 1) {
        if (csw_cancelled(call)) return CSW_ECANCELLED;
        csw_status status = csw_progress(call, i / 10000.0, NULL);
        if (status != CSW_OK) return status;
        wait_milliseconds(1);
    }
    return csw_fail(call, "nobody cancelled");
}

static csw_status die(csw_call *call, void *context) {
    (void)context;
    wait_milliseconds(number(call));
    _exit(7);
}

static csw_status overflow(csw_call *call, volatile char *caller) {
    volatile char frame[4096];
    frame[0] = caller[0];
    csw_status status = number(call) >= 0 ? overflow(call, frame) : CSW_OK;
    return status + frame[0];
}

/* Ends the process in the way that the task's name says. */
static csw_status crash(csw_call *call, void *context) {
    (void)context;
    const char *how = csw_call_method(call);
    if (strcmp(how, "abort") == 0) abort();
    if (strcmp(how, "exit") == 0) exit(7);
    if (strcmp(how, "trap") == 0) __builtin_trap();
    if (strcmp(how, "overflow") == 0) return overflow(call, (volatile char[]){0});
    return raise(SIGSEGV) == 0 ? CSW_OK : CSW_EIO;
}

static csw_status nothing(csw_call *call, void *context) {
    (void)call, (void)context;
    return CSW_OK;
}

/* Ends the process without a word, after processes that it forked crashed and left. */
static csw_status outlive(csw_call *call, void *context) {
    (void)call;
    (void)context;
    for (int is_crash = 0; is_crash < 2; is_crash += 1) {
        pid_t child = fork();
        if (child == 0) {
            if (is_crash) abort();
            exit(0);
        }
        waitpid(child, NULL, 0);
    }
    _exit(7);
}

int main(int count, char **arguments) {
    static crowd meeting, staying;
    const csw_task_type types[] = {
        {CSW_TASK, .name = "meet", .function = meet, .context = &meeting, .threads = 4},
        {CSW_TASK, .name = "stay", .function = stay, .context = &staying, .threads = 2},
        {CSW_TASK, .name = "echo", .function = echo, .threads = 4},
        {CSW_TASK, .name = "buffer", .function = buffer, .threads = 4},
        {CSW_TASK, .name = "sum", .function = sum, .threads = 4},
        {CSW_TASK, .name = "wait", .function = wait_for_cancel, .threads = 4},
        {CSW_TASK, .name = "die", .function = die, .threads = 4},
        {CSW_TASK, .name = "nothing", .function = nothing, .threads = 4},
        {CSW_TASK, .name = "fault", .function = crash, .threads = 4},
        {CSW_TASK, .name = "abort", .function = crash, .threads = 4},
        {CSW_TASK, .name = "exit", .function = crash, .threads = 4},
        {CSW_TASK, .name = "trap", .function = crash, .threads = 4},
        {CSW_TASK, .name = "overflow", .function = crash, .threads = 4},
        {CSW_TASK, .name = "outlive", .function = outlive, .threads = 4},
        {CSW_TASK, .name = "alone", .function = alone},
    };
    csw_subworker *subworker;
    if (csw_open(NULL, &subworker) != CSW_OK) return 3;
    /* With an argument all tasks are thread-safe, so there is no thread for the others. */
    size_t number_of_types = sizeof types / sizeof *types - (count > 1 ? 1 : 0);
    for (size_t i = 0; i < number_of_types; i += 1)
        csw_task(subworker, &types[i]);
    if (count > 1 && strcmp(arguments[1], "many") == 0)
        csw_task(subworker, &(csw_task_type){CSW_TASK, .name = "many", .function = nothing, .threads = 65});
    return csw_run(subworker);
}
