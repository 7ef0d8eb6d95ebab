#include "protocol.h"

#include <string.h>

/* Byte offsets, bit offsets and pointer numbers are those that `capnp compile -ocapnp include/subworker.capnp` prints. */

/* --- From the worker -------------------------------------------------------------------------------------------- */

bool csw_decode_envelope(csw_reader *reader, csw_envelope *out) {
    csw_struct root = csw_reader_root(reader);
    *out = (csw_envelope){.kind = CSW_MESSAGE_KIND_COUNT, .descriptor_count = csw_struct_u16(&root, 0)};
    uint16_t kind = csw_struct_u16(&root, 2);
    if (reader->error != NULL) return false;
    if (kind >= CSW_MESSAGE_KIND_COUNT) {
        reader->error = "message of a kind that this version does not know";
        return false;
    }
    out->kind = (csw_message_kind)kind;
    switch (out->kind) {
    case CSW_MESSAGE_WELCOME:
    case CSW_MESSAGE_GRANTED:
        out->body = csw_struct_struct(&root, 0);
        break;
    case CSW_MESSAGE_REFUSED:
        out->refused = csw_struct_text(&root, 0);
        break;
    case CSW_MESSAGE_TEMPLATES:
    case CSW_MESSAGE_CALLS:
    case CSW_MESSAGE_DROP_CACHED:
        out->list = csw_struct_list(&root, 0, CSW_ELEMENT_STRUCT);
        break;
    case CSW_MESSAGE_CANCEL:
        out->list = csw_struct_list(&root, 0, CSW_ELEMENT_U32);
        break;
    case CSW_MESSAGE_PING:
        out->ping = csw_struct_u64(&root, 8);
        break;
    case CSW_MESSAGE_SHUTDOWN:
    case CSW_MESSAGE_KIND_COUNT:
        break;
    }
    return reader->error == NULL;
}

bool csw_decode_welcome(const csw_struct *from, csw_wire_welcome *out) {
    *out = (csw_wire_welcome){
        .protocol_version = csw_struct_u16(from, 0),
        .worker_name = csw_struct_text(from, 0),
        .staging_directory = csw_struct_text(from, 1),
        .inline_bytes_max = csw_struct_u32(from, 4),
        .credit_bytes = csw_struct_u64(from, 8),
        .takes_progress = csw_struct_bool(from, 16),
        .log_level = csw_struct_u8(from, 3),
    };
    return from->reader->error == NULL;
}

bool csw_decode_granted(const csw_struct *from, csw_wire_granted *out) {
    uint16_t kind = csw_struct_u16(from, 4);
    *out = (csw_wire_granted){.id = csw_struct_u32(from, 0), .is_refused = kind == 1, .text = csw_struct_text(from, 0)};
    if (from->reader->error == NULL && kind > 1)
        from->reader->error = "answer to a reserve of a kind that this version does not know";
    if (from->reader->error == NULL && kind == 0 && *(const char *)out->text.data != '/')
        from->reader->error = "granted directory that is no absolute path";
    return from->reader->error == NULL;
}

bool csw_decode_template(const csw_list *from, uint32_t i, csw_wire_template *out) {
    csw_struct element = csw_list_struct(from, i);
    *out = (csw_wire_template){
        .id = csw_struct_u32(&element, 0),
        .method = csw_struct_text(&element, 0),
        .name = csw_struct_text(&element, 1),
        .config = csw_struct_data(&element, 2),
        .input_labels = csw_struct_list(&element, 3, CSW_ELEMENT_POINTER),
        .outputs = csw_struct_list(&element, 4, CSW_ELEMENT_STRUCT),
        .attributes = csw_struct_data(&element, 5),
        .constant_count = csw_struct_u16(&element, 4),
    };
    return from->reader->error == NULL;
}

bool csw_decode_output(const csw_list *from, uint32_t i, csw_wire_output *out) {
    csw_struct element = csw_list_struct(from, i);
    *out = (csw_wire_output){
        .label = csw_struct_text(&element, 0),
        .content_type = csw_struct_text(&element, 1),
        .is_directory = csw_struct_bool(&element, 0),
    };
    return from->reader->error == NULL;
}

