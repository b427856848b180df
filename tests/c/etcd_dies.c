/*
 * An etcd that does not exist, and one that dies, while SIGPIPE ends the process, as is the
 * default.
 * Usage: etcd_dies ENDPOINT PID_OF_ETCD ENDPOINT_OF_NOBODY
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <signal.h>

static axm_membership_t *open_with(const char *endpoint, const char *timeout)
{
    axm_config_t *config = etcd_config(endpoint);
    OK(axm_config_set(config, "alluxio.membership.native.operation.timeout", timeout));
    OK(axm_config_set(config, "alluxio.membership.native.read.mode", "LINEARIZABLE"));
    return open_and_free(config);
}

/* The call fails with an error that names the etcd and may be retried. */
static void check_unavailable(axm_error_t *error, const char *endpoint)
{
    const char *host = strstr(endpoint, "127.0.0.1");
    CHECK(error != NULL && host != NULL);
    CHECK(axm_error_is_retryable(error));
    FAILS_WITH(AXM_ERROR_UNAVAILABLE, host, error);
}

/* A short timeout may need several tries on a slow machine. */
static bool join_succeeds(axm_membership_t *membership, const axm_worker_t *worker)
{
    axm_error_t *error = axm_membership_join(membership, worker, NULL);
    CHECK(error == NULL || axm_error_kind(error) == AXM_ERROR_UNAVAILABLE);
    axm_error_free(error);
    return error == NULL;
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    axm_snapshot_t *snapshot = NULL;
    char *table = NULL;
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = "worker-00000000-0000-4000-8000-000000000001";
    worker.host = "host1";

    axm_membership_t *nowhere = open_with(argv[3], "1s");
    check_unavailable(axm_membership_list(nowhere, AXM_FILTER_ALL, &snapshot), argv[3]);
    check_unavailable(axm_membership_join(nowhere, &worker, NULL), argv[3]);
    check_unavailable(axm_membership_show(nowhere, &table), argv[3]);
    CHECK(axm_membership_version(nowhere) == 0);
    axm_membership_free(nowhere);

    struct sigaction action;
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    axm_membership_t *membership = open_with(argv[1], "2min");
    axm_membership_t *impatient = open_with(argv[1], "1s");
    OK(axm_membership_join(membership, &worker, NULL));
    AWAIT(join_succeeds(impatient, &worker));
    OK(axm_membership_list(membership, AXM_FILTER_LIVE, &snapshot));
    CHECK(axm_snapshot_count(snapshot) == 1);
    axm_snapshot_release(snapshot);
    CHECK(kill((pid_t)atoi(argv[2]), SIGKILL) == 0);
    for (int i = 0; i < 3; i++) {
        check_unavailable(axm_membership_list(impatient, AXM_FILTER_LIVE, &snapshot), argv[1]);
    }
    check_unavailable(axm_membership_show(impatient, &table), argv[1]);
    check_unavailable(axm_membership_join(impatient, &worker, NULL), argv[1]);
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    /*
     * The other membership shares the registration, so leaving needs no etcd. Then no membership
     * has it.
     */
    OK(axm_membership_close(membership));
    check_unavailable(axm_membership_close(impatient), argv[1]);
    FAILS(AXM_ERROR_CLOSED, axm_membership_list(impatient, AXM_FILTER_LIVE, &snapshot));
    OK(axm_membership_close(impatient));
    axm_membership_free(membership);
    axm_membership_free(impatient);
    return 0;
}
