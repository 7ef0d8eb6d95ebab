#define _GNU_SOURCE
#include "pool.h"
#include "calls.h"
#include "clock.h"
#include "fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* More calls than this can't wait, even if each slot was recalled and used again many times. */
enum { queued_max = 4096, idle_max = CSW_SLOT_COUNT };

/* A message that calls read from. */
typedef struct csw_copy {
    size_t users;
    int *descriptors;
    size_t descriptor_count;
    alignas(16) uint8_t bytes[];
} csw_copy;

typedef struct csw_job {
    struct csw_job *next;
    csw_copy *copy;
    csw_call call;
} csw_job;

/* A call that waits for the answer to a reserve. */
typedef struct csw_waiter {
    struct csw_waiter *next;
    uint32_t id;
    bool is_answered, is_refused;
    char *text;
} csw_waiter;

typedef struct csw_lane {
    csw_pool *pool;
    pthread_t thread;
    bool is_single; /* runs the tasks that are not thread-safe */
    alignas(16) unsigned char fault_stack[CSW_FAULT_STACK_BYTES];
} csw_lane;

struct csw_pool {
    csw_subworker *subworker;
    /* Guards all below, and the subworker's results, what templates learn and how many calls of a task run. */
    pthread_mutex_t lock;
    pthread_cond_t has_shared, has_single, has_answer;
    csw_lane *lanes;
    size_t lane_count;
    csw_job *first, *last;
    size_t queued_count;
    csw_job *idle; /* to be used again */
    size_t idle_count;
    csw_waiter *waiters;
    bool is_over;
    csw_status failure; /* of a thread: the reader's when it ends */
    const char *failure_text;
    int failure_code;
    uint8_t *outbox, *spare;
    size_t outbox_size, outbox_capacity, spare_capacity;
    bool is_sending;
};

/* --- Failure ---------------------------------------------------------------------------------------------------- */

/* Wakes the reader, which then ends; under the lock. */
static void fail_pool(csw_pool *pool, csw_status status, const char *text, int code) {
    if (pool->failure == CSW_OK) {
        pool->failure = status;
        pool->failure_text = text;
        pool->failure_code = code;
    }
    pool->is_over = true;
    csw_link_wake(&pool->subworker->link);
}

/* --- Sending; under the lock ------------------------------------------------------------------------------------ */

static bool add_to_outbox(csw_pool *pool, const void *data, size_t size) {
    size_t needed = pool->outbox_size + size;
    if (needed > pool->outbox_capacity) {
        size_t capacity = needed < (128 << 10) ? 128 << 10 : needed * 2;
        uint8_t *larger = realloc(pool->outbox, capacity);
        if (larger == NULL) {
            fail_pool(pool, CSW_ENOMEM, "no memory for a message to the worker", 0);
            return false;
        }
        pool->outbox = larger;
        pool->outbox_capacity = capacity;
    }
    memcpy(pool->outbox + pool->outbox_size, data, size);
    pool->outbox_size = needed;
    return true;
}

/* Sends what is in the outbox, unless somebody is doing that. The reader goes on reading while it sends: else a worker that
 * sends too would wait for it, and it for the worker. */
static void empty_outbox(csw_pool *pool, bool is_reader) {
    if (pool->is_sending) return;
    pool->is_sending = true;
    while (pool->outbox_size != 0) {
        uint8_t *bytes = pool->outbox;
        size_t size = pool->outbox_size, capacity = pool->outbox_capacity;
        pool->outbox = pool->spare;
        pool->outbox_capacity = pool->spare_capacity;
        pool->outbox_size = 0;
        pthread_mutex_unlock(&pool->lock);
        csw_link *link = &pool->subworker->link;
        csw_status status = CSW_OK;
        int code = 0;
        if (is_reader)
            status = csw_link_send(link, bytes, size);
        else if (!csw_link_push(link, bytes, size))
            code = errno;
        pthread_mutex_lock(&pool->lock);
        pool->spare = bytes;
        pool->spare_capacity = capacity;
        if (status != CSW_OK) fail_pool(pool, status, link->error, link->error_code);
        if (code != 0) fail_pool(pool, CSW_EIO, "can't write to the worker", code);
    }
    pool->is_sending = false;
}

static void send_results(csw_pool *pool, bool is_reader) {
    csw_results *results = &pool->subworker->results;
    if (results->count == 0) return;
    csw_results_finish(results);
    add_to_outbox(pool, results->builder.bytes, results->builder.words * 8);
    csw_results_clear(results);
    empty_outbox(pool, is_reader);
}