bool csw_decode_call(const csw_list *from, uint32_t i, csw_wire_call *out) {
    csw_struct element = csw_list_struct(from, i);
    *out = (csw_wire_call){
        .slot = csw_struct_u32(&element, 0),
        .template_id = csw_struct_u32(&element, 4),
        .attempt =
            {
                .session = csw_struct_u32(&element, 8),
                .task = csw_struct_u32(&element, 12),
                .epoch = csw_struct_u32(&element, 16),
                .attempt = csw_struct_u32(&element, 20),
            },
        .arguments = csw_struct_data(&element, 0),
        .inputs = csw_struct_list(&element, 1, CSW_ELEMENT_STRUCT),
        .array_index = csw_struct_u32(&element, 24),
        .ticket = csw_struct_u32(&element, 28),
    };
    if (from->reader->error == NULL && out->slot >= CSW_SLOT_COUNT) from->reader->error = "call for a slot above 63";
    return from->reader->error == NULL;
}

static csw_key decode_key(const csw_struct *from) {
    return (csw_key){
        csw_struct_u32(from, 0), csw_struct_u32(from, 4), csw_struct_u32(from, 8), csw_struct_u32(from, 12)};
}

bool csw_decode_key(const csw_list *from, uint32_t i, csw_key *out) {
    csw_struct element = csw_list_struct(from, i);
    *out = decode_key(&element);
    return from->reader->error == NULL;
}

bool csw_decode_input(const csw_list *from, uint32_t i, csw_wire_input *out) {
    csw_reader *reader = from->reader;
    csw_struct element = csw_list_struct(from, i);
    csw_struct key = csw_struct_struct(&element, 0);
    uint16_t location = csw_struct_u16(&element, 10);
    *out = (csw_wire_input){
        .key = decode_key(&key),
        .size_bytes = csw_struct_u64(&element, 0),
        .content_type = csw_struct_text(&element, 1),
        .is_directory = csw_struct_bool(&element, 64),
        .keep = csw_struct_bool(&element, 65),
        .attributes = csw_struct_data(&element, 2),
        .location = (csw_location)location,
    };
    if (reader->error == NULL && location >= CSW_LOCATION_COUNT)
        reader->error = "input at a kind of place that this version does not know";
    if (reader->error != NULL) return false;
    switch (out->location) {
    case CSW_LOCATION_INLINE:
        out->bytes = csw_struct_data(&element, 3);
        if (reader->error == NULL && (out->is_directory || out->bytes.size != out->size_bytes))
            reader->error = "inline input that is not as long as its size says";
        break;
    case CSW_LOCATION_DESCRIPTOR:
        out->descriptor = csw_struct_u16(&element, 12);
        break;
    case CSW_LOCATION_PATH:
        out->path = csw_struct_text(&element, 3);
        if (reader->error == NULL && *(const char *)out->path.data != '/')
            reader->error = "input whose path is not absolute";
        break;
    case CSW_LOCATION_CACHED:
    case CSW_LOCATION_COUNT:
        break;
    }
    return reader->error == NULL;
}

/* --- To the worker ---------------------------------------------------------------------------------------------- */

enum { to_worker_data_words = 2, to_worker_pointers = 1, to_worker_words = 2 + 3 };
enum { to_worker_register, to_worker_results, to_worker_pong, to_worker_reserve, to_worker_progress };

static csw_place start_to_worker(csw_builder *builder, uint16_t kind) {
    csw_builder_start(builder, to_worker_data_words, to_worker_pointers);
    csw_put_u16(builder, CSW_ROOT_PLACE, 2, kind);
    return CSW_ROOT_PLACE + to_worker_data_words;
}

static size_t string_words(const char *string) {
    return CSW_BYTES_WORDS(strlen(string));
}

static void put_string(csw_builder *builder, csw_place place, const char *string) {
    csw_put_text(builder, place, string, strlen(string));
}

static void put_labels(csw_builder *builder, csw_place place, const char *const *labels, uint32_t count) {
    if (count == 0 || labels == NULL) return;
    csw_place list = csw_put_pointers(builder, place, count);
    for (uint32_t i = 0; i < count; i += 1)
        put_string(builder, list + i, labels[i]);
}

static size_t labels_words(const char *const *labels, uint32_t count) {
    size_t words = 0;
    for (uint32_t i = 0; labels != NULL && i < count; i += 1)
        words += 1 + string_words(labels[i]);
    return words;
}

enum { task_pointers = 6 };

static size_t task_words(const csw_wire_task *task) {
    return task_pointers + string_words(task->name) + string_words(task->documentation) +
           labels_words(task->inputs, task->input_count) + labels_words(task->outputs, task->output_count) +
           labels_words(task->input_content_types, task->input_count) +
           labels_words(task->output_content_types, task->output_count);
}

