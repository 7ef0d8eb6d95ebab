/* csubworker.h: makes C functions the tasks of a Rain worker.
 *
 * A subworker is a process that a worker starts. It registers functions; the worker calls them with inputs and gets
 * outputs back. Two ways to use this library:
 *
 *   csw_open, csw_task for each function, csw_run          a C program; see examples/hello/hello.c
 *   csw_open, csw_task, then csw_next and csw_finish       where the caller keeps the loop: other languages
 *
 * Strings are UTF-8 and end in NUL; bytes are a pointer with a length. There is no global state.
 *
 * Threads: a subworker belongs to one thread at a time, which is the one in csw_run() while that lasts, and a call to the
 * thread that runs it; what may be used on any thread says so. Tasks that say `threads` run at once, each on its own call.
 *
 * Ownership: what a function returns or stores belongs to the subworker or to the call, and lasts as long as that one,
 * unless it says otherwise; what it is given is copied, unless it says otherwise.
 *
 * Every function with a csw_status leaves a text for its last failure: csw_message() for a subworker,
 * csw_call_message() for a call. A task that returns the status of a failed call fails with that text. */
#ifndef CSUBWORKER_H
#define CSUBWORKER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CSW_VERSION_MAJOR 0
#define CSW_VERSION_MINOR 2
#define CSW_VERSION_PATCH 0

#if defined(__GNUC__)
#define CSW_API __attribute__((__visibility__("default")))
#define CSW_PRINTF(at, first) __attribute__((__format__(__printf__, at, first)))
#else
#define CSW_API
#define CSW_PRINTF(at, first)
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct csw_subworker csw_subworker; /* opaque: made by csw_open(), released by csw_close() or csw_run() */
typedef struct csw_call csw_call;           /* opaque: one run of a task; ends with its function or csw_finish() */
typedef struct csw_memory csw_memory;       /* opaque: made by csw_memory_open(), released by csw_memory_close() */
typedef int32_t csw_status;                 /* 0 on success, negative on failure; a number never changes its meaning */

#define CSW_OK 0            /* done */
#define CSW_EINVAL (-1)     /* an argument is wrong: fix the program */
#define CSW_ENOMEM (-2)     /* no memory */
#define CSW_ENOWORKER (-3)  /* this process was not started by a worker */
#define CSW_EPROTO (-4)     /* what the worker sent is malformed, or its protocol version differs */
#define CSW_EREFUSED (-5)   /* the worker refused the registration */
#define CSW_EIO (-6)        /* a file or the socket: full disk, no permission; the text says which */
#define CSW_ESTATE (-7)     /* not now: a call is open, or a task is registered after the start */
#define CSW_ECANCELLED (-8) /* the task saw csw_cancelled() and stopped; return it from the task */
#define CSW_ETASK (-9)      /* the task failed with the text of csw_fail(); return it from the task */

/* Levels of csw_log(). */
#define CSW_LOG_ERROR 1
#define CSW_LOG_WARNING 2
#define CSW_LOG_INFO 3
#define CSW_LOG_DEBUG 4

/* Bytes that somebody else owns. */
typedef struct csw_bytes {
    const void *data; /* never NULL in a result, also when size is 0; no NUL follows */
    size_t size;
} csw_bytes;

/* One object's bytes of one generation; equal keys mean equal bytes. */
typedef struct csw_key {
    uint32_t session;
    uint32_t index;
    uint32_t epoch;
    uint32_t number;
} csw_key;

/* Which attempt a call is. */
typedef struct csw_attempt {
    uint32_t session;
    uint32_t task;
    uint32_t epoch;
    uint32_t attempt;
} csw_attempt;

/* A task's code.
 *   call      valid until the function returns
 *   context   of its csw_task_type
 *   returns   CSW_OK when every output was set; the status of csw_fail() or of any function that failed; CSW_ECANCELLED;
 *             any other number fails the task too
 *   since     0.1 */
typedef csw_status csw_function(csw_call *call, void *context);

