/*
 * Opens, joins, lists, subscribes and closes while the system grants no more threads or descriptors
 * (failing.c is preloaded), and again when the system grants them.
 * Usage: exhausted HOSTS_FILE ENDPOINT CLUSTER
 */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#define ID1 "worker-00000000-0000-4000-8000-000000000001"

/* Whether every call must succeed. */
static bool granted;
static sigset_t before;

/*
 * Frees the error of a call, which must report the missing resource. Returns whether the call
 * succeeded.
 */
static bool works(const char *call, axm_error_t *error)
{
    sigset_t now;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0);
    for (int signal = 1; signal < SIGRTMAX; signal++) {
        CHECK(sigismember(&before, signal) == sigismember(&now, signal));
    }
    const axm_error_kind_t kind = axm_error_kind(error);
    const bool is_lack = kind == AXM_ERROR_RESOURCE_EXHAUSTED || kind == AXM_ERROR_IO ||
                         kind == AXM_ERROR_UNAVAILABLE;
    const bool expected = kind == AXM_OK || (!granted && is_lack);
    if (!expected) {
        fprintf(stderr, "%s: %s: %s\n", call, axm_error_name(kind), axm_error_message(error));
        abort();
    }
    if (kind != AXM_OK) {
        printf("%s %s\n", axm_error_name(kind), axm_error_message(error));
    }
    axm_error_free(error);
    return kind == AXM_OK;
}

#define WORKS(call) works(#call, call)

static void on_event(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                     const axm_snapshot_t *snapshot)
{
    (void)event, (void)member, (void)snapshot;
    atomic_store((atomic_bool *)user_data, true);
}

static void use(axm_membership_t *membership)
{
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = ID1;
    worker.host = "host";
    (void)WORKS(axm_membership_join(membership, &worker, NULL));
    axm_snapshot_t *snapshot = NULL;
    if (WORKS(axm_membership_list(membership, AXM_FILTER_ALL, &snapshot))) {
        CHECK(!granted || axm_snapshot_count(snapshot) > 0);
        axm_snapshot_release(snapshot);
    }
    atomic_bool seen = false;
    axm_subscription_t *subscription = NULL;
    if (WORKS(axm_membership_subscribe(membership, on_event, &seen, &subscription))) {
        if (granted) {
            AWAIT(atomic_load(&seen));
        }
        axm_subscription_free(subscription);
    }
    (void)WORKS(axm_membership_close(membership));
    axm_membership_free(membership);
}

static void open_and_use(axm_config_t *config)
{
    axm_membership_t *membership = NULL;
    OK(axm_config_set(config, "alluxio.membership.native.operation.timeout",
                      granted ? "2min" : "1s"));
    bool opened = WORKS(axm_membership_open(config, &membership));
    axm_config_free(config);
    if (opened) {
        use(membership);
    }
}

static void use_both(char **argv)
{
    axm_config_t *config = etcd_config(argv[2]);
    OK(axm_config_set(config, "alluxio.cluster.name", argv[3]));
    open_and_use(config);
    open_and_use(static_config(argv[1]));
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &before) == 0);
    use_both(argv);
    void (*failing_ends)(void);
    *(void **)&failing_ends = dlsym(RTLD_DEFAULT, "failing_ends");
    CHECK(failing_ends != NULL);
    failing_ends();
    granted = true;
    use_both(argv);
    return 0;
}
