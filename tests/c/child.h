/* Ends a child process that a program with threads forked. */
#ifndef CHILD_H
#define CHILD_H

#include <stdlib.h>
#include <unistd.h>
#include <valgrind/valgrind.h>

/*
 * Ends the child by exit, or without the handlers of exit. Findings of valgrind so far count.
 * Memory of the parent's threads looks like a leak in the child, and valgrind searches for leaks
 * when a process ends, so the child becomes another program that ends.
 */
static inline void end_child(bool by_exit)
{
    if (VALGRIND_COUNT_ERRORS > 0) {
        _exit(EXIT_FAILURE);
    }
    if (RUNNING_ON_VALGRIND) {
        execlp("true", "true", (char *)NULL);
        abort();
    }
    if (by_exit) {
        exit(EXIT_SUCCESS);
    }
    _exit(EXIT_SUCCESS);
}

#endif