typedef struct csw_options {  /* grows at the end only; fields this version does not know must be zero */
    size_t struct_size;       /* sizeof(csw_options) as the caller was compiled; set by CSW_OPTIONS_INIT */
    const char *name;         /* of the subworker; copied; NULL for the one that the worker uses */
    const char *library;      /* what speaks, for the worker's log; copied; NULL for "csubworker 0.2.0" */
    size_t message_bytes_max; /* a longer message of the worker is malformed; 0 for 64 MiB */
} csw_options;
#define CSW_OPTIONS_INIT                                                                                               \
    { sizeof(csw_options), NULL, NULL, 0 }

typedef struct csw_task_type { /* grows at the end only; fields this version does not know must be zero */
    size_t struct_size; /* sizeof(csw_task_type) as the caller was compiled; set by CSW_TASK or CSW_TASK_TYPE_INIT */
    const char *name;   /* "count" for the task type "wordcount/count"; "" takes what no other takes */
    const char *documentation;  /* one line, then more; NULL for none */
    const char *const *inputs;  /* labels; a call with another number of inputs fails without running */
    size_t input_count;         /* 0: any number of inputs */
    const char *const *outputs; /* labels; a call that wants another number of outputs fails without running */
    size_t output_count;        /* 0: any number of outputs */
    csw_function *function;     /* NULL where calls are taken by csw_next() only */
    void *context;              /* handed to the function; owned by the caller, must outlive the subworker */
    /* since 0.2 */
    const char *const
        *input_content_types; /* as many as inputs, "" for any; NULL: any. For people: nothing checks it */
    const char *const *output_content_types; /* as many as outputs, "" for what the client says; NULL: that for all */
    size_t
        threads; /* calls of this task that csw_run() may run at once, each on a thread of the library's own; the function
                       must be thread-safe, beside every other task too. 0 or 1: one at a time with all such tasks. At most 64 */
} csw_task_type;
#define CSW_TASK .struct_size = sizeof(csw_task_type) /* first in a C initialiser: {CSW_TASK, .name = "count", …} */
#define CSW_TASK_TYPE_INIT                                                                                             \
    { sizeof(csw_task_type), NULL, NULL, NULL, 0, NULL, 0, NULL, NULL, NULL, NULL, 0 }

/* --- Subworker -------------------------------------------------------------------------------------------------- */

/* The library's version, as "0.1.0".
 *   threads   any
 *   since     0.1 */
CSW_API const char *csw_version(void);

/* A short English text for a status, where there is no handle to ask.
 *   returns   never NULL; static
 *   threads   any
 *   since     0.1 */
CSW_API const char *csw_status_text(csw_status status);

/* Makes a subworker. It does not talk to the worker yet, so tasks can be registered.
 *   options   NULL for the defaults; read during the call only
 *   out       receives a handle that the caller owns; NULL on failure
 *   returns   CSW_OK; CSW_EINVAL: fix the options; CSW_ENOMEM
 *   threads   any; the handle then belongs to one thread at a time
 *   since     0.1 */
CSW_API csw_status csw_open(const csw_options *options, csw_subworker **out);

/* Registers a function as a task of this subworker.
 *   type      copied with its strings, except function and context
 *   returns   CSW_OK; CSW_EINVAL: a field is wrong or the name is taken; CSW_ENOMEM; CSW_ESTATE: already connected.
 *             A failure is remembered and returned by csw_connect() and csw_run() too, so a main need not look at it
 *   threads   the subworker's
 *   since     0.1 */
CSW_API csw_status csw_task(csw_subworker *subworker, const csw_task_type *type);

/* Takes the socket that the worker left in the environment (and removes it from there), registers the tasks and waits
 * for the worker's welcome. Does nothing when it has succeeded before. csw_next() and csw_run() call it.
 *   returns   CSW_OK; CSW_ENOWORKER: not started by a worker; CSW_EREFUSED: the worker's reason is in csw_message();
 *             CSW_EPROTO: versions differ, or malformed; CSW_EIO; CSW_ENOMEM; or what csw_task() returned
 *   threads   no other thread may use the environment meanwhile
 *   since     0.1 */
CSW_API csw_status csw_connect(csw_subworker *subworker);

