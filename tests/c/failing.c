/*
 * Makes allocations of one resource fail, in a program that preloads it.
 * FAILING names the resource, "threads" or "descriptors". FAILING_FROM is the number of the first
 * failing allocation. With FAILING_ALL=1 all later allocations fail too, like at an exhausted
 * limit. Each failure is reported on standard error.
 * FAILING=limit sets the process's limit of descriptors so that FAILING_FROM - 1 are free at first.
 * This limit also applies to allocations within the C library. It is set and reported while fewer
 * than ENOUGH descriptors are free.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* More descriptors than any of the programs has. */
#define ENOUGH 40

static atomic_int allocations;
static atomic_bool granted;
static struct rlimit before;

static void report(const char *function)
{
    char text[64];
    int length = snprintf(text, sizeof text, "failing: %s\n", function);
    if (write(STDERR_FILENO, text, (size_t)length) != length) {
        abort();
    }
}

static bool limits(void)
{
    const char *failing = getenv("FAILING");
    return failing != NULL && strcmp(failing, "limit") == 0;
}

static void __attribute__((constructor)) limit(void)
{
    const char *from = getenv("FAILING_FROM");
    if (!limits() || from == NULL || atoi(from) > ENOUGH ||
        getrlimit(RLIMIT_NOFILE, &before) != 0) {
        return;
    }
    int first_free = dup(STDERR_FILENO);
    struct rlimit low = {.rlim_cur = (rlim_t)(first_free + atoi(from) - 1), .rlim_max =
        before.rlim_max};
    if (first_free < 0 || close(first_free) != 0 || setrlimit(RLIMIT_NOFILE, &low) != 0) {
        abort();
    }
    report("limit");
}

/* All allocations succeed from here on. Programs find this function with dlsym. */
void failing_ends(void)
{
    atomic_store(&granted, true);
    if (before.rlim_max != 0 && setrlimit(RLIMIT_NOFILE, &before) != 0) {
        abort();
    }
}

static bool fails(const char *resource, const char *function)
{
    const char *failing = getenv("FAILING"), *from = getenv("FAILING_FROM");
    if (failing == NULL || from == NULL || strcmp(failing, resource) != 0 ||
        atomic_load(&granted)) {
        return false;
    }
    int number = atomic_fetch_add(&allocations, 1) + 1, first = atoi(from);
    if (number < first || (number > first && getenv("FAILING_ALL") == NULL)) {
        return false;
    }
    report(function);
    return true;
}

static void *real(const char *function)
{
    void *found = dlsym(RTLD_NEXT, function);
    if (found == NULL) {
        abort();
    }
    return found;
}

#define DESCRIPTOR(type, name, parameters, arguments) \
    type name parameters \
    { \
        if (fails("descriptors", #name)) { \
            errno = EMFILE; \
            return -1; \
        } \
        type(*next) parameters; \
        *(void **)&next = real(#name); \
        return next arguments; \
    }

DESCRIPTOR(int, socket, (int domain, int type, int protocol), (domain, type, protocol))
DESCRIPTOR(int, socketpair, (int domain, int type, int protocol, int pair[2]),
           (domain, type, protocol, pair))
DESCRIPTOR(int, epoll_create1, (int flags), (flags))
DESCRIPTOR(int, eventfd, (unsigned int count, int flags), (count, flags))
DESCRIPTOR(int, pipe, (int pair[2]), (pair))
DESCRIPTOR(int, pipe2, (int pair[2], int flags), (pair, flags))
DESCRIPTOR(int, dup, (int descriptor), (descriptor))

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        if (fails("descriptors", #name)) { \
            errno = EMFILE; \
            return -1; \
        } \
        va_list more; \
        va_start(more, flags); \
        int mode = (flags & O_CREAT) != 0 ? va_arg(more, int) : 0; \
        va_end(more); \
        int (*next)(const char *, int, ...); \
        *(void **)&next = real(#name); \
        return next(path, flags, mode); \
    }

OPEN(open)
OPEN(open64)

/*
 * Only the commands that copy a descriptor matter here. Each command has at most one argument of a
 * word.
 */
#define FCNTL(name) \
    int name(int descriptor, int command, ...) \
    { \
        if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && fails("descriptors", #name)) { \
            errno = EMFILE; \
            return -1; \
        } \
        va_list more; \
        va_start(more, command); \
        void *argument = va_arg(more, void *); \
        va_end(more); \
        int (*next)(int, int, ...); \
        *(void **)&next = real(#name); \
        return next(descriptor, command, argument); \
    }

FCNTL(fcntl)
FCNTL(fcntl64)

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument)
{
    if (fails("threads", "pthread_create")) {
        return EAGAIN;
    }
    int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&next = real("pthread_create");
    return next(thread, attributes, run, argument);
}
