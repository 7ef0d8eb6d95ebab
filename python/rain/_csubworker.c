/* rain._csubworker: the C scaffold for Python's subworker.
 *
 *   connect(library)     -> Subworker
 *   Subworker.next()     -> Call, or None when the worker is gone or asked to end
 *   Call                 what a task sees of its call; finish() ends it
 *   Mapping              the bytes of a large input, by the buffer protocol
 *   Buffer               memory for an output, by the buffer protocol
 *
 * A program may keep views of an input for longer than the call (an array in a cache, say), so what it gets never is the
 * scaffold's memory: small inputs are copied into bytes, large ones are mapped here, and the map lives as long as a view.
 * A Buffer is kept like that too: when its call ends the scaffold makes its pages this process's own. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "csubworker.h"

/* Up to this size copying an input is cheaper than mapping it. */
#define COPY_BYTES_MAX 65536

static PyObject *subworker_error;

/* --- Mapping ---------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject ob_base;
    void *address;
    Py_ssize_t size;
    int descriptor; /* of the file, to map it again; -1 in a private copy */
    int is_writable;
} Mapping;

static PyTypeObject mapping_type;

/* A new map of an open file; owns the descriptor when it succeeds. */
static PyObject *mapping_new(int descriptor, Py_ssize_t size, int is_private_copy) {
    Mapping *mapping = PyObject_New(Mapping, &mapping_type);
    if (mapping == NULL) return NULL;
    mapping->size = size;
    mapping->descriptor = -1;
    mapping->is_writable = is_private_copy;
    mapping->address = mmap(
        NULL, (size_t)size, is_private_copy ? PROT_READ | PROT_WRITE : PROT_READ,
        is_private_copy ? MAP_PRIVATE : MAP_SHARED, descriptor, 0);
    if (mapping->address == MAP_FAILED) {
        mapping->address = NULL;
        Py_DECREF(mapping);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (!is_private_copy) mapping->descriptor = descriptor;
    return (PyObject *)mapping;
}

static void mapping_dealloc(PyObject *self) {
    Mapping *mapping = (Mapping *)self;
    if (mapping->address != NULL) munmap(mapping->address, (size_t)mapping->size);
    if (mapping->descriptor >= 0) close(mapping->descriptor);
    PyObject_Free(self);
}

static int mapping_getbuffer(PyObject *self, Py_buffer *view, int flags) {
    Mapping *mapping = (Mapping *)self;
    return PyBuffer_FillInfo(view, self, mapping->address, mapping->size, !mapping->is_writable, flags);
}

static Py_ssize_t mapping_length(PyObject *self) {
    return ((Mapping *)self)->size;
}

PyDoc_STRVAR(
    mapping_private_copy_doc, "private_copy()\n--\n\n"
                              "The same bytes, writable: a page is copied when it is written to.");

static PyObject *mapping_private_copy(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    Mapping *mapping = (Mapping *)self;
    if (mapping->descriptor < 0) {
        PyErr_SetString(PyExc_ValueError, "this is a private copy already");
        return NULL;
    }
    return mapping_new(mapping->descriptor, mapping->size, 1);
}

static PyMethodDef mapping_methods[] = {
    {"private_copy", mapping_private_copy, METH_NOARGS, mapping_private_copy_doc},
    {NULL, NULL, 0, NULL},
};
static PyBufferProcs mapping_buffer = {.bf_getbuffer = mapping_getbuffer};
static PySequenceMethods mapping_sequence = {.sq_length = mapping_length};
static PyTypeObject mapping_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "rain._csubworker.Mapping",
    .tp_doc = PyDoc_STR("The bytes of a large input."),
    .tp_basicsize = sizeof(Mapping),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = mapping_dealloc,
    .tp_methods = mapping_methods,
    .tp_as_buffer = &mapping_buffer,
    .tp_as_sequence = &mapping_sequence,
};

/* --- Call ------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject ob_base;
    csw_call *call; /* NULL after finish() */
    PyObject *subworker;
    PyObject *buffers; /* list of each Buffer of the call that may still be used; NULL: there was none */
    int is_waiting;    /* a thread of this process is in the scaffold, without the interpreter's lock */
} Call;

static PyTypeObject call_type;
/* Held while a call is waiting. There is one call at a time. */
static PyThread_type_lock waiting_lock;
/* This is a process that a task forked: the worker does not know it. */
static int is_child;

/* The scaffold's call, or NULL with an exception when it is over. */
static csw_call *open_call(PyObject *self) {
    Call *call = (Call *)self;
    if (call->is_waiting && is_child) {
        PyErr_SetString(
            PyExc_RuntimeError,
            "another thread of the task was asking for memory when this process was forked, and did "
            "not come along: its context can't be used here");
        return NULL;
    }
    while (call->is_waiting) {
        Py_BEGIN_ALLOW_THREADS PyThread_acquire_lock(waiting_lock, WAIT_LOCK);
        PyThread_release_lock(waiting_lock);
        Py_END_ALLOW_THREADS
    }
    if (call->call == NULL) PyErr_SetString(PyExc_RuntimeError, "the call of this context is over");
    return call->call;
}