/* Runs calls until the worker goes away or says so; releases the subworker. A main ends in `return csw_run(subworker);`.
 * Calls run on this thread, one at a time; when a task says `threads`, on threads of the library's own: tasks that don't say
 * it still run one at a time, always on the same one of them. Then it also puts handlers before those of fatal signals (SIGSEGV,
 * SIGABRT …), and one for exit(): they tell the worker which call it is that ends the process, so that no other is charged.
 *   subworker NULL is a failure: what csw_open() gave when it failed
 *   returns   0 after a shutdown or when the worker is gone; 1 on failure, after writing its text to stderr
 *   threads   the subworker's
 *   since     0.1 */
CSW_API int csw_run(csw_subworker *subworker);

/* Waits for the next call. Results that were not sent yet are sent before it blocks.
 *   out       receives the call, which lasts until csw_finish(); NULL when the worker is gone or asked to end
 *   returns   CSW_OK, also at the end; CSW_ESTATE: finish the open call first; or what csw_connect() returns.
 *             After CSW_EPROTO or CSW_EIO the connection is closed: end the process
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_next(csw_subworker *subworker, csw_call **out);

/* Ends a call that csw_next() gave, and queues its result. Its inputs, paths and buffers are invalid afterwards, and
 * files that became no output are removed.
 *   status    what the task's function would have returned
 *   returns   CSW_OK, also when the task failed; CSW_EIO, CSW_ENOMEM: as csw_next()
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_finish(csw_call *call, csw_status status);

/* The function and context that were registered for the call's task; either may be NULL.
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_function *csw_call_function(const csw_call *call);
CSW_API void *csw_call_context(const csw_call *call);

/* Sends the results that are still queued. Not needed in a loop of csw_next(), which does it in time.
 *   returns   CSW_OK, also when the worker is gone; CSW_EIO, CSW_ENOMEM: as csw_next()
 *   threads   the subworker's
 *   since     0.1 */
CSW_API csw_status csw_flush(csw_subworker *subworker);

/* The text of the subworker's last failure, "" when there was none; valid until the next call on the handle.
 *   threads   the subworker's
 *   since     0.1 */
CSW_API const char *csw_message(const csw_subworker *subworker);

/* Facts about the subworker: its name; the worker's name, the directory in which outputs are made (absolute), and the
 * size up to which an output travels in a message; before csw_connect() "", "" and 0.
 *   threads   any
 *   since     0.1 */
CSW_API const char *csw_name(const csw_subworker *subworker);
CSW_API const char *csw_worker_name(const csw_subworker *subworker);
CSW_API const char *csw_staging_directory(const csw_subworker *subworker);
CSW_API size_t csw_inline_bytes_max(const csw_subworker *subworker);

/* How much is worth a line in the log: CSW_LOG_ERROR to CSW_LOG_DEBUG, as the worker says, else as the environment variable
 * RAIN_LOG says, else CSW_LOG_INFO.
 *   threads   any
 *   since     0.2 */
CSW_API int csw_log_level(const csw_subworker *subworker);

/* Writes a line to the subworker's log (stderr, whose tail is part of a crash's error), when its level is worth it. What the
 * client is to see goes to csw_debug() instead.
 *   level     CSW_LOG_ERROR, CSW_LOG_WARNING, CSW_LOG_INFO or CSW_LOG_DEBUG; nothing is written for another one
 *   format    without the newline at the end
 *   threads   any
 *   since     0.2 */
CSW_API void csw_log(const csw_subworker *subworker, int level, const char *format, ...) CSW_PRINTF(3, 4);

/* Releases a subworker, its cached inputs and an open call. Accepts NULL.
 *   threads   the subworker's
 *   since     0.1 */
CSW_API void csw_close(csw_subworker *subworker);

/* --- Call ------------------------------------------------------------------------------------------------------- */

/* Facts about a call. All are valid until it ends.
 *   csw_call_subworker     the subworker that runs it
 *   csw_call_method        the task's name as the client asked for it, "count" for "wordcount/count"
 *   csw_call_name          what people call the task
 *   csw_call_template      number of what it shares with other calls: equal numbers, equal method, name, config and labels
 *   csw_call_config        JSON text of the template, "" when the client gave none
 *   csw_call_arguments     JSON text of this task, "" when the client gave none
 *   csw_call_attributes    JSON text of the user's own, of the template
 *   csw_call_array_index   position in a task array, else 0
 *   csw_call_attempt       which attempt of which task
 *   threads                the call's
 *   since                  0.1 */
