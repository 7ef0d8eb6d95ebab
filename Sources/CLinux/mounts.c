#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

int rain_mount_private(const char *path, uint64_t size) {
    if (unshare(CLONE_NEWNS) < 0) return -errno;
    /* What is mounted outside later still appears here, and nothing of ours appears outside. */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0) return -errno;
    char options[128];
    for (int is_huge = 1; is_huge >= 0; is_huge -= 1) {
        snprintf(
            options, sizeof options, "mode=0700,size=%" PRIu64 ",nr_inodes=0%s", size,
            is_huge ? ",huge=within_size" : "");
        if (mount("rain", path, "tmpfs", MS_NOSUID | MS_NODEV, options) == 0) return is_huge;
        /* A kernel without huge pages does not know the option. */
        if (errno != EINVAL) break;
    }
    return -errno;
}

int rain_mount_view(const char *path, const char *view) {
    struct statvfs status;
    if (statvfs(path, &status) < 0) return -errno;
    /* A mount that says less than the one below it is refused where that one was made by others. */
    const unsigned long kept = ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_NOATIME | ST_NODIRATIME;
    if (mount(path, view, NULL, MS_BIND, NULL) < 0) return -errno;
    if (mount(NULL, view, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | (status.f_flag & kept), NULL) == 0) return 0;
    int error = errno;
    umount2(view, MNT_DETACH | UMOUNT_NOFOLLOW);
    return -error;
}

int rain_unmount(const char *path) {
    return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}
