/* A subworker "wordcount" with one task, "count": a sorted word list in, one word per line, and the word counts out, as
 * `uniq -c` would print them but without the padding: "3 licence\n".
 *
 * It goes over the mapped input once and keeps nothing but its output, so the list may be larger than memory. */
#include <csubworker.h>

#include <stdio.h>
#include <string.h>

/* The output, in a buffer of the object itself that grows. */
typedef struct counts {
    csw_call *call;
    char *bytes;
    size_t size;
    size_t capacity;
} counts;

static csw_status add(counts *counts, size_t count, const char *word, size_t word_size) {
    char number[24];
    size_t number_size = (size_t)snprintf(number, sizeof number, "%zu ", count);
    size_t needed = counts->size + number_size + word_size + 1;
    if (needed > counts->capacity) {
        size_t capacity = needed > counts->capacity * 2 ? needed : counts->capacity * 2;
        void *bytes;
        csw_status status = csw_output_resize(counts->call, 0, capacity, &bytes);
        if (status != CSW_OK) return status;
        counts->bytes = bytes;
        counts->capacity = capacity;
    }
    memcpy(counts->bytes + counts->size, number, number_size);
    memcpy(counts->bytes + counts->size + number_size, word, word_size);
    counts->bytes[needed - 1] = '\n';
    counts->size = needed;
    return CSW_OK;
}

/* The end of the line that begins at `line`: its newline, or the end of the text. */
static const char *line_end(const char *line, const char *end) {
    const char *newline = memchr(line, '\n', (size_t)(end - line));
    return newline != NULL ? newline : end;
}

static csw_status count_words(csw_call *call, void *context) {
    (void)context;
    csw_bytes words;
    csw_status status = csw_input_bytes(call, 0, &words);
    if (status != CSW_OK) return status;
    counts counts = {.call = call, .capacity = 4096};
    void *bytes;
    status = csw_output_buffer(call, 0, counts.capacity, &bytes);
    if (status != CSW_OK) return status;
    counts.bytes = bytes;

    const char *line = words.data, *end = line + words.size;
    while (line != end && status == CSW_OK) {
        const char *word = line;
        size_t word_size = (size_t)(line_end(line, end) - line), count = 0;
        while (line != end && (size_t)(line_end(line, end) - line) == word_size && memcmp(line, word, word_size) == 0) {
            line += word_size;
            if (line != end) line += 1;
            count += 1;
        }
        if (csw_cancelled(call)) return CSW_ECANCELLED;
        status = add(&counts, count, word, word_size);
    }
    return status == CSW_OK ? csw_output_resize(call, 0, counts.size, NULL) : status;
}

int main(void) {
    static const char *const inputs[] = {"words"}, *const outputs[] = {"counts"};
    const csw_task_type task = {
        CSW_TASK,          .name = "count",         .documentation = "Counts equal lines that follow each other.",
        .inputs = inputs,  .input_count = 1,        .outputs = outputs,
        .output_count = 1, .function = count_words,
    };
    csw_subworker *subworker;
    csw_open(NULL, &subworker);
    csw_task(subworker, &task);
    return csw_run(subworker);
}