CSW_API csw_subworker *csw_call_subworker(const csw_call *call);
CSW_API const char *csw_call_method(const csw_call *call);
CSW_API const char *csw_call_name(const csw_call *call);
CSW_API uint32_t csw_call_template(const csw_call *call);
CSW_API csw_bytes csw_call_config(const csw_call *call);
CSW_API csw_bytes csw_call_arguments(const csw_call *call);
CSW_API csw_bytes csw_call_attributes(const csw_call *call);
CSW_API uint32_t csw_call_array_index(const csw_call *call);
CSW_API csw_attempt csw_call_attempt(const csw_call *call);

/* Whether the task should stop soon. One load: ask as often as you like, then return CSW_ECANCELLED.
 *   threads   any, while the call lasts
 *   since     0.1 */
CSW_API bool csw_cancelled(const csw_call *call);

/* Fails the task: `return csw_fail(call, "line %zu is no number", line);`
 *   format    one line where possible; replaces the text of an earlier failure
 *   returns   CSW_ETASK, always
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_fail(csw_call *call, const char *format, ...) CSW_PRINTF(2, 3);
CSW_API csw_status csw_vfail(csw_call *call, const char *format, va_list arguments) CSW_PRINTF(2, 0);

/* The same with ready texts, for other languages.
 *   message   one line where possible, of message_size bytes
 *   detail    a traceback, of detail_size bytes; may be NULL when that is 0
 *   returns   CSW_ETASK, always
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status
csw_fail_text(csw_call *call, const char *message, size_t message_size, const char *detail, size_t detail_size);

/* Adds a line to the task's debug text, which the client sees, also when the task fails. Of more than 1 MiB the rest is left out,
 * and a line says so.
 *   format    without the newline at the end
 *   returns   CSW_OK; CSW_ENOMEM
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_debug(csw_call *call, const char *format, ...) CSW_PRINTF(2, 3);
CSW_API csw_status csw_vdebug(csw_call *call, const char *format, va_list arguments) CSW_PRINTF(2, 0);
CSW_API csw_status csw_debug_text(csw_call *call, const char *line, size_t size);

/* Tells how far the task is; the client sees it while the task runs. Call it as often as you like: what changes little, and
 * more than about ten times a second, is left out.
 *   fraction  0 to 1
 *   text      one line of up to 1 KiB; copied; NULL for none
 *   returns   CSW_OK; CSW_ENOMEM; CSW_EIO: the worker is gone
 *   threads   the call's
 *   since     0.2 */
CSW_API csw_status csw_progress(csw_call *call, double fraction, const char *text);

/* Sets the attributes that the client reads from the finished task.
 *   json      JSON text of size bytes; copied, not checked; replaces an earlier one
 *   returns   CSW_OK; CSW_EINVAL: more than 1 MiB; CSW_ENOMEM
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_set_attributes(csw_call *call, const char *json, size_t size);

/* The text of the call's last failure, "" when there was none; valid until the next function on the call.
 *   threads   the call's
 *   since     0.1 */
CSW_API const char *csw_call_message(const csw_call *call);

/* A fresh name in the staging directory, at which the task may make a file or directory, to be given to
 * csw_output_path(). What is still there when the call ends is removed.
 *   out       receives an absolute path, valid until the call ends; nothing is there
 *   returns   CSW_OK; CSW_ENOMEM
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_staging_path(csw_call *call, const char **out);

/* --- Inputs ----------------------------------------------------------------------------------------------------- */

/* How many inputs the call has, and how many of the first ones are constants of its template.
 *   threads   the call's
 *   since     0.1 */
CSW_API size_t csw_input_count(const csw_call *call);
CSW_API size_t csw_constant_count(const csw_call *call);

/* The position of the input with a label, or -1.
 *   threads   the call's
 *   since     0.1 */
CSW_API int32_t csw_input_find(const csw_call *call, const char *label);

/* Facts about input i. An i that is out of range gives "", 0, false or no bytes.
 *   csw_input_label          "" for a constant and for an input without one
 *   csw_input_content_type   "" when unknown
 *   csw_input_size           in bytes; of a directory: of its tar stream
 *   csw_input_attributes     JSON text, "" for none
 *   csw_input_key            names its bytes for ever
 *   csw_input_is_directory   it has a path and no bytes
 *   csw_input_is_cached      this subworker remembers it after the call; csw_input_attach() works
 *   threads                  the call's
 *   since                    0.1 */
