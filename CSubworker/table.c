#include "table.h"

#include <stdlib.h>

static size_t home(const csw_table *table, csw_table_key key) {
    uint64_t mixed = (key.high ^ 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 29 ^ key.low) * 0x94d049bb133111ebu;
    return (size_t)(mixed ^ mixed >> 32) & (table->capacity - 1);
}

static bool is_equal(csw_table_key a, csw_table_key b) {
    return a.high == b.high && a.low == b.low;
}

/* The entry of a key, or the free one where it would go; the table is never full. */
static struct csw_table_entry *locate(const csw_table *table, csw_table_key key) {
    size_t i = home(table, key);
    while (table->entries[i].value != NULL && !is_equal(table->entries[i].key, key))
        i = (i + 1) & (table->capacity - 1);
    return &table->entries[i];
}

void *csw_table_find(const csw_table *table, csw_table_key key) {
    return table->capacity == 0 ? NULL : locate(table, key)->value;
}

static bool grow(csw_table *table) {
    csw_table larger = {.capacity = table->capacity == 0 ? 16 : table->capacity * 2, .count = table->count};
    larger.entries = calloc(larger.capacity, sizeof *larger.entries);
    if (larger.entries == NULL) return false;
    for (size_t i = 0; i < table->capacity; i += 1)
        if (table->entries[i].value != NULL) *locate(&larger, table->entries[i].key) = table->entries[i];
    free(table->entries);
    *table = larger;
    return true;
}

bool csw_table_put(csw_table *table, csw_table_key key, void *value) {
    if (table->count * 4 >= table->capacity * 3 && !grow(table)) return false;
    struct csw_table_entry *entry = locate(table, key);
    if (entry->value == NULL) table->count += 1;
    *entry = (struct csw_table_entry){key, value};
    return true;
}

/* Linear probing without tombstones: what follows the hole and could have used it moves up. */
void *csw_table_remove(csw_table *table, csw_table_key key) {
    if (table->capacity == 0) return NULL;
    struct csw_table_entry *entry = locate(table, key);
    void *value = entry->value;
    if (value == NULL) return NULL;
    size_t mask = table->capacity - 1, hole = (size_t)(entry - table->entries);
    for (size_t i = (hole + 1) & mask; table->entries[i].value != NULL; i = (i + 1) & mask) {
        size_t distance_home = (i - home(table, table->entries[i].key)) & mask;
        if (distance_home < ((i - hole) & mask)) continue;
        table->entries[hole] = table->entries[i];
        hole = i;
    }
    table->entries[hole].value = NULL;
    table->count -= 1;
    return value;
}

void csw_table_release(csw_table *table, void (*release)(void *value)) {
    for (size_t i = 0; i < table->capacity; i += 1)
        if (table->entries[i].value != NULL) release(table->entries[i].value);
    free(table->entries);
    *table = (csw_table){0};
}
