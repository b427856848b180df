/*
 * Forks after opening a membership: the child gets errors, and the parent continues.
 * Usage: fork HOSTS_FILE [ENDPOINT]
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include "child.h"

#include <sys/wait.h>
#include <unistd.h>

static const char IDENTITY[] = "worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d";

static void in_child(const char *hosts_file, axm_membership_t *membership, axm_snapshot_t *kept)
{
    /* A call that waits for ever ends the child, so the test fails. */
    alarm(240);
    axm_snapshot_t *snapshot = NULL;
    axm_membership_t *another = NULL;
    char *table = NULL;
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = IDENTITY;
    worker.host = "host1";
    FAILS(AXM_ERROR_FORKED, axm_membership_join(membership, &worker, NULL));
    FAILS(AXM_ERROR_FORKED, axm_membership_list(membership, AXM_FILTER_ALL, &snapshot));
    FAILS(AXM_ERROR_FORKED,
          axm_membership_wait_for_change(membership, AXM_FILTER_ALL, 0, -1, &snapshot));
    FAILS(AXM_ERROR_FORKED, axm_membership_show(membership, &table));
    FAILS(AXM_ERROR_FORKED, axm_membership_remove(membership, IDENTITY));
    FAILS(AXM_ERROR_FORKED, axm_membership_leave_worker(membership, IDENTITY));
    FAILS(AXM_ERROR_FORKED, axm_membership_leave(membership));
    FAILS(AXM_ERROR_FORKED, axm_membership_close(membership));
    CHECK(axm_membership_version(membership) == 0);
    CHECK(snapshot == NULL && table == NULL);

    axm_config_t *config = static_config(hosts_file);
    FAILS(AXM_ERROR_FORKED, axm_membership_open(config, &another));
    axm_config_free(config);

    CHECK(axm_snapshot_count(kept) == 2);
    CHECK(axm_member_worker(axm_snapshot_member(kept, 0))->host != NULL);
    axm_snapshot_release(kept);
    axm_membership_free(membership);
    end_child(false);
}

static void fork_with(const char *hosts_file, axm_membership_t *membership)
{
    axm_snapshot_t *before = NULL;
    axm_snapshot_t *after = NULL;
    OK(axm_membership_list(membership, AXM_FILTER_ALL, &before));
    CHECK(axm_snapshot_count(before) == 2);

    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        in_child(hosts_file, membership, before);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    OK(axm_membership_list(membership, AXM_FILTER_LIVE, &after));
    CHECK(axm_snapshot_count(after) == 2);
    axm_snapshot_release(before);
    axm_snapshot_release(after);
}

static void join(axm_membership_t *membership, const char *identity, const char *host)
{
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = identity;
    worker.host = host;
    OK(axm_membership_join(membership, &worker, NULL));
}

int main(int argc, char **argv)
{
    CHECK(argc == 2 || argc == 3);
    axm_membership_t *membership;
    if (argc == 2) {
        membership = open_and_free(static_config(argv[1]));
    } else {
        membership = open_and_free(etcd_config(argv[2]));
        join(membership, IDENTITY, "host1");
        join(membership, "worker-00000000-0000-4000-8000-000000000002", "host2");
    }
    fork_with(argv[1], membership);
    fork_with(argv[1], membership);
    OK(axm_membership_close(membership));
    axm_membership_free(membership);
    return 0;
}
