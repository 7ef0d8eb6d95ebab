/* XXH3-128 for the client, which checks what it fetches. xxhash.h is compiled in: nothing has to be installed where the client runs. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static PyObject *digest(PyObject *module, PyObject *argument) {
    (void)module;
    Py_buffer view;
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE) != 0) return NULL;
    XXH128_hash_t hash;
    if (view.len > 1 << 16) {
        Py_BEGIN_ALLOW_THREADS hash = XXH3_128bits(view.buf, (size_t)view.len);
        Py_END_ALLOW_THREADS
    } else {
        hash = XXH3_128bits(view.buf, (size_t)view.len);
    }
    PyBuffer_Release(&view);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    return PyBytes_FromStringAndSize((const char *)canonical.digest, sizeof canonical.digest);
}

static PyMethodDef methods[] = {
    {"digest", digest, METH_O, "The 16 bytes of the XXH3-128 of bytes, in canonical order."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "rain._xxh3", .m_doc = "The checksum of transfers.",
    .m_size = 0,           .m_methods = methods,
};

PyMODINIT_FUNC PyInit__xxh3(void) {
    return PyModuleDef_Init(&definition);
}
