/*
 * Closes memberships while threads call every function on them.
 * Usage: closing HOSTS_FILE ROUNDS [ENDPOINT]
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>

#define ID1 "worker-00000000-0000-4000-8000-000000000001"
#define ID2 "worker-00000000-0000-4000-8000-000000000002"

struct round {
    axm_membership_t *membership;
    /* The threads, which have each finished a call, and the thread that closes. */
    pthread_barrier_t in_use;
};

static axm_worker_t worker(const char *identity)
{
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = identity;
    worker.host = "host";
    return worker;
}

/* One call of each thread. Returns NULL as long as the membership is open. */

static axm_error_t *list(axm_membership_t *membership)
{
    axm_snapshot_t *snapshot = NULL;
    axm_error_t *error = axm_membership_list(membership, AXM_FILTER_ALL, &snapshot);
    CHECK(error != NULL || axm_snapshot_count(snapshot) == 2);
    axm_snapshot_release(snapshot);
    return error;
}

static axm_error_t *ask_status(axm_membership_t *membership)
{
    axm_status_t *status = NULL;
    axm_error_t *error = axm_membership_status(membership, &status);
    axm_status_free(status);
    return error;
}

static axm_error_t *show(axm_membership_t *membership)
{
    char *table = NULL;
    axm_error_t *error = axm_membership_show(membership, &table);
    axm_string_free(table);
    return error;
}

static void ignore(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                   const axm_snapshot_t *snapshot)
{
    (void)user_data, (void)event, (void)member, (void)snapshot;
}

static axm_error_t *subscribe(axm_membership_t *membership)
{
    axm_subscription_t *subscription = NULL;
    axm_error_t *error = axm_membership_subscribe(membership, ignore, NULL, &subscription);
    axm_subscription_free(subscription);
    return error;
}

static axm_error_t *join_and_leave(axm_membership_t *membership)
{
    const axm_worker_t worker1 = worker(ID1);
    axm_error_t *error = axm_membership_join(membership, &worker1, NULL);
    return error != NULL ? error : axm_membership_leave(membership);
}

static axm_error_t *leave_worker(axm_membership_t *membership)
{
    return axm_membership_leave_worker(membership, ID2);
}

/*
 * No worker has this identity, which is an error while the membership is open, except in a STATIC
 * cluster.
 */
static axm_error_t *remove_nobody(axm_membership_t *membership)
{
    axm_error_t *error = axm_membership_remove(membership, "worker-7");
    if (axm_error_kind(error) == AXM_ERROR_INVALID_ARGUMENT) {
        axm_error_free(error);
        error = NULL;
    }
    return error;
}

/* The first call returns at once, and the second one waits for ever. */
static axm_error_t *wait(axm_membership_t *membership)
{
    static thread_local uint64_t version = 0;
    axm_snapshot_t *snapshot = NULL;
    axm_error_t *error = axm_membership_wait_for_change(membership, AXM_FILTER_ALL, version, -1,
                                                        &snapshot);
    axm_snapshot_release(snapshot);
    version = UINT64_MAX;
    return error;
}

/* This function returns no error, so the thread uses the error of another function. */
static axm_error_t *ask_version(axm_membership_t *membership)
{
    (void)axm_membership_version(membership);
    return ask_status(membership);
}

static axm_error_t *(*const CALLS[])(axm_membership_t *) = {
    list, ask_status, show, subscribe, join_and_leave, leave_worker, remove_nobody, wait, wait,
        ask_version,
};
enum { CALLERS = sizeof CALLS / sizeof CALLS[0], CLOSERS = 2 };

struct caller {
    struct round *round;
    axm_error_t *(*call)(axm_membership_t *);
};

static void *call_until_closed(void *argument)
{
    const struct caller *caller = argument;
    OK(caller->call(caller->round->membership));
    pthread_barrier_wait(&caller->round->in_use);
    axm_error_t *error = NULL;
    while (error == NULL) {
        error = caller->call(caller->round->membership);
    }
    FAILS(AXM_ERROR_CLOSED, error);
    return NULL;
}

static void *close_it(void *argument)
{
    struct round *round = argument;
    pthread_barrier_wait(&round->in_use);
    OK(axm_membership_close(round->membership));
    CHECK(axm_membership_version(round->membership) == 0);
    return NULL;
}

static void close_while_in_use(axm_membership_t *membership)
{
    struct round round = {.membership = membership};
    CHECK(pthread_barrier_init(&round.in_use, NULL, CALLERS + CLOSERS) == 0);
    struct caller callers[CALLERS];
    pthread_t threads[CALLERS + CLOSERS];
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){&round, CALLS[i]};
        CHECK(pthread_create(&threads[i], NULL, call_until_closed, &callers[i]) == 0);
    }
    for (int i = CALLERS; i < CALLERS + CLOSERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, close_it, &round) == 0);
    }
    for (int i = 0; i < CALLERS + CLOSERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(pthread_barrier_destroy(&round.in_use) == 0);
    axm_membership_free(membership);
}

static size_t count(const axm_membership_t *membership, axm_filter_t filter)
{
    axm_snapshot_t *snapshot = NULL;
    OK(axm_membership_list(membership, filter, &snapshot));
    size_t count = axm_snapshot_count(snapshot);
    axm_snapshot_release(snapshot);
    return count;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3 || argc == 4);
    const int rounds = atoi(argv[2]);
    if (argc == 3) {
        for (int i = 0; i < rounds; i++) {
            close_while_in_use(open_and_free(static_config(argv[1])));
        }
        return 0;
    }
    axm_membership_t *witness = open_and_free(etcd_config(argv[3]));
    const axm_worker_t worker1 = worker(ID1), worker2 = worker(ID2);
    OK(axm_membership_join(witness, &worker1, NULL));
    OK(axm_membership_join(witness, &worker2, NULL));
    OK(axm_membership_leave(witness));
    for (int i = 0; i < rounds; i++) {
        close_while_in_use(open_and_free(etcd_config(argv[3])));
    }
    /* The registration of a running join ends with the membership, perhaps a moment later. */
    AWAIT(count(witness, AXM_FILTER_LIVE) == 0);
    CHECK(count(witness, AXM_FILTER_ALL) == 2);
    axm_membership_free(witness);
    return 0;
}