CSW_API const char *csw_input_label(const csw_call *call, size_t i);
CSW_API const char *csw_input_content_type(const csw_call *call, size_t i);
CSW_API uint64_t csw_input_size(const csw_call *call, size_t i);
CSW_API csw_bytes csw_input_attributes(const csw_call *call, size_t i);
CSW_API csw_key csw_input_key(const csw_call *call, size_t i);
CSW_API bool csw_input_is_directory(const csw_call *call, size_t i);
CSW_API bool csw_input_is_cached(const csw_call *call, size_t i);

/* The bytes of input i, wherever they are: in the message, or a file that is mapped on the first use.
 *   out       receives memory that is read-only and valid until the call ends; aligned to 8 bytes at least
 *   returns   CSW_OK; CSW_EINVAL: no such input, or a directory; CSW_EIO: it can't be opened or mapped
 *   cost      nothing is copied; a map costs about 5 µs once, and its pages when they are touched
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_input_bytes(csw_call *call, size_t i, csw_bytes *out);

/* A path at which input i can be read: by this process and its children, while the call lasts.
 *   out       receives an absolute path; the file or directory is read-only
 *   returns   CSW_OK; CSW_EINVAL: no such input; CSW_EIO: bytes that came in the message can't be written to a file
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_input_path(csw_call *call, size_t i, const char **out);

/* Hangs a value (a parsed form, say) on an input that the subworker remembers; later calls find it there. When calls that run
 * at once do so for the same input, later calls find the last one.
 *   value     must not be NULL; owned by the subworker when CSW_OK is returned; the task may use it until the call ends
 *   destroy   called with value and context when the input is dropped, a new value is attached or the subworker is
 *             released, but not before the calls that have this input end; on any thread; NULL for nothing to do
 *   returns   CSW_OK; CSW_EINVAL; CSW_ESTATE: the input is not cached (see csw_input_is_cached); CSW_ENOMEM
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status
csw_input_attach(csw_call *call, size_t i, void *value, void (*destroy)(void *value, void *context), void *context);

/* The value that hangs on input i, NULL when there is none; valid until the call ends.
 *   threads   the call's
 *   since     0.1 */
CSW_API void *csw_input_attached(const csw_call *call, size_t i);

/* --- Outputs ---------------------------------------------------------------------------------------------------- */

/* How many outputs the call wants. Each must be set once by one of the functions below; a later one replaces it.
 *   threads   the call's
 *   since     0.1 */
CSW_API size_t csw_output_count(const csw_call *call);

/* The position of the output with a label, or -1.
 *   threads   the call's
 *   since     0.1 */
CSW_API int32_t csw_output_find(const csw_call *call, const char *label);

/* What the client declared for output i. An i that is out of range gives "" or false.
 *   threads   the call's
 *   since     0.1 */
CSW_API const char *csw_output_label(const csw_call *call, size_t i);
CSW_API const char *csw_output_content_type(const csw_call *call, size_t i);
CSW_API bool csw_output_is_directory(const csw_call *call, size_t i);

/* Output i is a copy of these bytes.
 *   data      may be NULL when size is 0
 *   returns   CSW_OK; CSW_EINVAL; CSW_ENOMEM; CSW_EIO: a large one can't be written, for example the disk is full
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_output_bytes(csw_call *call, size_t i, const void *data, size_t size);

/* Output i is a copy of these pieces, one after the other, which need not be put together first.
 *   parts     count of them; the data of one without bytes may be NULL
 *   returns   as csw_output_bytes()
 *   threads   the call's
 *   since     0.2 */
CSW_API csw_status csw_output_parts(csw_call *call, size_t i, const csw_bytes *parts, size_t count);