/* Lets other threads run while this one is in a function of the call that may wait; those that want the call wait, too. */
static PyThreadState *leave_interpreter(Call *call) {
    PyThread_acquire_lock(waiting_lock, WAIT_LOCK);
    call->is_waiting = 1;
    return PyEval_SaveThread();
}

static void enter_interpreter(Call *call, PyThreadState *state) {
    PyEval_RestoreThread(state);
    call->is_waiting = 0;
    PyThread_release_lock(waiting_lock);
}

static PyObject *raise_call(csw_call *call, csw_status status) {
    const char *text = csw_call_message(call);
    PyErr_SetString(subworker_error, text[0] != '\0' ? text : csw_status_text(status));
    return NULL;
}

static PyObject *call_outcome(csw_call *call, csw_status status) {
    if (status != CSW_OK) return raise_call(call, status);
    Py_RETURN_NONE;
}

static PyObject *bytes_of(csw_bytes bytes) {
    return PyBytes_FromStringAndSize(bytes.data, (Py_ssize_t)bytes.size);
}

static void call_dealloc(PyObject *self) {
    Py_XDECREF(((Call *)self)->buffers);
    Py_XDECREF(((Call *)self)->subworker);
    PyObject_Free(self);
}

#define CALL_GETTER(name, expression)                                                                                  \
    static PyObject *call_get_##name(PyObject *self, void *Py_UNUSED(closure)) {                                       \
        csw_call *call = open_call(self);                                                                              \
        return call == NULL ? NULL : (expression);                                                                     \
    }

CALL_GETTER(template, PyLong_FromUnsignedLong(csw_call_template(call)))
CALL_GETTER(method, PyUnicode_FromString(csw_call_method(call)))
CALL_GETTER(name, PyUnicode_FromString(csw_call_name(call)))
CALL_GETTER(config, bytes_of(csw_call_config(call)))
CALL_GETTER(arguments, bytes_of(csw_call_arguments(call)))
CALL_GETTER(attributes, bytes_of(csw_call_attributes(call)))
CALL_GETTER(array_index, PyLong_FromUnsignedLong(csw_call_array_index(call)))
CALL_GETTER(session, PyLong_FromUnsignedLong(csw_call_attempt(call).session))
CALL_GETTER(task, PyLong_FromUnsignedLong(csw_call_attempt(call).task))
CALL_GETTER(input_count, PyLong_FromSize_t(csw_input_count(call)))
CALL_GETTER(constant_count, PyLong_FromSize_t(csw_constant_count(call)))
CALL_GETTER(output_count, PyLong_FromSize_t(csw_output_count(call)))
CALL_GETTER(is_cancelled, PyBool_FromLong(csw_cancelled(call)))

/* The position in a one-argument call, or -1 with an exception. */
static Py_ssize_t position_of(PyObject *argument, size_t count, const char *what) {
    Py_ssize_t i = PyLong_AsSsize_t(argument);
    if (i == -1 && PyErr_Occurred()) return -1;
    if (i < 0 || (size_t)i >= count) {
        PyErr_Format(PyExc_IndexError, "the call has %zu %s, not %zd", count, what, i);
        return -1;
    }
    return i;
}

static PyObject *call_input(PyObject *self, PyObject *argument) {
    csw_call *call = open_call(self);
    if (call == NULL) return NULL;
    Py_ssize_t i = position_of(argument, csw_input_count(call), "inputs");
    if (i < 0) return NULL;
    uint64_t size = csw_input_size(call, (size_t)i);
    if (size <= COPY_BYTES_MAX || csw_input_is_directory(call, (size_t)i)) {
        csw_bytes bytes;
        csw_status status = csw_input_bytes(call, (size_t)i, &bytes);
        return status == CSW_OK ? bytes_of(bytes) : raise_call(call, status);
    }
    const char *path;
    csw_status status = csw_input_path(call, (size_t)i, &path);
    if (status != CSW_OK) return raise_call(call, status);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
    struct stat facts;
    PyObject *mapping = NULL;
    if (fstat(descriptor, &facts) != 0)
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
    else if ((uint64_t)facts.st_size != size)
        PyErr_Format(
            subworker_error, "input %zd should have %llu bytes, but its file has %lld", i, (unsigned long long)size,
            (long long)facts.st_size);
    else
        mapping = mapping_new(descriptor, (Py_ssize_t)size, 0);
    if (mapping == NULL) close(descriptor);
    return mapping;
}

/* A function of one input that returns an object. */
#define INPUT_FUNCTION(name, expression)                                                                               \
    static PyObject *call_input_##name(PyObject *self, PyObject *argument) {                                           \
        csw_call *call = open_call(self);                                                                              \
        if (call == NULL) return NULL;                                                                                 \
        Py_ssize_t i = position_of(argument, csw_input_count(call), "inputs");                                         \
        return i < 0 ? NULL : (expression);                                                                            \
    }

