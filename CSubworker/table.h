/* A hash table from 128-bit keys to pointers: templates by number, cached inputs by object. */
#ifndef CSW_TABLE_H
#define CSW_TABLE_H

#include "csubworker.h"

typedef struct csw_table_key {
    uint64_t high;
    uint64_t low;
} csw_table_key;

typedef struct csw_table {
    struct csw_table_entry {
        csw_table_key key;
        void *value; /* NULL: free */
    } * entries;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
} csw_table;

/* NULL when the key is not there. */
void *csw_table_find(const csw_table *table, csw_table_key key);
/* Adds or replaces; false when there is no memory. The value must not be NULL. */
bool csw_table_put(csw_table *table, csw_table_key key, void *value);
/* Takes a value out; NULL when the key is not there. */
void *csw_table_remove(csw_table *table, csw_table_key key);
void csw_table_release(csw_table *table, void (*release)(void *value));

#endif
