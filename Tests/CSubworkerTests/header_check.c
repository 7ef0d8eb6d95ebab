/* Guards the binary interface: sizes and offsets that a program was compiled with, and numbers that it compares. A field
 * may be added at a struct's end; then add a line, and change none. */
#include <csubworker.h>

_Static_assert(sizeof(csw_status) == 4, "");
_Static_assert(sizeof(csw_key) == 16 && offsetof(csw_key, number) == 12, "");
_Static_assert(sizeof(csw_attempt) == 16 && offsetof(csw_attempt, attempt) == 12, "");
_Static_assert(sizeof(csw_bytes) == 2 * sizeof(void *) && offsetof(csw_bytes, size) == sizeof(void *), "");

_Static_assert(offsetof(csw_options, struct_size) == 0, "");
_Static_assert(offsetof(csw_options, name) == sizeof(void *), "");
_Static_assert(offsetof(csw_options, library) == 2 * sizeof(void *), "");
_Static_assert(offsetof(csw_options, message_bytes_max) == 3 * sizeof(void *), "");

_Static_assert(offsetof(csw_task_type, struct_size) == 0, "");
_Static_assert(offsetof(csw_task_type, name) == sizeof(void *), "");
_Static_assert(offsetof(csw_task_type, documentation) == 2 * sizeof(void *), "");
_Static_assert(offsetof(csw_task_type, inputs) == 3 * sizeof(void *), "");
_Static_assert(offsetof(csw_task_type, input_count) == 4 * sizeof(void *), "");
_Static_assert(offsetof(csw_task_type, outputs) == 5 * sizeof(void *), "");
_Static_assert(offsetof(csw_task_type, output_count) == 6 * sizeof(void *), "");
_Static_assert(offsetof(csw_task_type, function) == 7 * sizeof(void *), "");
_Static_assert(offsetof(csw_task_type, context) == 8 * sizeof(void *), "");
_Static_assert(offsetof(csw_task_type, input_content_types) == 9 * sizeof(void *), "");
_Static_assert(offsetof(csw_task_type, output_content_types) == 10 * sizeof(void *), "");
_Static_assert(offsetof(csw_task_type, threads) == 11 * sizeof(void *), "");

_Static_assert(sizeof(csw_options) == 4 * sizeof(void *), "");
_Static_assert(sizeof(csw_task_type) == 12 * sizeof(void *), "");

_Static_assert(CSW_OK == 0 && CSW_EINVAL == -1 && CSW_ENOMEM == -2 && CSW_ENOWORKER == -3 && CSW_EPROTO == -4, "");
_Static_assert(CSW_EREFUSED == -5 && CSW_EIO == -6 && CSW_ESTATE == -7 && CSW_ECANCELLED == -8 && CSW_ETASK == -9, "");
_Static_assert(CSW_LOG_ERROR == 1 && CSW_LOG_WARNING == 2 && CSW_LOG_INFO == 3 && CSW_LOG_DEBUG == 4, "");

csw_task_type header_check_in_c(void) {
    return (csw_task_type){CSW_TASK, .name = "task"};
}
