/*
 * Forks while a subscription delivers changes: the parent continues, and no callback runs in the
 * child.
 * Usage: fork_subscribed ENDPOINT
 */
#define _DEFAULT_SOURCE
#include "check.h"
#include "child.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ID1 "worker-00000000-0000-4000-8000-000000000001"
#define ID2 "worker-00000000-0000-4000-8000-000000000002"

/* In memory that the parent and the child share. */
struct calls {
    atomic_int in_parent;
    atomic_int in_child;
    atomic_int forked_inside;
};

static struct calls *calls;
static pid_t parent;

/* Memory of the parent's threads looks like a leak in a child that exits. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return getpid() != parent;
}

static void on_event(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                     const axm_snapshot_t *snapshot)
{
    (void)user_data, (void)event, (void)member, (void)snapshot;
    atomic_fetch_add(getpid() == parent ? &calls->in_parent : &calls->in_child, 1);
}

/* Forks in the callback, which returns in the child too. */
static void fork_inside(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                        const axm_snapshot_t *snapshot)
{
    on_event(user_data, event, member, snapshot);
    if (atomic_load(&calls->forked_inside) == 0) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            /* The threads of the library block this signal. */
            sigset_t alarms;
            CHECK(sigemptyset(&alarms) == 0 && sigaddset(&alarms, SIGALRM) == 0);
            CHECK(pthread_sigmask(SIG_UNBLOCK, &alarms, NULL) == 0);
            alarm(240);
        } else {
            atomic_store(&calls->forked_inside, child);
        }
    }
}

static void await_calls(int count)
{
    AWAIT(atomic_load(&calls->in_parent) >= count);
}

static axm_worker_t worker(const char *identity)
{
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = identity;
    worker.host = "host";
    return worker;
}

/*
 * Returns the lease of the only registration, or 0 while the lease is not renewed in time. The
 * registration must never be lost.
 */
static int64_t lease(axm_membership_t *membership)
{
    axm_status_t *status = NULL;
    OK(axm_membership_status(membership, &status));
    const axm_registration_t *registration = axm_status_registration(status, 0);
    CHECK(registration == NULL || registration->leases <= 1);
    int64_t lease = registration != NULL && registration->state == AXM_REGISTRATION_REGISTERED
                        ? registration->lease
                        : 0;
    axm_status_free(status);
    return lease;
}

static void in_child(axm_membership_t *membership, axm_subscription_t *subscription)
{
    axm_subscription_t *another = NULL;
    axm_snapshot_t *snapshot = NULL;
    axm_status_t *status = NULL;
    FAILS(AXM_ERROR_FORKED, axm_membership_subscribe(membership, on_event, NULL, &another));
    FAILS(AXM_ERROR_FORKED, axm_membership_status(membership, &status));
    FAILS(AXM_ERROR_FORKED, axm_membership_list(membership, AXM_FILTER_ALL, &snapshot));
    FAILS(AXM_ERROR_FORKED, axm_membership_close(membership));
    FAILS(AXM_ERROR_FORKED, axm_log_set(NULL, NULL, AXM_LOG_OFF));
    FAILS(AXM_ERROR_FORKED, axm_shutdown(1000));
    axm_subscription_free(subscription);
}

/*
 * Forks, changes the cluster while the child lives, and ends the child while the subscription
 * continues.
 */
static void fork_and_change(axm_membership_t *membership, axm_membership_t *other,
                            axm_subscription_t *subscription)
{
    int ready[2], changed[2];
    char byte = 0;
    CHECK(pipe(ready) == 0 && pipe(changed) == 0);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        /* A call that waits for ever ends the child, so the test fails. */
        alarm(240);
        in_child(membership, subscription);
        CHECK(write(ready[1], "r", 1) == 1 && read(changed[0], &byte, 1) == 1);
        axm_membership_free(membership);
        end_child(true);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    int before = atomic_load(&calls->in_parent);
    axm_worker_t worker2 = worker(ID2);
    OK(axm_membership_join(other, &worker2, NULL));
    await_calls(before + 1);
    CHECK(write(changed[1], "c", 1) == 1);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    before = atomic_load(&calls->in_parent);
    OK(axm_membership_leave_worker(other, ID2));
    await_calls(before + 1);
    for (int i = 0; i < 2; i++) {
        CHECK(close(ready[i]) == 0 && close(changed[i]) == 0);
    }
}

/* The child ends when the callback returns, and receives no further event. */
static void fork_in_callback(axm_membership_t *membership)
{
    axm_subscription_t *subscription = NULL;
    int before = atomic_load(&calls->in_parent);
    OK(axm_membership_subscribe(membership, fork_inside, NULL, &subscription));
    /* There are two workers. The child of the first call receives no event about the second one. */
    await_calls(before + 2);
    int status = 0;
    pid_t child = atomic_load(&calls->forked_inside);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    axm_subscription_free(subscription);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    parent = getpid();
    calls = mmap(NULL, sizeof *calls, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(calls != MAP_FAILED);

    axm_membership_t *membership = open_and_free(etcd_config(argv[1]));
    /*
     * A separate cluster object would have a separate registration. This one shares the
     * registration.
     */
    axm_membership_t *other = open_and_free(etcd_config(argv[1]));
    axm_subscription_t *subscription = NULL;
    axm_worker_t worker1 = worker(ID1);
    OK(axm_membership_join(membership, &worker1, NULL));
    int64_t lease_before = 0;
    AWAIT((lease_before = lease(membership)) != 0);
    OK(axm_membership_subscribe(membership, on_event, NULL, &subscription));
    await_calls(1);
    for (int i = 0; i < 2; i++) {
        fork_and_change(membership, other, subscription);
        AWAIT(lease(membership) == lease_before);
    }
    if (!RUNNING_ON_VALGRIND) {
        /* The library ends this child, which would be searched for leaks. */
        fork_in_callback(membership);
        AWAIT(lease(membership) == lease_before);
    }
    CHECK(atomic_load(&calls->in_child) == 0);
    axm_subscription_free(subscription);
    OK(axm_membership_close(membership));
    axm_membership_free(membership);
    axm_membership_free(other);
    CHECK(munmap(calls, sizeof *calls) == 0);
    return 0;
}