INPUT_FUNCTION(content_type, PyUnicode_FromString(csw_input_content_type(call, (size_t)i)))
INPUT_FUNCTION(attributes, bytes_of(csw_input_attributes(call, (size_t)i)))
INPUT_FUNCTION(is_directory, PyBool_FromLong(csw_input_is_directory(call, (size_t)i)))
INPUT_FUNCTION(is_cached, PyBool_FromLong(csw_input_is_cached(call, (size_t)i)))

static PyObject *call_input_path(PyObject *self, PyObject *argument) {
    csw_call *call = open_call(self);
    if (call == NULL) return NULL;
    Py_ssize_t i = position_of(argument, csw_input_count(call), "inputs");
    if (i < 0) return NULL;
    const char *path;
    csw_status status = csw_input_path(call, (size_t)i, &path);
    return status == CSW_OK ? PyUnicode_DecodeFSDefault(path) : raise_call(call, status);
}

static PyObject *call_input_attached(PyObject *self, PyObject *argument) {
    csw_call *call = open_call(self);
    if (call == NULL) return NULL;
    Py_ssize_t i = position_of(argument, csw_input_count(call), "inputs");
    if (i < 0) return NULL;
    PyObject *value = csw_input_attached(call, (size_t)i);
    return Py_NewRef(value != NULL ? value : Py_None);
}

/* Called by the scaffold from csw_next() too, where the interpreter's lock is not held. */
static void release_attached(void *value, void *Py_UNUSED(context)) {
    PyGILState_STATE state = PyGILState_Ensure();
    Py_DECREF((PyObject *)value);
    PyGILState_Release(state);
}

static PyObject *call_attach(PyObject *self, PyObject *arguments) {
    csw_call *call = open_call(self);
    Py_ssize_t i;
    PyObject *value;
    if (call == NULL || !PyArg_ParseTuple(arguments, "nO", &i, &value)) return NULL;
    csw_status status = csw_input_attach(call, (size_t)i, value, release_attached, NULL);
    if (status != CSW_OK) return raise_call(call, status);
    Py_INCREF(value);
    Py_RETURN_NONE;
}

static PyObject *call_output_content_type(PyObject *self, PyObject *argument) {
    csw_call *call = open_call(self);
    if (call == NULL) return NULL;
    Py_ssize_t i = position_of(argument, csw_output_count(call), "outputs");
    return i < 0 ? NULL : PyUnicode_FromString(csw_output_content_type(call, (size_t)i));
}

static PyObject *call_output_label(PyObject *self, PyObject *argument) {
    csw_call *call = open_call(self);
    if (call == NULL) return NULL;
    Py_ssize_t i = position_of(argument, csw_output_count(call), "outputs");
    return i < 0 ? NULL : PyUnicode_FromString(csw_output_label(call, (size_t)i));
}

static PyObject *call_output_is_directory(PyObject *self, PyObject *argument) {
    csw_call *call = open_call(self);
    if (call == NULL) return NULL;
    Py_ssize_t i = position_of(argument, csw_output_count(call), "outputs");
    return i < 0 ? NULL : PyBool_FromLong(csw_output_is_directory(call, (size_t)i));
}

static PyObject *call_staging_path(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    csw_call *call = open_call(self);
    const char *path;
    csw_status status = call == NULL ? CSW_OK : csw_staging_path(call, &path);
    if (call == NULL) return NULL;
    return status == CSW_OK ? PyUnicode_DecodeFSDefault(path) : raise_call(call, status);
}

/* --- Buffer ----------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject ob_base;
    Call *call;         /* NULL when it is over */
    csw_memory *memory; /* NULL while it is so small that the output will go into the message */
    char *data;         /* of the memory; else of PyMem, with room for `capacity` bytes */
    Py_ssize_t size, capacity;
    Py_ssize_t view_count; /* -1: another thread gives it another size */
} Buffer;

static PyTypeObject buffer_type;

/* Whether this process may ask the worker for something; else with an exception. */
static int is_task_itself(void) {
    if (is_child)
        PyErr_SetString(
            PyExc_RuntimeError, "only the process of the task has memory for results, not one that it forked");
    return !is_child;
}

/* Memory for an output, or NULL with an exception. */
static csw_memory *open_memory(Call *call, Py_ssize_t size) {
    csw_memory *memory;
    if (!is_task_itself()) return NULL;
    PyThreadState *state = leave_interpreter(call);
    csw_status status = csw_memory_open(call->call, (size_t)size, &memory);
    enter_interpreter(call, state);
    if (status != CSW_OK) raise_call(call->call, status);
    return memory;
}

static int is_large(Call *call, Py_ssize_t size) {
    return (size_t)size > csw_inline_bytes_max(csw_call_subworker(call->call));
}