static csw_status send_message(csw_pool *pool, const csw_builder *builder, bool is_reader) {
    pthread_mutex_lock(&pool->lock);
    if (add_to_outbox(pool, builder->bytes, builder->words * 8)) empty_outbox(pool, is_reader);
    csw_status status = pool->failure;
    pthread_mutex_unlock(&pool->lock);
    return status;
}

csw_status csw_pool_send(csw_pool *pool, const csw_builder *builder) {
    return send_message(pool, builder, false);
}

csw_status csw_pool_send_as_reader(csw_pool *pool, const csw_builder *builder) {
    return send_message(pool, builder, true);
}

/* --- Jobs; under the lock --------------------------------------------------------------------------------------- */

static bool is_single(const csw_job *job) {
    const csw_task_entry *task = job->call.shared->task;
    return task != NULL && task->type.threads <= 1;
}

/* The first job that this lane may run now. */
static csw_job *take_job(csw_pool *pool, const csw_lane *lane) {
    csw_job *before = NULL;
    for (csw_job *job = pool->first; job != NULL; before = job, job = job->next) {
        csw_task_entry *task = job->call.shared->task;
        if (is_single(job) != lane->is_single) continue;
        if (!lane->is_single && task != NULL && task->running_count >= task->type.threads) continue;
        if (task != NULL) task->running_count += 1;
        if (before != NULL)
            before->next = job->next;
        else
            pool->first = job->next;
        if (pool->last == job) pool->last = before;
        pool->queued_count -= 1;
        return job;
    }
    return NULL;
}

static void release_copy(csw_copy *copy) {
    for (size_t i = 0; i < copy->descriptor_count; i += 1)
        close(copy->descriptors[i]);
    free(copy->descriptors);
    free(copy);
}

static void free_job(csw_job *job) {
    csw_call_release(&job->call);
    free(job);
}

/* Gives back a job whose call is closed. */
static void release_job(csw_pool *pool, csw_job *job) {
    job->copy->users -= 1;
    if (job->copy->users == 0) release_copy(job->copy);
    job->copy = NULL;
    if (pool->idle_count >= idle_max) {
        free_job(job);
        return;
    }
    job->next = pool->idle;
    pool->idle = job;
    pool->idle_count += 1;
}

static csw_job *new_job(csw_pool *pool) {
    csw_job *job = pool->idle;
    if (job != NULL) {
        pool->idle = job->next;
        pool->idle_count -= 1;
        return job;
    }
    job = calloc(1, sizeof *job);
    if (job != NULL) csw_call_prepare(&job->call, pool->subworker);
    return job;
}

/* --- One call --------------------------------------------------------------------------------------------------- */

/* Without the lock; the result is added under it. */
static void answer_job(csw_pool *pool, csw_job *job, csw_status status) {
    csw_call *call = &job->call;
    csw_subworker *subworker = pool->subworker;
    csw_wire_result result;
    uint64_t now = csw_now_ns();
    csw_call_conclude(call, status, &result);
    result.duration_ns = now - call->started_ns;
    pthread_mutex_lock(&pool->lock);
    csw_template_learn(call->shared, result.duration_ns);
    if (subworker->results.count == 0) subworker->oldest_result_ns = now;
    bool is_added = csw_results_add(&subworker->results, &result);
    if (!is_added) fail_pool(pool, CSW_ENOMEM, "no memory for the result of a call", 0);
    if (is_added && subworker->control_page != NULL) csw_control_page_done(call->slot);
    if (csw_results_are_enough(&subworker->results)) send_results(pool, false);
    pthread_mutex_unlock(&pool->lock);
    csw_call_close(call, is_added && result.outcome == CSW_OUTCOME_OUTPUTS);
}

static void run_job(csw_pool *pool, csw_job *job) {
    csw_call *call = &job->call;
    call->started_ns = csw_now_ns();
    csw_taken taken = csw_call_take(call);
    if (taken == CSW_TAKEN) {
        csw_status status = CSW_ECANCELLED;
        if (!csw_cancelled(call)) {
            csw_fault_watch(call->slot);
            status = csw_call_is_runnable(call) ? csw_call_run(call) : CSW_ETASK;
            csw_fault_watch(NULL);
        }
        answer_job(pool, job, status);
        return;
    }
    csw_call_close(call, false);
    if (taken == CSW_TAKEN_NOT) return;
    pthread_mutex_lock(&pool->lock);
    fail_pool(pool, CSW_EPROTO, "malformed message of the worker: call for a slot that is running or done", 0);
    pthread_mutex_unlock(&pool->lock);
}

