/* What calls share: copies of the worker's templates, by number, and the tasks that are registered for them. */
#ifndef CSW_TEMPLATE_H
#define CSW_TEMPLATE_H

#include "arena.h"
#include "protocol.h"
#include "table.h"

/* A registered task; its strings are owned. */
typedef struct csw_task_entry {
    csw_task_type type;
    size_t running_count; /* used by a pool */
    csw_arena arena;
} csw_task_entry;

typedef struct csw_tasks {
    csw_task_entry **entries;
    size_t count;
} csw_tasks;

typedef struct csw_template_output {
    const char *label;
    const char *content_type;
    bool is_directory;
} csw_template_output;

typedef struct csw_template {
    uint32_t id;
    csw_task_entry *task; /* NULL: none is registered for it */
    const char *method;
    const char *name;
    csw_bytes config;
    csw_bytes attributes;
    const char **input_labels;
    uint32_t input_label_count;
    csw_template_output *outputs;
    uint32_t output_count;
    uint16_t constant_count;
    uint64_t expected_ns;       /* how long a call takes, learned; UINT64_MAX before the first */
    csw_arena arena;            /* of all the above */
    struct csw_template *older; /* in a list of those that were replaced */
} csw_template;

/* The task for a method: the one of that name, or the one that takes every name. */
csw_task_entry *csw_tasks_find(const csw_tasks *tasks, const char *method);
/* CSW_EINVAL: the name is taken. */
csw_status csw_tasks_add(csw_tasks *tasks, const csw_task_type *type);
void csw_tasks_release(csw_tasks *tasks);

csw_template *csw_templates_find(const csw_table *templates, uint32_t id);
/* The largest number of calls at once that a task allows, at least 1; and whether a task allows only one. */
size_t csw_tasks_threads(const csw_tasks *tasks, bool *is_mixed);

/* Copies template `i` of a message. CSW_EPROTO: the reader has the reason.
 *   replaced   receives the one that had the number before, in front of those that are there */
csw_status csw_templates_define(
    csw_table *templates, const csw_tasks *tasks, const csw_list *from, uint32_t i, csw_template **replaced);
void csw_templates_release(csw_table *templates);
/* Releases a list of replaced ones, of which no call is open, and empties it. */
void csw_templates_release_replaced(csw_template **replaced);

/* Learns from a call that took this long. */
void csw_template_learn(csw_template *self, uint64_t duration_ns);

#endif
