/*
 * Signals of the process are delivered to the host's threads.
 * Usage: signals HOSTS_FILE
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

enum { SUBSCRIPTIONS = 300 };

static thread_local volatile sig_atomic_t is_host;
static atomic_int elsewhere;
static atomic_bool ended;

static void on_signal(int signal)
{
    (void)signal;
    if (!is_host) {
        atomic_fetch_add(&elsewhere, 1);
    }
}

static void ignore(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                   const axm_snapshot_t *snapshot)
{
    (void)user_data, (void)event, (void)member, (void)snapshot;
}

static void change_usr2(int how)
{
    sigset_t usr2;
    CHECK(sigemptyset(&usr2) == 0 && sigaddset(&usr2, SIGUSR2) == 0);
    CHECK(pthread_sigmask(how, &usr2, NULL) == 0);
}

static sigset_t blocked_now(void)
{
    sigset_t blocked;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &blocked) == 0);
    return blocked;
}

/* Makes the library start many threads. Ends with the signals with which it began. */
static void *start_threads(void *hosts_file)
{
    is_host = 1;
    change_usr2(SIG_UNBLOCK);
    sigset_t before = blocked_now();
    axm_membership_t *membership = open_and_free(static_config(hosts_file));
    for (int i = 0; i < SUBSCRIPTIONS; i++) {
        axm_subscription_t *subscription = NULL;
        OK(axm_membership_subscribe(membership, ignore, NULL, &subscription));
        axm_subscription_free(subscription);
    }
    sigset_t after = blocked_now();
    for (int signal = 1; signal < SIGRTMAX; signal++) {
        CHECK(sigismember(&before, signal) == sigismember(&after, signal));
    }
    atomic_store(&ended, true);
    return membership;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    is_host = 1;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    /*
     * Only this thread of the host, which starts the library's threads, does not block the signal.
     * The kernel prefers it.
     */
    change_usr2(SIG_BLOCK);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, start_threads, argv[1]) == 0);
    while (!atomic_load(&ended)) {
        CHECK(kill(getpid(), SIGUSR2) == 0);
    }
    void *membership = NULL;
    CHECK(pthread_join(thread, &membership) == 0);
    CHECK(atomic_load(&elsewhere) == 0);

    /* Blocked after the library started its threads, as in a program that waits for its end. */
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