/* Lets go of the buffers that nobody else has; in a forked process not: their files are those of the task's process. */
static int drop_unused(Call *call) {
    if (is_child) return 0;
    for (Py_ssize_t i = call->buffers == NULL ? 0 : PyList_GET_SIZE(call->buffers); i-- > 0;)
        if (Py_REFCNT(PyList_GET_ITEM(call->buffers, i)) == 1 && PyList_SetSlice(call->buffers, i, i + 1, NULL) != 0)
            return -1;
    return 0;
}

PyDoc_STRVAR(call_buffer_doc, "buffer(size)\n--\n\nZeroed memory for an output.");

static PyObject *call_buffer(PyObject *self, PyObject *argument) {
    Call *call = (Call *)self;
    Py_ssize_t size = PyNumber_AsSsize_t(argument, PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred()) return NULL;
    if (size < 0) return PyErr_Format(PyExc_ValueError, "a buffer of %zd bytes", size);
    /* Before it is this thread's turn: the collector of garbage may run others for it. */
    PyObject *buffers = call->buffers != NULL ? Py_NewRef(call->buffers) : PyList_New(0);
    if (buffers == NULL || open_call(self) == NULL) {
        Py_XDECREF(buffers);
        return NULL;
    }
    if (call->buffers == NULL)
        call->buffers = buffers;
    else
        Py_DECREF(buffers);
    if (drop_unused(call) != 0) return NULL;
    Buffer *buffer = PyObject_New(Buffer, &buffer_type);
    if (buffer == NULL) return NULL;
    *buffer = (Buffer){.ob_base = buffer->ob_base, .call = call, .size = size, .capacity = size};
    if (is_large(call, size)) {
        buffer->memory = open_memory(call, size);
        if (buffer->memory != NULL) buffer->data = csw_memory_data(buffer->memory);
    } else {
        buffer->data = PyMem_Calloc((size_t)size + 1, 1);
        if (buffer->data == NULL) PyErr_NoMemory();
    }
    if (buffer->data == NULL || PyList_Append(call->buffers, (PyObject *)buffer) != 0) Py_CLEAR(buffer);
    return (PyObject *)buffer;
}

static void buffer_dealloc(PyObject *self) {
    Buffer *buffer = (Buffer *)self;
    if (buffer->memory != NULL)
        csw_memory_close(buffer->memory);
    else
        PyMem_Free(buffer->data);
    PyObject_Free(self);
}

static int buffer_getbuffer(PyObject *self, Py_buffer *view, int flags) {
    Buffer *buffer = (Buffer *)self;
    if (buffer->view_count < 0) {
        PyErr_SetString(PyExc_BufferError, "the buffer is being resized");
        view->obj = NULL;
        return -1;
    }
    if (PyBuffer_FillInfo(view, self, buffer->data, buffer->size, 0, flags) != 0) return -1;
    buffer->view_count += 1;
    return 0;
}

static void buffer_releasebuffer(PyObject *self, Py_buffer *Py_UNUSED(view)) {
    ((Buffer *)self)->view_count -= 1;
}

static Py_ssize_t buffer_length(PyObject *self) {
    return ((Buffer *)self)->size;
}

/* Gives a small buffer another size. Returns whether it succeeded. */
static int resize_small(Buffer *buffer, Py_ssize_t size) {
    if (size > buffer->capacity) {
        Py_ssize_t capacity = size > 2 * buffer->capacity ? size : 2 * buffer->capacity;
        char *data = PyMem_Realloc(buffer->data, (size_t)capacity + 1);
        if (data == NULL) {
            PyErr_NoMemory();
            return 0;
        }
        buffer->data = data;
        buffer->capacity = capacity;
    }
    if (size > buffer->size) memset(buffer->data + buffer->size, 0, (size_t)(size - buffer->size));
    buffer->size = size;
    return 1;
}

static int resize_memory(Buffer *buffer, Py_ssize_t size) {
    Call *call = buffer->call;
    void *data;
    if (!is_task_itself()) return 0;
    buffer->view_count = -1;
    PyThreadState *state = leave_interpreter(call);
    csw_status status = csw_memory_resize(buffer->memory, (size_t)size, &data);
    enter_interpreter(call, state);
    buffer->view_count = 0;
    buffer->data = data;
    if (status != CSW_OK) {
        raise_call(call->call, status);
        return 0;
    }
    buffer->size = size;
    return 1;
}

/* Goes on in memory of an object. */
static int become_memory(Buffer *buffer, Py_ssize_t size) {
    buffer->view_count = -1;
    csw_memory *memory = open_memory(buffer->call, size);
    buffer->view_count = 0;
    if (memory == NULL) return 0;
    memcpy(csw_memory_data(memory), buffer->data, (size_t)buffer->size);
    PyMem_Free(buffer->data);
    buffer->memory = memory;
    buffer->data = csw_memory_data(memory);
    buffer->size = size;
    return 1;
}

