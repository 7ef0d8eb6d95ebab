/* Makes objects and reads them, and says when: what it costs to hand data from one task to another.
 *
 *   hand                  a subworker
 *   hand memcpy BYTES     GB/s of plain memcpy, of as many bytes from warm memory to warm memory */
#include <csubworker.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { page_bytes = 4096 };

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* As many bytes as the arguments say, all of them written; the first words are this process and the time at the end. */
static csw_status make(csw_call *call, void *context) {
    (void)context;
    void *data;
    csw_bytes text = csw_call_arguments(call);
    char number[24];
    snprintf(number, sizeof number, "%.*s", (int)text.size, (const char *)text.data);
    size_t size = strtoull(number, NULL, 10);
    if (size < 2 * sizeof(uint64_t)) return csw_fail(call, "an object must have 16 bytes or more");
    csw_status status = csw_output_buffer(call, 0, size, &data);
    if (status != CSW_OK) return status;
    memset(data, 1, size);
    uint64_t *words = data;
    words[0] = (uint64_t)getpid();
    words[1] = now_ns();
    return CSW_OK;
}

/* Reads every byte of the first input. The output: its first two words, this process, the times at which the first byte,
 * that of the last page and all were read, and the sum of its words but the first two. */
static csw_status take(csw_call *call, void *context) {
    (void)context;
    csw_bytes input;
    csw_status status = csw_input_bytes(call, 0, &input);
    if (status != CSW_OK) return status;
    if (input.size < 2 * sizeof(uint64_t)) return csw_fail(call, "the input has %zu bytes", input.size);
    const volatile uint8_t *bytes = input.data;
    (void)bytes[0];
    uint64_t first = now_ns();
    (void)bytes[(input.size - 1) / page_bytes * page_bytes];
    uint64_t last = now_ns();
    const uint64_t *words = input.data;
    uint64_t sum = 0;
    for (size_t i = 2; i < input.size / sizeof *words; i += 1)
        sum += words[i];
    uint64_t output[] = {words[0], words[1], (uint64_t)getpid(), first, last, now_ns(), sum};
    return csw_output_bytes(call, 0, output, sizeof output);
}

static int measure_memcpy(size_t size) {
    char *from = malloc(size), *to = malloc(size);
    if (from == NULL || to == NULL) {
        perror("hand");
        return 1;
    }
    memset(from, 1, size);
    memset(to, 2, size);
    uint64_t begun = now_ns(), now = begun, copies = 0;
    while (now - begun < 100000000) {
        for (size_t done = 0; done < 1 << 20; done += size) {
            memcpy(to, from, size);
            __asm__ volatile("" : : "r"(to) : "memory");
            copies += 1;
        }
        now = now_ns();
    }
    printf("%.3f\n", (double)copies * (double)size / (double)(now - begun));
    free(from);
    free(to);
    return 0;
}

int main(int count, char **arguments) {
    if (count == 3 && strcmp(arguments[1], "memcpy") == 0) return measure_memcpy(strtoull(arguments[2], NULL, 10));
    csw_subworker *subworker = NULL;
    if (csw_open(NULL, &subworker) != CSW_OK) return 1;
    csw_task(subworker, &(csw_task_type){CSW_TASK, .name = "make", .function = make});
    csw_task(subworker, &(csw_task_type){CSW_TASK, .name = "take", .function = take});
    return csw_run(subworker);
}
