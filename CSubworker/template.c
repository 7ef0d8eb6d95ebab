#include "template.h"

#include <stdlib.h>
#include <string.h>

/* --- Registered tasks ------------------------------------------------------------------------------------------- */

static csw_task_entry *find_exactly(const csw_tasks *tasks, const char *name) {
    for (size_t i = 0; i < tasks->count; i += 1)
        if (strcmp(tasks->entries[i]->type.name, name) == 0) return tasks->entries[i];
    return NULL;
}

csw_task_entry *csw_tasks_find(const csw_tasks *tasks, const char *method) {
    csw_task_entry *entry = find_exactly(tasks, method);
    return entry != NULL ? entry : find_exactly(tasks, "");
}

static const char *const *copy_labels(csw_arena *arena, const char *const *labels, size_t count) {
    if (labels == NULL) count = 0;
    const char **copies = csw_arena_take(arena, (count + 1) * sizeof *copies);
    for (size_t i = 0; copies != NULL && i < count; i += 1) {
        copies[i] = csw_arena_copy(arena, labels[i], strlen(labels[i]));
        if (copies[i] == NULL) return NULL;
    }
    return copies;
}

static void release_task(csw_task_entry *entry) {
    csw_arena_release(&entry->arena);
    free(entry);
}

csw_status csw_tasks_add(csw_tasks *tasks, const csw_task_type *type) {
    if (find_exactly(tasks, type->name) != NULL) return CSW_EINVAL;
    csw_task_entry *entry = calloc(1, sizeof *entry);
    if (entry == NULL) return CSW_ENOMEM;
    csw_arena *arena = &entry->arena;
    arena->chunk_bytes = 512;
    const char *documentation = type->documentation != NULL ? type->documentation : "";
    entry->type = *type;
    entry->type.name = csw_arena_copy(arena, type->name, strlen(type->name));
    entry->type.documentation = csw_arena_copy(arena, documentation, strlen(documentation));
    entry->type.inputs = copy_labels(arena, type->inputs, type->input_count);
    entry->type.outputs = copy_labels(arena, type->outputs, type->output_count);
    if (type->input_content_types != NULL)
        entry->type.input_content_types = copy_labels(arena, type->input_content_types, type->input_count);
    if (type->output_content_types != NULL)
        entry->type.output_content_types = copy_labels(arena, type->output_content_types, type->output_count);
    csw_task_entry **entries = realloc(tasks->entries, (tasks->count + 1) * sizeof *entries);
    if (entries != NULL) tasks->entries = entries;
    if (entries == NULL || entry->type.name == NULL || entry->type.documentation == NULL ||
        entry->type.inputs == NULL || entry->type.outputs == NULL ||
        (type->input_content_types != NULL && entry->type.input_content_types == NULL) ||
        (type->output_content_types != NULL && entry->type.output_content_types == NULL)) {
        release_task(entry);
        return CSW_ENOMEM;
    }
    tasks->entries[tasks->count++] = entry;
    return CSW_OK;
}

size_t csw_tasks_threads(const csw_tasks *tasks, bool *is_mixed) {
    size_t most = 1;
    *is_mixed = false;
    for (size_t i = 0; i < tasks->count; i += 1) {
        size_t threads = tasks->entries[i]->type.threads;
        if (threads > most) most = threads;
        if (threads <= 1) *is_mixed = true;
    }
    return most;
}

void csw_tasks_release(csw_tasks *tasks) {
    for (size_t i = 0; i < tasks->count; i += 1)
        release_task(tasks->entries[i]);
    free(tasks->entries);
    *tasks = (csw_tasks){0};
}

/* --- Templates -------------------------------------------------------------------------------------------------- */

static csw_table_key id_key(uint32_t id) {
    return (csw_table_key){0, id};
}

static void release_template(void *value) {
    csw_template *self = value;
    csw_arena_release(&self->arena);
    free(self);
}

static const char *copy_text(csw_template *self, csw_bytes from) {
    return csw_arena_copy(&self->arena, from.data, from.size);
}

static bool copy_input_labels(csw_template *self, const csw_list *from) {
    self->input_labels = csw_arena_take(&self->arena, from->count * sizeof *self->input_labels);
    if (self->input_labels == NULL) return false;
    for (uint32_t i = 0; i < from->count; i += 1) {
        self->input_labels[i] = copy_text(self, csw_list_text(from, i));
        if (self->input_labels[i] == NULL) return false;
    }
    self->input_label_count = from->count;
    return true;
}

static bool copy_outputs(csw_template *self, const csw_list *from) {
    self->outputs = csw_arena_take(&self->arena, from->count * sizeof *self->outputs);
    if (self->outputs == NULL) return false;
    for (uint32_t i = 0; i < from->count; i += 1) {
        csw_wire_output output;
        csw_decode_output(from, i, &output); /* what is malformed shows in the reader, once at the end */
        self->outputs[i] = (csw_template_output){
            copy_text(self, output.label), copy_text(self, output.content_type), output.is_directory};
        if (self->outputs[i].label == NULL || self->outputs[i].content_type == NULL) return false;
    }
    self->output_count = from->count;
    return true;
}

csw_template *csw_templates_find(const csw_table *templates, uint32_t id) {
    return csw_table_find(templates, id_key(id));
}

csw_status csw_templates_define(
    csw_table *templates, const csw_tasks *tasks, const csw_list *from, uint32_t i, csw_template **replaced) {
    csw_wire_template wire;
    if (!csw_decode_template(from, i, &wire)) return CSW_EPROTO;
    csw_template *self = calloc(1, sizeof *self);
    if (self == NULL) return CSW_ENOMEM;
    self->arena.chunk_bytes = 512;
    self->id = wire.id;
    self->method = copy_text(self, wire.method);
    self->name = copy_text(self, wire.name);
    self->config = (csw_bytes){copy_text(self, wire.config), wire.config.size};
    self->attributes = (csw_bytes){copy_text(self, wire.attributes), wire.attributes.size};
    self->constant_count = wire.constant_count;
    self->expected_ns = UINT64_MAX;
    bool is_copied = self->method != NULL && self->name != NULL && self->config.data != NULL &&
                     self->attributes.data != NULL && copy_input_labels(self, &wire.input_labels) &&
                     copy_outputs(self, &wire.outputs);
    if (from->reader->error != NULL || !is_copied) {
        release_template(self);
        return from->reader->error != NULL ? CSW_EPROTO : CSW_ENOMEM;
    }
    self->task = csw_tasks_find(tasks, self->method);
    csw_template *old = csw_templates_find(templates, wire.id);
    if (!csw_table_put(templates, id_key(wire.id), self)) {
        release_template(self);
        return CSW_ENOMEM;
    }
    if (old != NULL) {
        old->older = *replaced;
        *replaced = old;
    }
    return CSW_OK;
}

void csw_templates_release_replaced(csw_template **replaced) {
    while (*replaced != NULL) {
        csw_template *older = (*replaced)->older;
        release_template(*replaced);
        *replaced = older;
    }
}

void csw_templates_release(csw_table *templates) {
    csw_table_release(templates, release_template);
}

void csw_template_learn(csw_template *self, uint64_t duration_ns) {
    uint64_t expected = self->expected_ns;
    self->expected_ns = expected == UINT64_MAX ? duration_ns : expected - expected / 8 + duration_ns / 8;
}
