/* Preloaded into a program: allocations of one resource fail.
 * FAILING names the resource, "threads" or "descriptors"; FAILING_FROM is the number of the first allocation that fails;
 * FAILING_ALL=1 fails all later ones too, as an exhausted limit does. Each failure is reported on standard error. */
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
#include <sys/socket.h>
#include <unistd.h>

static atomic_int allocations;
static atomic_bool granted;

/* From here on everything is allocated. Programs find it with dlsym. */
void failing_ends(void)
{
    atomic_store(&granted, true);
}

static bool fails(const char *resource, const char *function)
{
    const char *failing = getenv("FAILING"), *from = getenv("FAILING_FROM");
    if (failing == NULL || from == NULL || strcmp(failing, resource) != 0 || atomic_load(&granted)) {
        return false;
    }
    int number = atomic_fetch_add(&allocations, 1) + 1, first = atoi(from);
    if (number < first || (number > first && getenv("FAILING_ALL") == NULL)) {
        return false;
    }
    char text[64];
    int length = snprintf(text, sizeof text, "failing: %s\n", function);
    return write(STDERR_FILENO, text, (size_t)length) > 0 || true;
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
DESCRIPTOR(int, socketpair, (int domain, int type, int protocol, int pair[2]), (domain, type, protocol, pair))
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

/* Of what it does, only the copies of descriptors matter here; all of it has at most one argument of a word. */
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

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    if (fails("threads", "pthread_create")) {
        return EAGAIN;
    }
    int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&next = real("pthread_create");
    return next(thread, attributes, run, argument);
}
