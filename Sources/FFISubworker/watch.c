#define _GNU_SOURCE
#include "watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
/* What is being loaded, or NULL. */
static const char *loading;
static unsigned long load_count;
static double patience_seconds;

void watch_begin(const char *file) {
    pthread_mutex_lock(&lock);
    loading = file;
    load_count += 1;
    if (patience_seconds > 0) pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

void watch_end(void) {
    pthread_mutex_lock(&lock);
    loading = NULL;
    if (patience_seconds > 0) pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void give_up(const char *file) {
    char line[1024];
    int size = snprintf(
        line, sizeof line,
        "ffi: the library %.700s is not loaded after %g s: code that runs when it is loaded hangs "
        "(RAIN_PATIENCE=SECONDS "
        "in the environment waits longer)\n",
        file, patience_seconds);
    ssize_t written = write(STDERR_FILENO, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1);
    (void)written;
    /* Nothing that waits for the load, or for its locks. */
    _exit(1);
}

static void *watch(void *context) {
    pthread_mutex_lock(&lock);
    while (true) {
        while (loading == NULL)
            pthread_cond_wait(&changed, &lock);
        unsigned long mine = load_count;
        struct timespec end;
        clock_gettime(CLOCK_MONOTONIC, &end);
        end.tv_sec += (time_t)patience_seconds;
        end.tv_nsec += (long)((patience_seconds - (double)(time_t)patience_seconds) * 1e9);
        if (end.tv_nsec >= 1000000000) {
            end.tv_nsec -= 1000000000;
            end.tv_sec += 1;
        }
        while (loading != NULL && load_count == mine)
            if (pthread_cond_timedwait(&changed, &lock, &end) == ETIMEDOUT && loading != NULL && load_count == mine)
                give_up(loading);
    }
    return context;
}

bool watch_install(void) {
    const char *text = getenv("RAIN_PATIENCE");
    char *end = NULL;
    double seconds = text != NULL ? strtod(text, &end) : 30;
    if (text != NULL && (end == text || *end != 0 || !(seconds >= 0.1 && seconds <= 1e6))) seconds = 30;
    patience_seconds = seconds;
    pthread_condattr_t monotonic;
    pthread_t thread;
    bool is_made = pthread_condattr_init(&monotonic) == 0 &&
                   pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0 &&
                   pthread_cond_init(&changed, &monotonic) == 0 && pthread_create(&thread, NULL, watch, NULL) == 0;
    if (!is_made) return false;
    pthread_detach(thread);
    return true;
}
