/* What a worker sends, as a whole subworker takes it: any stream at all must end in results and a status, never in a crash, a
 * leak or a descriptor that stays open. The first byte of an input says what the worker offers. */
#define _GNU_SOURCE
#include "subworker.h"
#include "protocol.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { has_page = 1, has_descriptors = 2, has_credit = 4, takes_progress = 8 };
enum { template_count = 3 };

static volatile uint64_t sink;
static char staging[] = "/tmp/fuzz-subworker-XXXXXX";
static int file, page;
static csw_memory *kept;

static void must(bool is_good, const char *what) {
    if (is_good) return;
    perror(what);
    abort();
}

static void touch(csw_bytes bytes) {
    for (size_t i = 0; i < bytes.size; i += 1)
        sink += ((const uint8_t *)bytes.data)[i];
}

static void destroy(void *value, void *context) {
    (void)context;
    free(value);
}

static void touch_input(csw_call *call, size_t i) {
    csw_bytes bytes;
    const char *path;
    sink += strlen(csw_input_label(call, i)) + strlen(csw_input_content_type(call, i)) + csw_input_key(call, i).index;
    touch(csw_input_attributes(call, i));
    if (csw_input_bytes(call, i, &bytes) == CSW_OK && bytes.size < 1 << 20) touch(bytes);
    if (csw_input_size(call, i) < 1 << 16 && csw_input_path(call, i, &path) == CSW_OK) sink += strlen(path);
    int *value = csw_input_attached(call, i);
    if (value != NULL) sink += (uint64_t)*value;
    if (!csw_input_is_cached(call, i)) return;
    value = calloc(1, sizeof *value);
    if (value != NULL && csw_input_attach(call, i, value, destroy, NULL) != CSW_OK) free(value);
}

static csw_status use_everything(csw_call *call, void *context) {
    (void)context;
    touch(csw_call_config(call));
    touch(csw_call_arguments(call));
    touch(csw_call_attributes(call));
    sink += strlen(csw_call_name(call)) + csw_call_attempt(call).task;
    csw_debug(call, "%s", csw_call_method(call));
    csw_progress(call, 0.5, "half");
    for (size_t i = 0; i < csw_input_count(call); i += 1)
        touch_input(call, i);
    for (size_t i = 0; i < csw_output_count(call); i += 1) {
        void *room;
        csw_status status = CSW_OK;
        size_t kind = (csw_call_arguments(call).size + i) % 5;
        csw_memory *memory;
        if (kind == 0) status = csw_output_printf(call, i, "%s", csw_output_label(call, i));
        if (kind == 1) status = csw_output_buffer(call, i, 200, &room);
        if (kind == 2 && (status = csw_output_buffer(call, i, 10, &room)) == CSW_OK)
            status = csw_output_resize(call, i, 5000, &room);
        if (kind == 3) status = csw_output_same_as_input(call, i, i);
        /* Some of it is closed within the call, some when the scaffold has taken it from there. */
        if (kind == 4 && (status = csw_memory_open(call, 3000, &memory)) == CSW_OK) {
            memset(csw_memory_data(memory), 'm', 3000);
            status = csw_output_memory(call, i, memory, 200 * (i % 16));
            csw_memory_close(kept);
            kept = memory;
        }
        if (status != CSW_OK) return status;
    }
    return csw_cancelled(call) ? CSW_ECANCELLED : CSW_OK;
}

/* --- The worker's side ------------------------------------------------------------------------------------------ */

