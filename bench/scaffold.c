/* What the C library adds to a call: a host sends batches of calls, two in flight, to a subworker over the library, and to a
 * bare loop that reads and writes messages of the same bytes. The host is the same for both, and the bare loop answers with
 * what the library answered.
 *
 * What counts is measured with both processes on one CPU, where the time is all that both do, system calls and switches
 * included. On two CPUs it depends as much on who falls asleep when: that is shown too.
 *
 *   bench/scaffold [BATCHES [CALLS]]       default: 10000 batches of 32 calls */
#define _GNU_SOURCE
#include "capnp_builder.h"

#include <csubworker.h>

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { slots = 64, template_id = 7, message_bytes_max = 1 << 20, rounds = 9, budget_ns = 300 };

/* One slot of the control page; the first word is the state. */
typedef struct slot {
    _Atomic uint32_t state;
    uint32_t rest[15];
} slot;

static void fail(const char *what) {
    fprintf(stderr, "scaffold: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* --- The two that answer ---------------------------------------------------------------------------------------- */

static csw_status increment(csw_call *call, void *context) {
    (void)context;
    csw_bytes input;
    uint64_t value;
    csw_status status = csw_input_bytes(call, 0, &input);
    if (status != CSW_OK) return status;
    if (input.size != sizeof value) return csw_fail(call, "the input has %zu bytes", input.size);
    memcpy(&value, input.data, sizeof value);
    value += 1;
    return csw_output_bytes(call, 0, &value, sizeof value);
}

static int run_library(void) {
    csw_subworker *subworker;
    csw_open(NULL, &subworker);
    csw_task(subworker, &(csw_task_type){CSW_TASK, .name = "increment", .function = increment});
    return csw_run(subworker);
}

static void write_all(int socket, const void *data, size_t size) {
    while (size != 0) {
        ssize_t count = send(socket, data, size, MSG_NOSIGNAL);
        if (count < 0) fail("send");
        data = (const char *)data + count;
        size -= (size_t)count;
    }
}

/* Answers each `request_bytes` with the same bytes. */
static int run_bare(int socket, size_t request_bytes, const void *answer, size_t answer_bytes) {
    static char bytes[message_bytes_max];
    size_t have = 0;
    for (;;) {
        ssize_t count = recv(socket, bytes + have, sizeof bytes - have, 0);
        if (count <= 0) return 0;
        have += (size_t)count;
        while (have >= request_bytes) {
            write_all(socket, answer, answer_bytes);
            have -= request_bytes;
            memmove(bytes, bytes + request_bytes, have);
        }
    }
}

/* --- Messages of the worker; places as `capnp compile -ocapnp include/subworker.capnp` prints them ----------------- */

enum { kind_welcome = 0, kind_templates = 2, kind_calls = 3 };

static csw_place start(csw_builder *builder, uint16_t kind) {
    builder->words = 0;
    if (!csw_builder_reserve(builder, message_bytes_max / 8)) fail("no memory");
    csw_builder_start(builder, 2, 1);
    csw_put_u16(builder, CSW_ROOT_PLACE, 2, kind);
    return CSW_ROOT_PLACE + 2;
}

static void send_message(int socket, csw_builder *builder) {
    csw_builder_finish(builder);
    write_all(socket, builder->bytes, builder->words * 8);
}

static void send_welcome(int socket) {
    csw_builder builder = {0};
    csw_place self = csw_put_struct(&builder, start(&builder, kind_welcome), 2, 2);
    csw_put_u16(&builder, self, 0, 1);
    csw_put_u32(&builder, self, 4, 64 << 10);
    csw_put_text(&builder, self + 2, "bench", 5);
    csw_put_text(&builder, self + 3, "/tmp", 4);
    send_message(socket, &builder);
    csw_place item = csw_put_structs(&builder, start(&builder, kind_templates), 1, 1, 6);
    csw_put_u32(&builder, item, 0, template_id);
    csw_put_text(&builder, item + 1, "increment", 9);
    csw_put_structs(&builder, item + 1 + 4, 1, 1, 2);
    send_message(socket, &builder);
    csw_builder_release(&builder);
}

static void build_calls(csw_builder *builder, uint32_t first, uint32_t count) {
    const uint64_t value = 41;
    csw_place calls = csw_put_structs(builder, start(builder, kind_calls), count, 4, 2);
    for (uint32_t i = 0; i < count; i += 1) {
        csw_place call = calls + i * 6;
        csw_put_u32(builder, call, 0, first + i);
        csw_put_u32(builder, call, 4, template_id);
        csw_place input = csw_put_structs(builder, call + 4 + 1, 1, 2, 4);
        csw_put_struct(builder, input + 2, 2, 0);
        csw_put_u64(builder, input, 0, sizeof value);
        csw_put_bytes(builder, input + 2 + 3, &value, sizeof value);
    }
    csw_builder_finish(builder);
}

/* --- The host --------------------------------------------------------------------------------------------------- */

typedef struct run {
    int socket;
    pid_t child;
    slot *page;
    char bytes[message_bytes_max];
    size_t begin, end;
} run;

static run *start_run(const char *program, size_t request_bytes, const void *answer, size_t answer_bytes) {
    run *self = calloc(1, sizeof *self);
    int ends[2];
    if (self == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) fail("socketpair");
    int page = memfd_create("page", 0);
    if (page < 0 || ftruncate(page, slots * sizeof(slot)) != 0) fail("memfd_create");
    self->page = mmap(NULL, slots * sizeof(slot), PROT_READ | PROT_WRITE, MAP_SHARED, page, 0);
    self->socket = ends[0];
    self->child = fork();
    if (self->child == 0) {
        close(ends[0]);
        if (answer != NULL) _exit(run_bare(ends[1], request_bytes, answer, answer_bytes));
        char text[16];
        snprintf(text, sizeof text, "%d", ends[1]);
        setenv("RAIN_SUBWORKER_SOCKET", text, 1);
        snprintf(text, sizeof text, "%d", page);
        setenv("RAIN_CONTROL_PAGE", text, 1);
        setenv("RAIN_SUBWORKER_NAME", "bench", 1);
        execl(program, program, "--subworker", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    close(page);
    return self;
}

/* The next message: its bytes, until the next call. */
static const uint8_t *receive(run *self, size_t *size) {
    for (;;) {
        uint32_t head[2];
        size_t have = self->end - self->begin;
        if (have >= 8) {
            memcpy(head, self->bytes + self->begin, 8);
            *size = 8 + (size_t)head[1] * 8;
            if (have >= *size) {
                const uint8_t *message = (const uint8_t *)self->bytes + self->begin;
                self->begin += *size;
                return message;
            }
        }
        if (self->begin != 0) memmove(self->bytes, self->bytes + self->begin, have);
        self->begin = 0;
        self->end = have;
        ssize_t count = recv(self->socket, self->bytes + self->end, sizeof self->bytes - self->end, 0);
        if (count <= 0) fail("the other side is gone");
        self->end += (size_t)count;
    }
}

/* How many results a message has: the root's one pointer is behind two words of data. */
static uint32_t results_in(const uint8_t *message) {
    uint64_t pointer, tag;
    memcpy(&pointer, message + 8 + 8 + 16, 8);
    int32_t offset = (int32_t)(uint32_t)pointer >> 2;
    memcpy(&tag, message + 8 + 8 + 16 + 8 + (ptrdiff_t)offset * 8, 8);
    return (uint32_t)tag >> 2;
}

static void queue(run *self, uint32_t first, uint32_t count) {
    for (uint32_t i = 0; i < count; i += 1)
        self->page[first + i].state = 1;
}

/* Seconds of the whole, and of the other process's CPU. */
static double measure(run *self, uint32_t batches, uint32_t calls, csw_builder requests[2], double *cpu) {
    double begun = now();
    uint64_t sent = 0, answered = 0;
    while (answered < (uint64_t)batches * calls) {
        /* A batch takes the slots of the one before the last: that must be answered as a whole, in however many messages. */
        while (sent < batches && (sent + 1) * calls <= answered + 2 * (uint64_t)calls) {
            queue(self, sent % 2 * calls, calls);
            write_all(self->socket, requests[sent % 2].bytes, requests[sent % 2].words * 8);
            sent += 1;
        }
        size_t size;
        answered += results_in(receive(self, &size));
    }
    double seconds = now() - begun;
    close(self->socket);
    int status;
    struct rusage usage;
    if (wait4(self->child, &status, 0, &usage) != self->child || status != 0) fail("the other side failed");
    *cpu = (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec * 1e-6 + (double)usage.ru_stime.tv_sec +
           (double)usage.ru_stime.tv_usec * 1e-6;
    munmap(self->page, slots * sizeof(slot));
    free(self);
    return seconds;
}

static run *start_library(const char *program) {
    run *self = start_run(program, 0, NULL, 0);
    size_t size;
    receive(self, &size); /* its registration */
    send_welcome(self->socket);
    return self;
}

/* --- The comparison --------------------------------------------------------------------------------------------- */

/* ns a call; each the median of all rounds. */
typedef struct compared {
    double bare, library, added, added_cpu;
} compared;

static int by_size(const void *a, const void *b) {
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

static double median(double values[rounds]) {
    qsort(values, rounds, sizeof *values, by_size);
    return values[rounds / 2];
}

/* By turns on the same CPUs, so that what else the machine does meets both. */
static void compare(
    const char *program, const cpu_set_t *cpus, uint32_t batches, uint32_t calls, csw_builder requests[2],
    const void *answer, size_t answer_bytes, compared *out) {
    double bare[rounds], library[rounds], added[rounds], added_cpu[rounds];
    double each = 1e9 / ((double)batches * calls);
    if (sched_setaffinity(0, sizeof *cpus, cpus) != 0) fail("sched_setaffinity");
    for (int round = 0; round < rounds; round += 1) {
        double bare_cpu, library_cpu;
        bare[round] =
            each *
            measure(start_run(NULL, requests[0].words * 8, answer, answer_bytes), batches, calls, requests, &bare_cpu);
        library[round] = each * measure(start_library(program), batches, calls, requests, &library_cpu);
        added[round] = library[round] - bare[round];
        added_cpu[round] = each * (library_cpu - bare_cpu);
    }
    *out = (compared){median(bare), median(library), median(added), median(added_cpu)};
}

static void print_compared(const char *where, const compared *from) {
    printf("%-10s %12.0f %11.0f %11.0f %11.0f\n", where, from->bare, from->library, from->added, from->added_cpu);
}

static int last_of(const cpu_set_t *cpus) {
    int last = CPU_SETSIZE - 1;
    while (last > 0 && !CPU_ISSET(last, cpus))
        last -= 1;
    return last;
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "--subworker") == 0) return run_library();
    uint32_t batches = count > 1 ? (uint32_t)strtoul(arguments[1], NULL, 10) : 10000;
    uint32_t calls = count > 2 ? (uint32_t)strtoul(arguments[2], NULL, 10) : 32;
    if (batches == 0 || calls == 0 || calls > slots / 2) {
        fputs("usage: bench/scaffold [BATCHES [CALLS of 1 to 32]]\n", stderr);
        return 2;
    }
    csw_builder requests[2] = {{0}, {0}};
    build_calls(&requests[0], 0, calls);
    build_calls(&requests[1], calls, calls);
    /* What the library answers, all results in one message: that is what the bare loop sends. */
    static char answer[message_bytes_max];
    size_t answer_bytes = 0;
    for (int tries = 0; answer_bytes == 0 && tries < 100; tries += 1) {
        run *self = start_library(arguments[0]);
        size_t size;
        for (int round = 0; round < 10; round += 1) {
            queue(self, 0, calls);
            write_all(self->socket, requests[0].bytes, requests[0].words * 8);
            for (uint32_t answered = 0; answered < calls;) {
                const uint8_t *message = receive(self, &size);
                uint32_t results = results_in(message);
                if (results == calls) {
                    memcpy(answer, message, size);
                    answer_bytes = size;
                }
                answered += results;
            }
        }
        double cpu;
        measure(self, 0, calls, requests, &cpu);
    }
    if (answer_bytes == 0) fail("no message with all results");
    printf(
        "%u batches of %u calls, 2 in flight; %zu bytes to, %zu back\n", (unsigned)batches, (unsigned)calls,
        requests[0].words * 8, answer_bytes);
    compared one_cpu, two_cpus;
    cpu_set_t all, one;
    if (sched_getaffinity(0, sizeof all, &all) != 0) fail("sched_getaffinity");
    CPU_ZERO(&one);
    CPU_SET(last_of(&all), &one);
    compare(arguments[0], &all, batches, calls, requests, answer, answer_bytes, &two_cpus);
    compare(arguments[0], &one, batches, calls, requests, answer, answer_bytes, &one_cpu);
    printf("ns a call     bare loop  csubworker       added   added CPU of the side that answers\n");
    print_compared("two CPUs", &two_cpus);
    print_compared("one CPU", &one_cpu);
    printf("budget: %d ns added on one CPU\n", budget_ns);
    csw_builder_release(&requests[0]);
    csw_builder_release(&requests[1]);
    return one_cpu.added <= budget_ns ? 0 : 1;
}
