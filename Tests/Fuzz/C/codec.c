/* What a worker sends, as the C library reads it: any bytes at all must end in values or in an error. */
#include "protocol.h"

#include <stdlib.h>
#include <string.h>

/* Everything that was decoded is read once, so that a sanitizer sees a pointer that leads nowhere. */
static volatile uint64_t sink;

static void touch(csw_bytes bytes) {
    const uint8_t *data = bytes.data;
    for (size_t i = 0; i < bytes.size; i += 1)
        sink += data[i];
}

/* A Text has a NUL behind it, which is not counted. */
static void touch_text(csw_bytes bytes) {
    touch(bytes);
    if (bytes.data != NULL && ((const char *)bytes.data)[bytes.size] != 0) abort();
}

static void read_templates(const csw_list *list) {
    for (uint32_t i = 0; i < list->count; i += 1) {
        csw_wire_template item;
        if (!csw_decode_template(list, i, &item)) return;
        touch_text(item.method);
        touch_text(item.name);
        touch(item.config);
        touch(item.attributes);
        for (uint32_t k = 0; k < item.input_labels.count && list->reader->error == NULL; k += 1)
            touch_text(csw_list_text(&item.input_labels, k));
        for (uint32_t k = 0; k < item.outputs.count; k += 1) {
            csw_wire_output output;
            if (!csw_decode_output(&item.outputs, k, &output)) return;
            touch_text(output.label);
            touch_text(output.content_type);
        }
    }
}

static void read_calls(const csw_list *list) {
    for (uint32_t i = 0; i < list->count; i += 1) {
        csw_wire_call call;
        if (!csw_decode_call(list, i, &call)) return;
        touch(call.arguments);
        for (uint32_t k = 0; k < call.inputs.count; k += 1) {
            csw_wire_input input;
            if (!csw_decode_input(&call.inputs, k, &input)) return;
            touch_text(input.content_type);
            touch(input.attributes);
            if (input.location == CSW_LOCATION_INLINE) touch(input.bytes);
            if (input.location == CSW_LOCATION_PATH) touch_text(input.path);
        }
    }
}

static void read_message(const uint8_t *bytes, size_t size) {
    static csw_reader reader;
    csw_envelope envelope;
    csw_reader_open(&reader, bytes, size);
    if (!csw_decode_envelope(&reader, &envelope)) return;
    switch (envelope.kind) {
    case CSW_MESSAGE_WELCOME: {
        csw_wire_welcome welcome;
        if (!csw_decode_welcome(&envelope.body, &welcome)) return;
        touch_text(welcome.worker_name);
        touch_text(welcome.staging_directory);
        break;
    }
    case CSW_MESSAGE_REFUSED:
        touch_text(envelope.refused);
        break;
    case CSW_MESSAGE_TEMPLATES:
        read_templates(&envelope.list);
        break;
    case CSW_MESSAGE_CALLS:
        read_calls(&envelope.list);
        break;
    case CSW_MESSAGE_DROP_CACHED:
        for (uint32_t i = 0; i < envelope.list.count; i += 1) {
            csw_key key;
            if (!csw_decode_key(&envelope.list, i, &key)) return;
            sink += key.index;
        }
        break;
    case CSW_MESSAGE_CANCEL:
        for (uint32_t i = 0; i < envelope.list.count && reader.error == NULL; i += 1)
            sink += csw_list_u32(&envelope.list, i);
        break;
    case CSW_MESSAGE_GRANTED: {
        csw_wire_granted granted;
        if (!csw_decode_granted(&envelope.body, &granted)) return;
        touch_text(granted.text);
        break;
    }
    case CSW_MESSAGE_PING:
    case CSW_MESSAGE_SHUTDOWN:
    case CSW_MESSAGE_KIND_COUNT:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* In memory of exactly its size, aligned as the library's own buffer is. */
    uint64_t *words = malloc(size == 0 ? 1 : size);
    if (words == NULL) return 0;
    if (size != 0) memcpy(words, data, size);
    const char *error = NULL;
    size_t length = csw_frame_size((const uint8_t *)words, size, 64 << 20, &error);
    if (error == NULL && length != 0 && length <= size) read_message((const uint8_t *)words, length);
    free(words);
    return 0;
}