/* Whether the buffer may get another size now, once other threads have done with it; else with an exception. */
static int may_resize(Buffer *buffer) {
    Call *call = (Call *)Py_XNewRef(buffer->call); /* It may be over, and gone, after the wait. */
    if (call == NULL || open_call((PyObject *)call) == NULL) {
        if (call == NULL || call->call == NULL) {
            PyErr_Clear();
            PyErr_SetString(PyExc_RuntimeError, "the call of this buffer is over");
        }
    } else if (buffer->view_count != 0) {
        PyErr_SetString(PyExc_BufferError, "a buffer that an array or a memoryview uses can't be resized");
    }
    Py_XDECREF(call);
    return PyErr_Occurred() == NULL;
}

/* After may_resize(). */
static int set_size(Buffer *buffer, Py_ssize_t size) {
    if (buffer->memory != NULL) return resize_memory(buffer, size);
    return is_large(buffer->call, size) ? become_memory(buffer, size) : resize_small(buffer, size);
}

PyDoc_STRVAR(
    buffer_resize_doc, "resize(size)\n--\n\n"
                       "Makes it larger, by zeros, or smaller. Not while an array or a memoryview uses it.");

static PyObject *buffer_resize(PyObject *self, PyObject *argument) {
    Py_ssize_t size = PyNumber_AsSsize_t(argument, PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred()) return NULL;
    if (size < 0) return PyErr_Format(PyExc_ValueError, "a buffer of %zd bytes", size);
    if (!may_resize((Buffer *)self) || !set_size((Buffer *)self, size)) return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    buffer_write_doc, "write(data)\n--\n\nAppends bytes, as a file does; so `pickle.dump(value, buffer)` works too.");

static PyObject *buffer_write(PyObject *self, PyObject *argument) {
    Buffer *buffer = (Buffer *)self;
    Py_buffer view;
    PyObject *result = NULL;
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE) != 0) return NULL;
    if (may_resize(buffer)) {
        Py_ssize_t size = buffer->size;
        if (view.len > PY_SSIZE_T_MAX - size) {
            PyErr_NoMemory();
        } else if (set_size(buffer, size + view.len)) {
            memcpy(buffer->data + size, view.buf, (size_t)view.len);
            result = PyLong_FromSsize_t(view.len);
        }
    }
    PyBuffer_Release(&view);
    return result;
}

static PyMethodDef buffer_methods[] = {
    {"resize", buffer_resize, METH_O, buffer_resize_doc},
    {"write", buffer_write, METH_O, buffer_write_doc},
    {NULL, NULL, 0, NULL},
};
static PyBufferProcs buffer_procedures = {.bf_getbuffer = buffer_getbuffer, .bf_releasebuffer = buffer_releasebuffer};
static PySequenceMethods buffer_sequence = {.sq_length = buffer_length};
static PyTypeObject buffer_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "rain._csubworker.Buffer",
    .tp_doc = PyDoc_STR("Writable memory that becomes an output without a copy."),
    .tp_basicsize = sizeof(Buffer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = buffer_dealloc,
    .tp_methods = buffer_methods,
    .tp_as_buffer = &buffer_procedures,
    .tp_as_sequence = &buffer_sequence,
};

/* The buffer whose first bytes these are, or NULL. */
static Buffer *buffer_of(Call *call, const Py_buffer *view) {
    for (Py_ssize_t i = call->buffers == NULL ? 0 : PyList_GET_SIZE(call->buffers); i-- > 0;) {
        Buffer *buffer = (Buffer *)PyList_GET_ITEM(call->buffers, i);
        if (buffer->memory != NULL && buffer->data == view->buf && view->len <= buffer->size) return buffer;
    }
    return NULL;
}

PyDoc_STRVAR(call_holds_doc, "holds(data)\n--\n\nWhether these are the first bytes of a large buffer of this call.");

static PyObject *call_holds(PyObject *self, PyObject *data) {
    Py_buffer view;
    if (open_call(self) == NULL || PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) != 0) return NULL;
    int holds = buffer_of((Call *)self, &view) != NULL;
    PyBuffer_Release(&view);
    return PyBool_FromLong(holds);
}

/* --- Outputs of a call ------------------------------------------------------------------------------------------ */

/* Makes output i the bytes of several objects, one after the other. Returns whether it succeeded. */
static int output_parts(Call *self, size_t i, PyObject *const *parts, Py_ssize_t count) {
    csw_call *call = self->call;
    Py_buffer *views = PyMem_Calloc((size_t)count + 1, sizeof(Py_buffer));
    csw_bytes *pieces = PyMem_Calloc((size_t)count + 1, sizeof(csw_bytes));
    Py_ssize_t taken = 0;
    size_t size = 0;
    int is_done = 0;
    if (views == NULL || pieces == NULL) {
        PyErr_NoMemory();
        goto out;
    }
    for (; taken < count; taken++) {
        if (PyObject_GetBuffer(parts[taken], &views[taken], PyBUF_SIMPLE) != 0) goto out;
        pieces[taken].data = views[taken].buf;
        size += pieces[taken].size = (size_t)views[taken].len;
    }
    /* A large one is written, and may have to wait for room. */
    Buffer *buffer = count == 1 ? buffer_of(self, views) : NULL;
    PyThreadState *state = size > csw_inline_bytes_max(csw_call_subworker(call)) ? leave_interpreter(self) : NULL;
    csw_status status = buffer != NULL ? csw_output_memory(call, i, buffer->memory, size)
                                       : csw_output_parts(call, i, pieces, (size_t)count);
    if (state != NULL) enter_interpreter(self, state);
    if (status != CSW_OK)
        raise_call(call, status);
    else
        is_done = 1;
out:
    for (Py_ssize_t part = 0; part < taken; part++)
        PyBuffer_Release(&views[part]);
    PyMem_Free(views);
    PyMem_Free(pieces);
    return is_done;
}

