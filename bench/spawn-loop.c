/* What the machine can do with programs when nothing else is done: threads that start /bin/true and wait for it, over and over.
 *   spawn-loop COUNT THREADS */
#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

static atomic_long left;

static void *run(void *unused) {
    char *const arguments[] = {(char *)"/bin/true", NULL};
    char *const environment[] = {NULL};
    (void)unused;
    while (atomic_fetch_sub(&left, 1) > 0) {
        pid_t pid;
        int status;
        if (posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environment) != 0 ||
            waitpid(pid, &status, 0) != pid || status != 0) {
            fprintf(stderr, "spawn-loop: %s could not be run\n", arguments[0]);
            exit(1);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    enum { thread_max = 64 };
    pthread_t threads[thread_max];
    int count = argc == 3 ? atoi(argv[2]) : 0;
    if (count < 1 || count > thread_max) {
        fprintf(stderr, "usage: spawn-loop COUNT THREADS\n");
        return 2;
    }
    atomic_store(&left, atol(argv[1]));
    for (int index = 0; index < count; ++index) {
        if (pthread_create(&threads[index], NULL, run, NULL) != 0) return 1;
    }
    for (int index = 0; index < count; ++index)
        pthread_join(threads[index], NULL);
    return 0;
}
