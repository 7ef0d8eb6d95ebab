/* Where a program makes a task: looked at for every one, so in C. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

enum { count_limit = 32 };

/* A place in the program: code that somebody keeps has an address of its own. */
typedef struct {
    uintptr_t code;
    intptr_t instruction;
} place;

#if PY_VERSION_HEX >= 0x030B0000
static PyObject *globals_of(PyFrameObject *frame) {
    return PyFrame_GetGlobals(frame);
}
static int instruction_of(PyFrameObject *frame, intptr_t *instruction) {
    *instruction = PyFrame_GetLasti(frame);
    return 0;
}
#else
static PyObject *globals_of(PyFrameObject *frame) {
    return PyObject_GetAttrString((PyObject *)frame, "f_globals");
}
static int instruction_of(PyFrameObject *frame, intptr_t *instruction) {
    PyObject *value = PyObject_GetAttrString((PyObject *)frame, "f_lasti");
    if (!value) return -1;
    *instruction = PyLong_AsSsize_t(value);
    Py_DECREF(value);
    return PyErr_Occurred() ? -1 : 0;
}
#endif

/* 1: a function of the package; 0: it isn't; -1: an error. */
static int is_inside(PyFrameObject *frame, PyObject *package) {
    PyObject *globals = globals_of(frame);
    if (!globals) return -1;
    PyObject *name = PyDict_Check(globals) ? PyDict_GetItemString(globals, "__package__") : NULL;
    int result = 0;
    if (name == package)
        result = 1;
    else if (name && PyUnicode_Check(name))
        result = PyUnicode_Compare(name, package) == 0;
    Py_DECREF(globals);
    return result;
}

/* Steps outwards; takes over the reference to `frame`. */
static PyFrameObject *outer(PyFrameObject *frame) {
    PyFrameObject *back = PyFrame_GetBack(frame);
    Py_DECREF(frame);
    return back;
}

static PyObject *call_site(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    if (count != 2 || !PyUnicode_Check(arguments[0])) {
        PyErr_SetString(PyExc_TypeError, "call_site(package, count) wants a str and an int");
        return NULL;
    }
    long wanted = PyLong_AsLong(arguments[1]);
    if (wanted == -1 && PyErr_Occurred()) return NULL;
    if (wanted < 1 || wanted > count_limit) {
        PyErr_Format(PyExc_ValueError, "count is a number from 1 to %d, not %ld", count_limit, wanted);
        return NULL;
    }
    PyFrameObject *frame = PyEval_GetFrame();
    Py_XINCREF(frame);
    while (frame) {
        int inside = is_inside(frame, arguments[0]);
        if (inside < 0) goto failed;
        if (!inside) break;
        frame = outer(frame);
    }
    if (!frame) {
        PyErr_SetString(PyExc_RuntimeError, "call_site: no frame is outside of the package");
        return NULL;
    }
    place places[count_limit];
    size_t found = 0;
    PyFrameObject *at = frame;
    Py_INCREF(at);
    while (at && found < (size_t)wanted) {
        PyCodeObject *code = PyFrame_GetCode(at);
        places[found].code = (uintptr_t)code;
        Py_DECREF(code);
        if (instruction_of(at, &places[found].instruction) != 0) {
            Py_DECREF(at);
            goto failed;
        }
        ++found;
        at = outer(at);
    }
    Py_XDECREF(at);
    PyObject *key = PyBytes_FromStringAndSize((const char *)places, (Py_ssize_t)(found * sizeof *places));
    if (!key) goto failed;
    PyObject *result = PyTuple_Pack(2, key, frame);
    Py_DECREF(key);
    Py_DECREF(frame);
    return result;
failed:
    Py_DECREF(frame);
    return NULL;
}

PyDoc_STRVAR(
    call_site_doc,
    "call_site(package, count)\n--\n\n"
    "Where the program is, outside of a package; for a function of the package.\n\n"
    "Returns:\n"
    "    (key, frame): bytes that are equal for the same place, and stay unique while somebody keeps the code of\n"
    "    its innermost `count` frames; and the innermost frame, which nobody should keep.\n");

static PyMethodDef methods[] = {
    {"call_site", (PyCFunction)(void (*)(void))call_site, METH_FASTCALL, call_site_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "rain._sites", .m_doc = "Places in a program.", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__sites(void) {
    return PyModuleDef_Init(&definition);
}
