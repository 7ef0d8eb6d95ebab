/* Runs calls of thread-safe tasks at once: the thread that called csw_run() reads, others run the calls.
 *
 *   reader ──▶ queue ──▶ thread 1 … n     tasks with threads > 1, each up to its own number
 *                   └──▶ one more         all other tasks, one at a time
 *
 * Calls read from a copy of their message, since messages are read on while they run. Whoever has something to send adds it
 * to the outbox; one of them sends, so that no other waits for a worker that is slow to read. */
#ifndef CSW_POOL_H
#define CSW_POOL_H

#include "subworker.h"

/* Starts the threads; NULL with errno when that fails.
 *   threads     calls at once of thread-safe tasks
 *   is_mixed    whether there are other tasks too */
csw_pool *csw_pool_open(csw_subworker *subworker, size_t threads, bool is_mixed);
/* Ends: what runs is finished, what is queued is dropped, and what was not sent is sent if the worker is still there. */
csw_status csw_pool_close(csw_pool *pool);

/* The reader's: queues the calls of the open message, of `size` bytes; an answer to a reserve; slots to be cancelled. */
csw_status csw_pool_take(csw_pool *pool, const uint8_t *message, size_t size);
csw_status csw_pool_answer(csw_pool *pool, const csw_wire_granted *granted);
csw_status csw_pool_send_as_reader(csw_pool *pool, const csw_builder *builder);

/* The calls', on any thread. */
csw_status csw_pool_send(csw_pool *pool, const csw_builder *builder);
csw_status csw_pool_reserve(csw_call *call, uint32_t id, uint64_t size, csw_grant *out);

#endif