bool csw_encode_register(csw_builder *builder, const csw_wire_register *from) {
    enum { data_words = 1, pointers = 4 };
    size_t words = to_worker_words + data_words + pointers + 2 + string_words(from->name) + string_words(from->library);
    for (uint32_t i = 0; i < from->task_count; i += 1)
        words += task_words(&from->tasks[i]);
    builder->words = 0;
    if (!csw_builder_reserve(builder, words)) return false;
    csw_place self = csw_put_struct(builder, start_to_worker(builder, to_worker_register), data_words, pointers);
    csw_place pointer = self + data_words;
    csw_put_u16(builder, self, 0, CSW_PROTOCOL_VERSION);
    put_string(builder, pointer, from->name);
    csw_place capabilities = csw_put_struct(builder, pointer + 2, 1, 0);
    uint8_t flags = (uint8_t)(from->has_descriptors | from->has_control_page << 1 | from->has_caching << 2);
    csw_put_u8(builder, capabilities, 0, flags);
    csw_put_u16(builder, capabilities, 2, from->threads);
    put_string(builder, pointer + 3, from->library);
    csw_place tasks = csw_put_structs(builder, pointer + 1, from->task_count, 0, task_pointers);
    for (uint32_t i = 0; i < from->task_count; i += 1) {
        const csw_wire_task *task = &from->tasks[i];
        csw_place place = tasks + i * task_pointers;
        put_string(builder, place, task->name);
        put_string(builder, place + 1, task->documentation);
        put_labels(builder, place + 2, task->inputs, task->input_count);
        put_labels(builder, place + 3, task->outputs, task->output_count);
        put_labels(builder, place + 4, task->input_content_types, task->input_count);
        put_labels(builder, place + 5, task->output_content_types, task->output_count);
    }
    csw_builder_finish(builder);
    return true;
}

bool csw_encode_pong(csw_builder *builder, uint64_t ping) {
    builder->words = 0;
    if (!csw_builder_reserve(builder, to_worker_words)) return false;
    start_to_worker(builder, to_worker_pong);
    csw_put_u64(builder, CSW_ROOT_PLACE, 8, ping);
    csw_builder_finish(builder);
    return true;
}

bool csw_encode_reserve(csw_builder *builder, uint32_t slot, uint32_t id, uint64_t size_bytes) {
    enum { data_words = 2 };
    builder->words = 0;
    if (!csw_builder_reserve(builder, to_worker_words + data_words)) return false;
    csw_place self = csw_put_struct(builder, start_to_worker(builder, to_worker_reserve), data_words, 0);
    csw_put_u32(builder, self, 0, slot);
    csw_put_u32(builder, self, 4, id);
    csw_put_u64(builder, self, 8, size_bytes);
    csw_builder_finish(builder);
    return true;
}

bool csw_encode_progress(csw_builder *builder, uint32_t slot, uint32_t millionths, csw_bytes text) {
    enum { data_words = 1, pointers = 1 };
    builder->words = 0;
    if (!csw_builder_reserve(builder, to_worker_words + 1 + data_words + pointers + CSW_BYTES_WORDS(text.size)))
        return false;
    csw_place pointer = start_to_worker(builder, to_worker_progress);
    csw_place self = csw_put_structs(builder, pointer, 1, data_words, pointers);
    csw_put_u32(builder, self, 0, slot);
    csw_put_u32(builder, self, 4, millionths);
    csw_put_text(builder, self + data_words, text.data, text.size);
    csw_builder_finish(builder);
    return true;
}

enum { result_data_words = 2, result_pointers = 3, result_words = 5 };
enum { value_data_words = 1, value_pointers = 3, value_words = 4 };
enum { error_pointers = 2 };
enum { value_inline = 0, value_path = 1, value_same_as_input = 2 };

static void put_value(csw_builder *builder, csw_place place, const csw_wire_value *value) {
    csw_place pointer = place + value_data_words;
    csw_put_u8(builder, place, 0, value->is_directory ? 1 : 0);
    csw_put_text(builder, pointer, value->content_type.data, value->content_type.size);
    csw_put_bytes(builder, pointer + 1, value->attributes.data, value->attributes.size);
    switch (value->location) {
    case CSW_LOCATION_INLINE:
        csw_put_u16(builder, place, 2, value_inline);
        csw_put_bytes(builder, pointer + 2, value->bytes.data, value->bytes.size);
        break;
    case CSW_LOCATION_PATH:
        csw_put_u16(builder, place, 2, value_path);
        csw_put_text(builder, pointer + 2, value->bytes.data, value->bytes.size);
        break;
    case CSW_LOCATION_CACHED:
        csw_put_u16(builder, place, 2, value_same_as_input);
        csw_put_u16(builder, place, 4, value->input);
        break;
    case CSW_LOCATION_DESCRIPTOR:
    case CSW_LOCATION_COUNT:
        break;
    }
}

