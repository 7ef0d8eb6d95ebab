/* A call without a worker: the functions of csubworker.h that the ffi subworker uses, in memory. */
#ifndef FAKE_CALL_H
#define FAKE_CALL_H

#include <csubworker.h>

enum { fake_inputs_max = 8, fake_outputs_max = 8 };

struct csw_call {
    const char *arguments;
    size_t input_count, output_count;
    struct {
        const char *label, *content_type;
        void *data; /* in memory of exactly its size */
        size_t size;
    } inputs[fake_inputs_max];
    struct {
        char *content_type, *declared_type;
        unsigned char *data;
        size_t size;
        bool is_set;
    } outputs[fake_outputs_max];
    size_t offset;      /* of inputs from an aligned address */
    uint64_t bytes_max; /* an output of more can't be made */
    char message[2048];
};

/* Adds inputs: `label=array/f8[2]:1,2; text:bytes; :bytes`. */
void fake_inputs(csw_call *call, const char *text);
/* The outputs as text: `array/f8[]: 1; array/u1: 1,2`. */
void fake_show(const csw_call *call, char *out, size_t size);
void fake_release(csw_call *call);

#endif