static void *run_lane(void *argument) {
    csw_lane *lane = argument;
    csw_pool *pool = lane->pool;
    csw_fault_use_stack(lane->fault_stack);
    pthread_mutex_lock(&pool->lock);
    while (!pool->is_over) {
        csw_job *job = take_job(pool, lane);
        if (job == NULL && pool->subworker->results.count != 0) {
            send_results(pool, false); /* which lets go of the lock, so look again */
        } else if (job == NULL) {
            pthread_cond_wait(lane->is_single ? &pool->has_single : &pool->has_shared, &pool->lock);
        } else {
            csw_task_entry *task = job->call.shared->task;
            if (csw_results_must_go(pool->subworker, job->call.shared)) send_results(pool, false);
            pthread_mutex_unlock(&pool->lock);
            run_job(pool, job);
            pthread_mutex_lock(&pool->lock);
            if (task != NULL) task->running_count -= 1;
            release_job(pool, job);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    csw_fault_use_stack(NULL);
    return NULL;
}

/* --- The reader ------------------------------------------------------------------------------------------------- */

static csw_copy *copy_message(const uint8_t *message, size_t size) {
    csw_copy *copy = malloc(sizeof *copy + size);
    if (copy == NULL) return NULL;
    *copy = (csw_copy){0};
    memcpy(copy->bytes, message, size);
    return copy;
}

/* Opens every call of the message; none is queued when one is malformed. */
static csw_status open_jobs(csw_pool *pool, csw_copy *copy, csw_job **first, csw_job **last) {
    csw_subworker *subworker = pool->subworker;
    while (subworker->next_call < subworker->calls.count) {
        pthread_mutex_lock(&pool->lock);
        csw_job *job = new_job(pool);
        pthread_mutex_unlock(&pool->lock);
        if (job == NULL) return csw_subworker_fail(subworker, CSW_ENOMEM, "no memory for a call of the worker");
        csw_status status = csw_calls_open_next(subworker, &job->call);
        if (status != CSW_OK) {
            free_job(job);
            return status;
        }
        job->copy = copy;
        job->next = NULL;
        copy->users += 1;
        if (*last != NULL)
            (*last)->next = job;
        else
            *first = job;
        *last = job;
    }
    return CSW_OK;
}

static void enqueue(csw_pool *pool, csw_job *first, csw_job *last, size_t count) {
    size_t single_count = 0;
    for (csw_job *job = first; job != NULL; job = job->next)
        single_count += is_single(job) ? 1 : 0;
    size_t shared_count = count - single_count;
    pthread_mutex_lock(&pool->lock);
    if (pool->last != NULL)
        pool->last->next = first;
    else
        pool->first = first;
    pool->last = last;
    pool->queued_count += count;
    if (single_count != 0) pthread_cond_signal(&pool->has_single);
    if (shared_count == 1)
        pthread_cond_signal(&pool->has_shared);
    else if (shared_count > 1)
        pthread_cond_broadcast(&pool->has_shared);
    pthread_mutex_unlock(&pool->lock);
}

csw_status csw_pool_take(csw_pool *pool, const uint8_t *message, size_t size) {
    csw_subworker *subworker = pool->subworker;
    csw_copy *copy = copy_message(message, size);
    if (copy == NULL) return csw_subworker_fail(subworker, CSW_ENOMEM, "no memory for a message of the worker");
    csw_envelope envelope;
    csw_reader_open(&subworker->reader, copy->bytes, size);
    csw_decode_envelope(&subworker->reader, &envelope); /* as it could be decoded before, it can be now */
    subworker->calls = envelope.list;
    subworker->next_call = 0;
    csw_job *first = NULL, *last = NULL;
    csw_status status = open_jobs(pool, copy, &first, &last);
    size_t count = copy->users;
    if (status == CSW_OK && count != 0) {
        copy->descriptors = subworker->descriptors;
        copy->descriptor_count = subworker->descriptor_count;
        subworker->descriptors = NULL;
        subworker->descriptor_count = subworker->descriptor_capacity = 0;
        pthread_mutex_lock(&pool->lock);
        bool is_too_many = pool->queued_count + count > queued_max;
        pthread_mutex_unlock(&pool->lock);
        enqueue(pool, first, last, count);
        if (is_too_many)
            return csw_subworker_fail(
                subworker, CSW_EPROTO, "malformed message of the worker: far more calls than it has slots");
        return CSW_OK;
    }
    while (first != NULL) {
        csw_job *next = first->next;
        free_job(first);
        first = next;
    }
    release_copy(copy);
    return status;
}

csw_status csw_pool_answer(csw_pool *pool, const csw_wire_granted *granted) {
    char *text = strndup(granted->text.data, granted->text.size);
    if (text == NULL) return csw_subworker_fail(pool->subworker, CSW_ENOMEM, "no memory for a message of the worker");
    pthread_mutex_lock(&pool->lock);
    csw_waiter *waiter = pool->waiters;
    while (waiter != NULL && (waiter->id != granted->id || waiter->is_answered))
        waiter = waiter->next;
    if (waiter != NULL) {
        waiter->is_answered = true;
        waiter->is_refused = granted->is_refused;
        waiter->text = text;
        pthread_cond_broadcast(&pool->has_answer);
    }
    pthread_mutex_unlock(&pool->lock);
    if (waiter != NULL) return CSW_OK;
    free(text);
    return csw_subworker_fail(
        pool->subworker, CSW_EPROTO, "malformed message of the worker: answer to a reserve that nobody made");
}

csw_status csw_pool_reserve(csw_call *call, uint32_t id, uint64_t size, csw_grant *out) {
    csw_pool *pool = call->subworker->pool;
    csw_waiter self = {.id = id};
    if (!csw_encode_reserve(&call->builder, call->wire.slot, id, size)) return csw_call_no_memory(call);
    pthread_mutex_lock(&pool->lock);
    self.next = pool->waiters;
    pool->waiters = &self;
    send_results(pool, false); /* they must not wait as long as this call may */
    if (add_to_outbox(pool, call->builder.bytes, call->builder.words * 8)) empty_outbox(pool, false);
    while (!self.is_answered && !pool->is_over)
        pthread_cond_wait(&pool->has_answer, &pool->lock);
    csw_waiter **link = &pool->waiters;
    while (*link != &self)
        link = &(*link)->next;
    *link = self.next;
    pthread_mutex_unlock(&pool->lock);
    if (!self.is_answered) return csw_call_fail(call, CSW_EIO, "the worker is gone, which was asked for room");
    out->is_refused = self.is_refused;
    out->text = csw_arena_copy(&call->arena, self.text, strlen(self.text));
    free(self.text);
    return out->text != NULL ? CSW_OK : csw_call_no_memory(call);
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

csw_pool *csw_pool_open(csw_subworker *subworker, size_t threads, bool is_mixed) {
    csw_pool *pool = calloc(1, sizeof *pool);
    csw_lane *lanes = calloc(threads + 1, sizeof *lanes);
    if (pool == NULL || lanes == NULL) {
        free(pool);
        free(lanes);
        return NULL;
    }
    pool->subworker = subworker;
    pool->lanes = lanes;
    csw_fault_install();
    /* Without attributes these can't fail. */
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->has_shared, NULL);
    pthread_cond_init(&pool->has_single, NULL);
    pthread_cond_init(&pool->has_answer, NULL);
    subworker->pool = pool;
    size_t count = threads + (is_mixed ? 1 : 0);
    for (size_t i = 0; i < count; i += 1) {
        lanes[i].pool = pool;
        lanes[i].is_single = i == threads;
        int code = pthread_create(&lanes[i].thread, NULL, run_lane, &lanes[i]);
        if (code != 0) {
            csw_pool_close(pool);
            errno = code;
            return NULL;
        }
        pool->lane_count += 1;
    }
    return pool;
}

static void drop_jobs(csw_job *job, bool is_queued) {
    while (job != NULL) {
        csw_job *next = job->next;
        csw_copy *copy = job->copy;
        free_job(job);
        if (is_queued) {
            copy->users -= 1;
            if (copy->users == 0) release_copy(copy);
        }
        job = next;
    }
}

csw_status csw_pool_close(csw_pool *pool) {
    csw_subworker *subworker = pool->subworker;
    pthread_mutex_lock(&pool->lock);
    pool->is_over = true;
    pthread_cond_broadcast(&pool->has_shared);
    pthread_cond_broadcast(&pool->has_single);
    pthread_cond_broadcast(&pool->has_answer);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->lane_count; i += 1)
        pthread_join(pool->lanes[i].thread, NULL);
    pthread_mutex_lock(&pool->lock);
    send_results(pool, true);
    pthread_mutex_unlock(&pool->lock);
    drop_jobs(pool->first, true);
    drop_jobs(pool->idle, false);
    csw_status status = pool->failure;
    if (status != CSW_OK && subworker->life != CSW_LIFE_FAILED)
        csw_subworker_fail(
            subworker, status, "%s%s%s", pool->failure_text, pool->failure_code != 0 ? ": " : "",
            pool->failure_code != 0 ? strerror(pool->failure_code) : "");
    subworker->pool = NULL;
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->has_shared);
    pthread_cond_destroy(&pool->has_single);
    pthread_cond_destroy(&pool->has_answer);
    free(pool->outbox);
    free(pool->spare);
    free(pool->lanes);
    free(pool);
    return status;
}
