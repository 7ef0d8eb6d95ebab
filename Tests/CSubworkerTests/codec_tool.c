/* Lets the `capnp` tool check the codec: `decode` prints the calls of a message on stdin, `encode` writes results. */
#include "protocol.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static csw_bytes bytes(const char *text) {
    return (csw_bytes){text, strlen(text)};
}

static int decode(void) {
    static uint64_t words[1 << 14];
    static csw_reader reader;
    size_t size = fread(words, 1, sizeof words, stdin);
    const char *error = NULL;
    csw_envelope envelope;
    if (csw_frame_size((const uint8_t *)words, size, sizeof words, &error) != size) return 1;
    csw_reader_open(&reader, (const uint8_t *)words, size);
    if (!csw_decode_envelope(&reader, &envelope) || envelope.kind != CSW_MESSAGE_CALLS) return 1;
    for (uint32_t i = 0; i < envelope.list.count; i += 1) {
        csw_wire_call call;
        if (!csw_decode_call(&envelope.list, i, &call)) return 1;
        printf(
            "slot %u template %u task %u arguments %.*s ticket %u\n", (unsigned)call.slot, (unsigned)call.template_id,
            (unsigned)call.attempt.task, (int)call.arguments.size, (const char *)call.arguments.data,
            (unsigned)call.ticket);
        for (uint32_t k = 0; k < call.inputs.count; k += 1) {
            csw_wire_input input;
            if (!csw_decode_input(&call.inputs, k, &input)) return 1;
            csw_bytes shown = input.location == CSW_LOCATION_PATH ? input.path : input.bytes;
            printf(
                "  object %u size %llu at %d: %.*s\n", (unsigned)input.key.index, (unsigned long long)input.size_bytes,
                (int)input.location, (int)shown.size, shown.data != NULL ? (const char *)shown.data : "");
        }
    }
    return 0;
}

static int encode(void) {
    csw_results results = {0};
    csw_wire_value values[] = {
        {.location = CSW_LOCATION_INLINE, .bytes = bytes("abc"), .content_type = bytes("text")},
        {.location = CSW_LOCATION_PATH, .bytes = bytes("/staging/1"), .is_directory = true},
        {.location = CSW_LOCATION_CACHED, .input = 3},
    };
    csw_wire_result good = {
        .slot = 5, .duration_ns = 1234, .debug = bytes("a line\n"), .outputs = values, .output_count = 3};
    csw_wire_result bad = {
        .slot = 6, .outcome = CSW_OUTCOME_ERROR, .message = bytes("no such word"), .detail = bytes("line 3")};
    csw_wire_result gone = {.slot = 7, .outcome = CSW_OUTCOME_CANCELLED};
    if (!csw_results_add(&results, &good) || !csw_results_add(&results, &bad) || !csw_results_add(&results, &gone))
        return 1;
    csw_results_finish(&results);
    size_t written = fwrite(results.builder.bytes, 8, results.builder.words, stdout);
    size_t expected = results.builder.words;
    csw_builder_release(&results.builder);
    return written == expected ? 0 : 1;
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "decode") == 0) return decode();
    if (count == 2 && strcmp(arguments[1], "encode") == 0) return encode();
    return 2;
}
