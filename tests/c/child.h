/* How a child ends that was forked from a program with threads. */
#ifndef CHILD_H
#define CHILD_H

#include <stdlib.h>
#include <unistd.h>
#include <valgrind/valgrind.h>

/* Ends the child: by exit, if what exit runs is to be tried, else without. What valgrind found so far counts. What the
 * threads of the parent held looks like a leak here, so that valgrind, which looks for leaks at every end of a process,
 * has to see another program end. */
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