/* Output i is a text, printf-style, without a NUL at the end.
 *   returns   as csw_output_bytes()
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_output_printf(csw_call *call, size_t i, const char *format, ...) CSW_PRINTF(3, 4);

/* Output i is what will be written to this buffer before the call ends. A large one is a map of the object itself, so
 * nothing is copied afterwards; its space is allocated first, so a full disk is an error here and no signal later. Where the
 * worker counts its memory this waits until there is room.
 *   out       receives memory of size bytes, zeroed, aligned to 16 bytes at least; not NULL, also when size is 0
 *   returns   CSW_OK; CSW_EINVAL; CSW_ENOMEM; CSW_EIO: no space, or the worker refuses it
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_output_buffer(csw_call *call, size_t i, size_t size, void **out);

/* Changes the size of output i, which must be a buffer. What is in it stays; what is added is zeroed. Growing step by step
 * costs no more than a copy or two of the whole.
 *   out       receives its address, which may be another one; may be NULL when the buffer gets smaller and is not
 *             touched again
 *   returns   CSW_OK; CSW_EINVAL: not a buffer; CSW_ENOMEM, CSW_EIO: the buffer is as before
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_output_resize(csw_call *call, size_t i, size_t size, void **out);

/* Memory for an output of which it need not be known yet which one it will be, and that may be used for longer than the
 * call: for languages whose values do. Like a large csw_output_buffer() it is a map of the object itself. What is not
 * closed when the call ends becomes ordinary memory: it stays where it is, with what is in it, and what is written to it then
 * reaches no output.
 *   size      of bytes, zeroed
 *   out       receives memory that the caller closes, in the call or at any time after it
 *   returns   CSW_OK; CSW_ENOMEM; CSW_EIO: no space, or the worker refuses it
 *   threads   the call's
 *   since     0.2 */
CSW_API csw_status csw_memory_open(csw_call *call, size_t size, csw_memory **out);

/* Its address, aligned to a page, and its bytes.
 *   threads   any one at a time
 *   since     0.2 */
CSW_API void *csw_memory_data(const csw_memory *memory);
CSW_API size_t csw_memory_size(const csw_memory *memory);

/* Changes its size, as csw_output_resize() does.
 *   out       receives its address, which may be another one; on failure the old one; may be NULL
 *   returns   CSW_OK; CSW_EINVAL: it is an output already; CSW_ESTATE: its call is over; CSW_ENOMEM, CSW_EIO: it is as before
 *   threads   the call's
 *   since     0.2 */
CSW_API csw_status csw_memory_resize(csw_memory *memory, size_t size, void **out);

/* Output i is the first `size` bytes of this memory, with what is in them when the call ends. Nothing is copied unless they
 * are few enough for a message, the memory is another output already, or a process that the task started can still write to it.
 *   returns   CSW_OK; CSW_EINVAL: no such output, memory of another call, or larger than it is; CSW_ENOMEM; CSW_EIO
 *   threads   the call's
 *   since     0.2 */
CSW_API csw_status csw_output_memory(csw_call *call, size_t i, csw_memory *memory, size_t size);

/* Gives memory back; the output that it is stays what it is now.
 *   memory    may be NULL
 *   threads   before the end of its call the call's, later any
 *   since     0.2 */
CSW_API void csw_memory_close(csw_memory *memory);

/* Output i is a file or directory, which is moved away: the task must not touch it again.
 *   path      best one of csw_staging_path(); what is elsewhere is moved there, from another file system by a copy
 *   returns   CSW_OK; CSW_EINVAL: neither a regular file nor a directory; CSW_EIO: it can't be moved, or has a device in it
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_output_path(csw_call *call, size_t i, const char *path);

/* Output i is the same data as input j. Nothing is copied.
 *   returns   CSW_OK; CSW_EINVAL: no such output or input
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_output_same_as_input(csw_call *call, size_t i, size_t j);

/* The content type of output i, when it differs from the declared one; and its attributes, JSON text of size bytes.
 * Copied; before or after the output is set.
 *   returns   CSW_OK; CSW_EINVAL: no such output, or more than 1 MiB (8 MiB for all outputs); CSW_ENOMEM
 *   threads   the call's
 *   since     0.1 */
CSW_API csw_status csw_output_set_content_type(csw_call *call, size_t i, const char *content_type);
CSW_API csw_status csw_output_set_attributes(csw_call *call, size_t i, const char *json, size_t size);

#ifdef __cplusplus
}
#endif

#endif