/* Sets content type and attributes (JSON text) of output i; either may be NULL. */
static csw_status output_facts(csw_call *call, size_t i, const char *content_type, const char *json, Py_ssize_t size) {
    csw_status status = CSW_OK;
    if (content_type != NULL) status = csw_output_set_content_type(call, i, content_type);
    if (status == CSW_OK && json != NULL) status = csw_output_set_attributes(call, i, json, (size_t)size);
    return status;
}

PyDoc_STRVAR(
    call_set_output_doc,
    "set_output(position, data, content_type=None, attributes=None)\n--\n\n"
    "An output is these bytes, or the parts in this list one after the other; attributes are JSON text.");

static PyObject *call_set_output(PyObject *self, PyObject *arguments) {
    csw_call *call = open_call(self);
    Py_ssize_t i, json_size = 0;
    PyObject *data;
    const char *content_type = NULL, *json = NULL;
    if (call == NULL || !PyArg_ParseTuple(arguments, "nO|zz#", &i, &data, &content_type, &json, &json_size))
        return NULL;
    csw_status status = CSW_OK;
    if (PyBytes_CheckExact(data) && (size_t)PyBytes_GET_SIZE(data) <= csw_inline_bytes_max(csw_call_subworker(call))) {
        status = csw_output_bytes(call, (size_t)i, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data));
    } else if (PyList_CheckExact(data)) {
        if (!output_parts((Call *)self, (size_t)i, PySequence_Fast_ITEMS(data), PyList_GET_SIZE(data))) return NULL;
    } else if (!output_parts((Call *)self, (size_t)i, &data, 1)) {
        return NULL;
    }
    if (status == CSW_OK) status = output_facts(call, (size_t)i, content_type, json, json_size);
    return call_outcome(call, status);
}

PyDoc_STRVAR(
    call_set_output_path_doc, "set_output_path(position, path, attributes=None)\n--\n\n"
                              "An output is this file or directory, which is moved away.");

static PyObject *call_set_output_path(PyObject *self, PyObject *arguments) {
    csw_call *call = open_call(self);
    Py_ssize_t i, json_size = 0;
    PyObject *path;
    const char *json = NULL;
    if (call == NULL || !PyArg_ParseTuple(arguments, "nO&|z#", &i, PyUnicode_FSConverter, &path, &json, &json_size))
        return NULL;
    csw_status status = csw_output_path(call, (size_t)i, PyBytes_AS_STRING(path));
    Py_DECREF(path);
    if (status == CSW_OK) status = output_facts(call, (size_t)i, NULL, json, json_size);
    return call_outcome(call, status);
}

PyDoc_STRVAR(
    call_pass_input_doc, "pass_input(position, input, content_type=None, attributes=None)\n--\n\n"
                         "An output is the same data as an input; nothing is copied.");

static PyObject *call_pass_input(PyObject *self, PyObject *arguments) {
    csw_call *call = open_call(self);
    Py_ssize_t i, j, json_size = 0;
    const char *content_type = NULL, *json = NULL;
    if (call == NULL || !PyArg_ParseTuple(arguments, "nn|zz#", &i, &j, &content_type, &json, &json_size)) return NULL;
    csw_status status = csw_output_same_as_input(call, (size_t)i, (size_t)j);
    if (status == CSW_OK) status = output_facts(call, (size_t)i, content_type, json, json_size);
    return call_outcome(call, status);
}

static PyObject *call_debug(PyObject *self, PyObject *argument) {
    csw_call *call = open_call(self);
    Py_ssize_t size;
    const char *text = call == NULL ? NULL : PyUnicode_AsUTF8AndSize(argument, &size);
    return text == NULL ? NULL : call_outcome(call, csw_debug_text(call, text, (size_t)size));
}

PyDoc_STRVAR(
    call_progress_doc,
    "progress(fraction, text)\n--\n\nTells how far the task is, from 0 to 1, and a line on what it does.");

static PyObject *call_progress(PyObject *self, PyObject *arguments) {
    csw_call *call = open_call(self);
    double fraction;
    const char *text;
    if (call == NULL || !PyArg_ParseTuple(arguments, "ds", &fraction, &text)) return NULL;
    return call_outcome(call, csw_progress(call, fraction, text));
}

