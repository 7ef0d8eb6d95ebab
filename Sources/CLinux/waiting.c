#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

int rain_eventfd(void) {
    int descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return descriptor < 0 ? -errno : descriptor;
}

void rain_eventfd_wake(int descriptor) {
    eventfd_write(descriptor, 1);
}

void rain_eventfd_clear(int descriptor) {
    eventfd_t value;
    eventfd_read(descriptor, &value);
}

int rain_epoll(void) {
    int descriptor = epoll_create1(EPOLL_CLOEXEC);
    return descriptor < 0 ? -errno : descriptor;
}

int rain_epoll_watch(int epoll, int descriptor, uint64_t token, bool writing) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (writing ? EPOLLOUT : 0u), .data.u64 = token};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0) return 0;
    if (errno != EEXIST) return -errno;
    return epoll_ctl(epoll, EPOLL_CTL_MOD, descriptor, &event) < 0 ? -errno : 0;
}

int rain_epoll_forget(int epoll, int descriptor) {
    return epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, NULL) < 0 ? -errno : 0;
}

int rain_epoll_take(int epoll, rain_ready *ready, int capacity) {
    struct epoll_event events[128];
    int count = epoll_wait(epoll, events, capacity < 128 ? capacity : 128, 0);
    if (count < 0) return errno == EINTR ? 0 : -errno;
    for (int index = 0; index < count; ++index) {
        ready[index].token = events[index].data.u64;
        ready[index].readable = events[index].events & EPOLLIN;
        ready[index].writable = events[index].events & EPOLLOUT;
        ready[index].ended = events[index].events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR);
    }
    return count;
}

int rain_next_signal(int descriptor) {
    struct signalfd_siginfo information;
    ssize_t size = read(descriptor, &information, sizeof information);
    return size == (ssize_t)sizeof information ? (int)information.ssi_signo : 0;
}
