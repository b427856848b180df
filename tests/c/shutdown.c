/*
 * Shuts down the library during a call that takes much longer.
 * Usage: shutdown ENDPOINT_OF_NOBODY
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>

/* Longer than a shutdown takes on any machine. */
static const char HOURS[] = "2h";

static void *join(void *membership)
{
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = "worker-00000000-0000-4000-8000-000000000001";
    worker.host = "host";
    FAILS(AXM_ERROR_CLOSED, axm_membership_join(membership, &worker, NULL));
    return NULL;
}

static bool is_shutting_down(const axm_membership_t *membership)
{
    axm_status_t *status = NULL;
    axm_error_t *error = axm_membership_status(membership, &status);
    bool closed = axm_error_kind(error) == AXM_ERROR_CLOSED;
    axm_error_free(error);
    axm_status_free(status);
    return closed;
}

static bool has_asked(const axm_membership_t *membership)
{
    axm_status_t *status = NULL;
    OK(axm_membership_status(membership, &status));
    bool asked = axm_status_endpoint(status, 0)->failed > 0;
    axm_status_free(status);
    return asked;
}

/*
 * Waits for the join for half of the timeout. Succeeds, because the join has registered nothing.
 * The other half is for slow machines.
 */
static void *shut_down_slowly(void *unused)
{
    (void)unused;
    OK(axm_shutdown(10000));
    return NULL;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    axm_config_t *config = etcd_config(argv[1]);
    OK(axm_config_set(config, "alluxio.membership.native.operation.timeout", HOURS));
    axm_membership_t *membership = open_and_free(config);
    pthread_t thread, first;
    CHECK(pthread_create(&thread, NULL, join, membership) == 0);
    /* From then on it has the registration, which a leave would have to end first. */
    AWAIT(has_asked(membership));
    CHECK(pthread_create(&first, NULL, shut_down_slowly, NULL) == 0);
    AWAIT(is_shutting_down(membership));
    /*
     * The second shutdown waits for the first one, up to its timeout, and then reports that the
     * first one has not finished.
     */
    FAILS(AXM_ERROR_UNAVAILABLE, axm_shutdown(100));
    CHECK(pthread_join(first, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(axm_shutdown(0));
    axm_membership_free(membership);
    return 0;
}
