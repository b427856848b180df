/* Signals belong to the host's threads.
 * Usage: signals HOSTS_FILE */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    axm_membership_t *membership = open_and_free(static_config(argv[1]));
    axm_snapshot_t *snapshot = NULL;
    OK(axm_membership_list(membership, AXM_FILTER_ALL, &snapshot));
    axm_snapshot_free(snapshot);

    /* Blocked only now, after the library started its threads, as a program might that waits for its end. */
    static const int SIGNALS[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGCHLD};
    const struct timespec limit = {60, 0};
    for (size_t i = 0; i < sizeof SIGNALS / sizeof SIGNALS[0]; i++) {
        sigset_t set;
        CHECK(sigemptyset(&set) == 0 && sigaddset(&set, SIGNALS[i]) == 0);
        CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
        CHECK(kill(getpid(), SIGNALS[i]) == 0);
        CHECK(sigtimedwait(&set, NULL, &limit) == SIGNALS[i]);
    }
    axm_membership_free(membership);
    return 0;
}