static size_t words_of(const csw_wire_result *result) {
    size_t words = CSW_BYTES_WORDS(result->debug.size) + CSW_BYTES_WORDS(result->attributes.size) +
                   CSW_BYTES_WORDS(result->message.size) + CSW_BYTES_WORDS(result->detail.size) + error_pointers + 1;
    for (uint32_t i = 0; i < result->output_count; i += 1) {
        const csw_wire_value *value = &result->outputs[i];
        words += value_words + CSW_BYTES_WORDS(value->bytes.size) + CSW_BYTES_WORDS(value->content_type.size) +
                 CSW_BYTES_WORDS(value->attributes.size);
    }
    return words;
}

/* The pointers to a result's parts are written by csw_results_finish(); until then they lie behind one scratch word. */
bool csw_results_add(csw_results *results, const csw_wire_result *result) {
    csw_builder *builder = &results->builder;
    const size_t list_words = 1 + CSW_SLOT_COUNT * result_words, scratch_words = 1;
    if (results->count == CSW_SLOT_COUNT) return false;
    if (results->count == 0) builder->words = 0;
    if (!csw_builder_reserve(builder, to_worker_words + words_of(result) + scratch_words + list_words)) return false;
    if (results->count == 0) start_to_worker(builder, to_worker_results);
    csw_place scratch = csw_builder_take(builder, scratch_words);
    uint32_t i = results->count++;
    results->pending[i].words[0] = result->slot | (uint64_t)result->outcome << 32;
    results->pending[i].words[1] = result->duration_ns;
    results->pending[i].debug = csw_put_text(builder, scratch, result->debug.data, result->debug.size);
    results->pending[i].debug_size = (uint32_t)result->debug.size;
    results->pending[i].attributes = csw_put_bytes(builder, scratch, result->attributes.data, result->attributes.size);
    results->pending[i].attributes_size = (uint32_t)result->attributes.size;
    results->pending[i].body = 0;
    results->pending[i].body_count = 0;
    if (result->outcome == CSW_OUTCOME_OUTPUTS && result->output_count > 0) {
        csw_place list = csw_put_structs(builder, scratch, result->output_count, value_data_words, value_pointers);
        for (uint32_t k = 0; k < result->output_count; k += 1)
            put_value(builder, list + k * value_words, &result->outputs[k]);
        results->pending[i].body = list;
        results->pending[i].body_count = result->output_count;
    } else if (result->outcome == CSW_OUTCOME_ERROR) {
        csw_place error = csw_put_struct(builder, scratch, 0, error_pointers);
        csw_put_text(builder, error, result->message.data, result->message.size);
        csw_put_text(builder, error + 1, result->detail.data, result->detail.size);
        results->pending[i].body = error;
    }
    csw_put_u64(builder, scratch, 0, 0);
    return true;
}

void csw_results_finish(csw_results *results) {
    csw_builder *builder = &results->builder;
    csw_place list = csw_put_structs(
        builder, CSW_ROOT_PLACE + to_worker_data_words, results->count, result_data_words, result_pointers);
    for (uint32_t i = 0; i < results->count; i += 1) {
        csw_place place = list + i * result_words, pointer = place + result_data_words;
        csw_put_u64(builder, place, 0, results->pending[i].words[0]);
        csw_put_u64(builder, place, 8, results->pending[i].words[1]);
        if (results->pending[i].debug_size != 0)
            csw_point_bytes(builder, pointer, results->pending[i].debug, (size_t)results->pending[i].debug_size + 1);
        if (results->pending[i].attributes_size != 0)
            csw_point_bytes(builder, pointer + 1, results->pending[i].attributes, results->pending[i].attributes_size);
        if (results->pending[i].body_count != 0)
            csw_point_structs(
                builder, pointer + 2, results->pending[i].body, results->pending[i].body_count, value_words);
        else if (results->pending[i].body != 0)
            csw_point_struct(builder, pointer + 2, results->pending[i].body, 0, error_pointers);
    }
    csw_builder_finish(builder);
}

void csw_results_clear(csw_results *results) {
    results->count = 0;
    results->builder.words = 0;
    /* One huge result must not keep its memory for ever. */
    if (results->builder.capacity > (4u << 20) / 8) csw_builder_release(&results->builder);
}
