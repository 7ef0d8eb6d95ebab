/* rain._declarations: what declarations of C functions say, read by the same code as in the ffi subworker. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "declarations.h"

static PyObject *raise_error(const decl_error *error, const char *declarations, size_t size) {
    text shown = {0};
    decl_error_print(error, "declarations", declarations, size, &shown);
    PyObject *message =
        shown.bytes != NULL ? PyUnicode_DecodeUTF8(shown.bytes, (Py_ssize_t)shown.size, "replace") : NULL;
    text_release(&shown);
    if (message == NULL) return PyErr_NoMemory();
    PyErr_SetObject(PyExc_ValueError, message);
    Py_DECREF(message);
    return NULL;
}

static PyObject *describe(PyObject *module, PyObject *argument) {
    (void)module;
    Py_ssize_t size;
    const char *declarations = PyUnicode_AsUTF8AndSize(argument, &size);
    if (declarations == NULL) return NULL;
    decl_file file;
    decl_error error;
    PyObject *made = NULL;
    if (decl_parse(declarations, (size_t)size, &file, &error)) {
        text shown = {0};
        decl_describe(&file, &shown);
        made = shown.has_failed ? PyErr_NoMemory() : PyUnicode_FromStringAndSize(shown.bytes, (Py_ssize_t)shown.size);
        text_release(&shown);
    } else {
        made = raise_error(&error, declarations, (size_t)size);
    }
    decl_release(&file);
    return made;
}

static PyMethodDef methods[] = {
    {"describe", describe, METH_O,
     "describe(text) -> JSON text: the functions that the declarations have, with inputs and outputs. Raises "
     "ValueError."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_declarations", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__declarations(void) {
    return PyModule_Create(&definition);
}