static void send_all(int socket, const void *data, size_t size, bool are_descriptors_sent) {
    union {
        struct cmsghdr alignment;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct iovec part = {(void *)data, size};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (size == 0) return;
    if (are_descriptors_sent) {
        header.msg_control = control.bytes;
        header.msg_controllen = sizeof control.bytes;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(2 * sizeof(int));
        int descriptors[2] = {file, file};
        memcpy(CMSG_DATA(rights), descriptors, sizeof descriptors);
    }
    must(sendmsg(socket, &header, MSG_NOSIGNAL) == (ssize_t)size, "sendmsg");
}

/* A welcome, and templates 0 to 2: with inputs and outputs of any number, of one each, and of a method that is not there. */
static void send_beginning(int socket, uint8_t offers) {
    static const char *const methods[template_count] = {"any", "one", "none"};
    csw_builder builder = {0};
    must(csw_builder_reserve(&builder, 1 << 12), "reserve");
    csw_builder_start(&builder, 2, 1);
    csw_place self = csw_put_struct(&builder, CSW_ROOT_PLACE + 2, 2, 2);
    csw_put_u16(&builder, self, 0, CSW_PROTOCOL_VERSION);
    csw_put_u8(&builder, self, 2, (offers & takes_progress) != 0 ? 1 : 0);
    csw_put_u32(&builder, self, 4, 100);
    csw_put_u64(&builder, self, 8, (offers & has_credit) != 0 ? 1000 : 0);
    csw_put_text(&builder, self + 3, staging, strlen(staging));
    csw_builder_finish(&builder);
    send_all(socket, builder.bytes, builder.words * 8, false);
    csw_builder_start(&builder, 2, 1);
    csw_put_u16(&builder, CSW_ROOT_PLACE, 2, CSW_MESSAGE_TEMPLATES);
    csw_place items = csw_put_structs(&builder, CSW_ROOT_PLACE + 2, template_count, 1, 6);
    for (uint32_t i = 0; i < template_count; i += 1) {
        csw_place item = items + i * 7;
        csw_put_u32(&builder, item, 0, i);
        csw_put_text(&builder, item + 1, methods[i], strlen(methods[i]));
        csw_put_structs(&builder, item + 1 + 4, i == 0 ? 3 : 1, 1, 2);
    }
    csw_builder_finish(&builder);
    send_all(socket, builder.bytes, builder.words * 8, false);
    csw_builder_release(&builder);
}

static void discard(int socket) {
    char bytes[65536];
    while (recv(socket, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {}
}

static void remove_outputs(void) {
    DIR *directory = opendir(staging);
    must(directory != NULL, "opendir");
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.') unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
}

static void set_descriptor(const char *variable, int descriptor) {
    char text[16];
    snprintf(text, sizeof text, "%d", descriptor);
    setenv(variable, text, 1);
}

static void prepare(void) {
    must(mkdtemp(staging) != NULL, "mkdtemp");
    file = memfd_create("input", MFD_CLOEXEC);
    page = memfd_create("page", MFD_CLOEXEC);
    must(file >= 0 && page >= 0 && ftruncate(page, 4096) == 0, "memfd_create");
    must(write(file, "8 bytes.", 8) == 8, "write");
}

static void queue_slots(void) {
    uint32_t slots[64][16] = {{0}};
    for (size_t i = 0; i < 64; i += 1)
        slots[i][0] = CSW_SLOT_QUEUED;
    must(pwrite(page, slots, sizeof slots, 0) == sizeof slots, "pwrite");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool is_prepared;
    if (!is_prepared) prepare();
    is_prepared = true;
    uint8_t offers = size != 0 ? data[0] : 0;
    int ends[2];
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
    int large = 8 << 20; /* nobody reads while the library waits */
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUFFORCE, &large, sizeof large);
    send_beginning(ends[0], offers);
    if (size > 1) send_all(ends[0], data + 1, size - 1, (offers & has_descriptors) != 0);
    shutdown(ends[0], SHUT_WR);
    set_descriptor("RAIN_SUBWORKER_SOCKET", ends[1]);
    if ((offers & has_page) != 0) {
        queue_slots();
        set_descriptor("RAIN_CONTROL_PAGE", dup(page));
    }
    static const char *const label[] = {"label"};
    csw_options options = CSW_OPTIONS_INIT;
    options.message_bytes_max = 1 << 20;
    csw_subworker *subworker;
    must(csw_open(&options, &subworker) == CSW_OK, "csw_open");
    csw_task(subworker, &(csw_task_type){CSW_TASK, .name = "any", .function = use_everything});
    csw_task(
        subworker, &(csw_task_type){
                       CSW_TASK, .name = "one", .inputs = label, .input_count = 1, .outputs = label, .output_count = 1,
                       .function = use_everything});
    for (;;) {
        csw_call *call;
        csw_status status = csw_next(subworker, &call);
        discard(ends[0]);
        if (status != CSW_OK || call == NULL) break;
        status = csw_finish(call, csw_call_function(call)(call, NULL));
        if (status != CSW_OK) break;
    }
    /* A message says why it is over, unless the stream just ended. */
    if (subworker->life == CSW_LIFE_FAILED && csw_message(subworker)[0] == 0) abort();
    csw_close(subworker);
    close(ends[0]);
    remove_outputs();
    int next = dup(file); /* all numbers below are in use for as long as before, else one leaked */
    close(next);
    if (next > 64) abort();
    return 0;
}