static PyObject *call_set_attributes(PyObject *self, PyObject *argument) {
    csw_call *call = open_call(self);
    Py_ssize_t size;
    const char *text = call == NULL ? NULL : PyUnicode_AsUTF8AndSize(argument, &size);
    return text == NULL ? NULL : call_outcome(call, csw_set_attributes(call, text, (size_t)size));
}

/* Ends the call with a status; the object is of no use afterwards. */
static PyObject *end_call(PyObject *self, csw_call *call, csw_status outcome) {
    csw_subworker *subworker = csw_call_subworker(call);
    csw_status status;
    Call *ended = (Call *)self;
    /* One that nobody has is given up here, for less than making its pages this process's own. */
    if (drop_unused(ended) != 0) PyErr_Clear();
    ended->call = NULL;
    for (Py_ssize_t i = ended->buffers == NULL ? 0 : PyList_GET_SIZE(ended->buffers); i-- > 0;)
        ((Buffer *)PyList_GET_ITEM(ended->buffers, i))->call = NULL;
    Py_BEGIN_ALLOW_THREADS status = csw_finish(call, outcome);
    Py_END_ALLOW_THREADS Py_CLEAR(ended->buffers);
    if (status != CSW_OK) {
        PyErr_SetString(subworker_error, csw_message(subworker));
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(call_finish_doc, "finish()\n--\n\nEnds the call: every output is set.");

static PyObject *call_finish(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    csw_call *call = open_call(self);
    return call == NULL ? NULL : end_call(self, call, CSW_OK);
}

PyDoc_STRVAR(call_fail_doc, "fail(message, detail)\n--\n\nEnds the call: the task failed.");

static PyObject *call_fail(PyObject *self, PyObject *arguments) {
    csw_call *call = open_call(self);
    const char *message, *detail;
    Py_ssize_t message_size, detail_size;
    if (call == NULL || !PyArg_ParseTuple(arguments, "s#s#", &message, &message_size, &detail, &detail_size))
        return NULL;
    return end_call(self, call, csw_fail_text(call, message, (size_t)message_size, detail, (size_t)detail_size));
}

static PyMethodDef call_methods[] = {
    {"input", call_input, METH_O, PyDoc_STR("The bytes of an input: bytes, or a Mapping of a large one.")},
    {"input_content_type", call_input_content_type, METH_O, NULL},
    {"input_attributes", call_input_attributes, METH_O, PyDoc_STR("JSON text.")},
    {"input_is_directory", call_input_is_directory, METH_O, PyDoc_STR("It has a path and no bytes.")},
    {"input_path", call_input_path, METH_O, PyDoc_STR("Where an input can be read while the call lasts.")},
    {"input_is_cached", call_input_is_cached, METH_O, PyDoc_STR("Whether attach() works.")},
    {"input_attached", call_input_attached, METH_O, PyDoc_STR("What attach() hung on an input, or None.")},
    {"attach", call_attach, METH_VARARGS, PyDoc_STR("Hangs a value on an input that comes again.")},
    {"output_label", call_output_label, METH_O, NULL},
    {"output_content_type", call_output_content_type, METH_O, PyDoc_STR("As the client declared it.")},
    {"output_is_directory", call_output_is_directory, METH_O, PyDoc_STR("As the client declared it.")},
    {"staging_path", call_staging_path, METH_NOARGS, PyDoc_STR("A fresh path for an output; nothing is there.")},
    {"buffer", call_buffer, METH_O, call_buffer_doc},
    {"holds", call_holds, METH_O, call_holds_doc},
    {"set_output", call_set_output, METH_VARARGS, call_set_output_doc},
    {"set_output_path", call_set_output_path, METH_VARARGS, call_set_output_path_doc},
    {"pass_input", call_pass_input, METH_VARARGS, call_pass_input_doc},
    {"debug", call_debug, METH_O, PyDoc_STR("Adds a line to the task's debug text.")},
    {"progress", call_progress, METH_VARARGS, call_progress_doc},
    {"set_attributes", call_set_attributes, METH_O, PyDoc_STR("JSON text of the task's own attributes.")},
    {"finish", call_finish, METH_NOARGS, call_finish_doc},
    {"fail", call_fail, METH_VARARGS, call_fail_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef call_properties[] = {
    {"template", call_get_template, NULL, PyDoc_STR("Equal for calls with one function and configuration."), NULL},
    {"method", call_get_method, NULL, NULL, NULL},
    {"name", call_get_name, NULL, NULL, NULL},
    {"config", call_get_config, NULL, PyDoc_STR("JSON text."), NULL},
    {"arguments", call_get_arguments, NULL, PyDoc_STR("JSON text."), NULL},
    {"attributes", call_get_attributes, NULL, PyDoc_STR("JSON text of the client's own."), NULL},
    {"array_index", call_get_array_index, NULL, NULL, NULL},
    {"session", call_get_session, NULL, NULL, NULL},
    {"task", call_get_task, NULL, NULL, NULL},
    {"input_count", call_get_input_count, NULL, NULL, NULL},
    {"constant_count", call_get_constant_count, NULL, NULL, NULL},
    {"output_count", call_get_output_count, NULL, NULL, NULL},
    {"is_cancelled", call_get_is_cancelled, NULL, PyDoc_STR("Whether the task should stop soon."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject call_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "rain._csubworker.Call",
    .tp_doc = PyDoc_STR("One run of a task."),
    .tp_basicsize = sizeof(Call),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = call_dealloc,
    .tp_methods = call_methods,
    .tp_getset = call_properties,
};

/* --- Subworker -------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject ob_base;
    csw_subworker *subworker;
} Subworker;

static void subworker_dealloc(PyObject *self) {
    csw_close(((Subworker *)self)->subworker);
    PyObject_Free(self);
}

static PyObject *raise_subworker(csw_subworker *subworker, csw_status status) {
    const char *text = csw_message(subworker);
    PyErr_SetString(subworker_error, text[0] != '\0' ? text : csw_status_text(status));
    return NULL;
}

static PyObject *subworker_next(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    csw_subworker *subworker = ((Subworker *)self)->subworker;
    csw_call *open;
    csw_status status;
    Py_BEGIN_ALLOW_THREADS status = csw_next(subworker, &open);
    Py_END_ALLOW_THREADS if (status != CSW_OK) return raise_subworker(subworker, status);
    if (open == NULL) Py_RETURN_NONE;
    Call *call = PyObject_New(Call, &call_type);
    if (call == NULL) return NULL;
    call->call = open;
    call->subworker = Py_NewRef(self);
    call->buffers = NULL;
    call->is_waiting = 0;
    return (PyObject *)call;
}

static PyObject *subworker_get_staging(PyObject *self, void *Py_UNUSED(closure)) {
    return PyUnicode_DecodeFSDefault(csw_staging_directory(((Subworker *)self)->subworker));
}

static PyObject *subworker_get_worker_name(PyObject *self, void *Py_UNUSED(closure)) {
    return PyUnicode_FromString(csw_worker_name(((Subworker *)self)->subworker));
}

static PyMethodDef subworker_methods[] = {
    {"next", subworker_next, METH_NOARGS, PyDoc_STR("Waits for the next call; None at the end.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef subworker_properties[] = {
    {"staging_directory", subworker_get_staging, NULL, NULL, NULL},
    {"worker_name", subworker_get_worker_name, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject subworker_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "rain._csubworker.Subworker",
    .tp_doc = PyDoc_STR("The connection to the worker."),
    .tp_basicsize = sizeof(Subworker),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = subworker_dealloc,
    .tp_methods = subworker_methods,
    .tp_getset = subworker_properties,
};

PyDoc_STRVAR(
    module_connect_doc, "connect(library)\n--\n\n"
                        "Registers at the worker that started this process, for every task of its name.");

static PyObject *module_connect(PyObject *Py_UNUSED(module), PyObject *arguments) {
    csw_options options = CSW_OPTIONS_INIT;
    if (!PyArg_ParseTuple(arguments, "s", &options.library)) return NULL;
    Subworker *self = PyObject_New(Subworker, &subworker_type);
    if (self == NULL) return NULL;
    self->subworker = NULL;
    csw_status status = csw_open(&options, &self->subworker);
    if (status != CSW_OK) {
        Py_DECREF(self);
        PyErr_SetString(subworker_error, csw_status_text(status));
        return NULL;
    }
    csw_task_type type = CSW_TASK_TYPE_INIT;
    type.name = "call";
    type.documentation = "Calls the Python function in the first input.";
    csw_task(self->subworker, &type);
    Py_BEGIN_ALLOW_THREADS status = csw_connect(self->subworker);
    Py_END_ALLOW_THREADS if (status != CSW_OK) {
        raise_subworker(self->subworker, status);
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyObject *module_forked(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    is_child = 1;
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"connect", module_connect, METH_VARARGS, module_connect_doc},
    {"forked", module_forked, METH_NOARGS, PyDoc_STR("Says that this is a process that a task forked.")},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, .m_name = "rain._csubworker", .m_doc = "The C scaffold for Python's subworker.",
    .m_size = -1,          .m_methods = module_methods,
};

PyMODINIT_FUNC PyInit__csubworker(void) {
    if (PyType_Ready(&mapping_type) != 0 || PyType_Ready(&buffer_type) != 0 || PyType_Ready(&call_type) != 0 ||
        PyType_Ready(&subworker_type) != 0)
        return NULL;
    waiting_lock = PyThread_allocate_lock();
    if (waiting_lock == NULL) return PyErr_NoMemory();
    PyObject *module = PyModule_Create(&module_definition);
    if (module == NULL) return NULL;
    subworker_error = PyErr_NewException("rain._csubworker.Error", NULL, NULL);
    if (subworker_error == NULL || PyModule_AddObjectRef(module, "Error", subworker_error) != 0 ||
        PyModule_AddObjectRef(module, "Buffer", (PyObject *)&buffer_type) != 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
