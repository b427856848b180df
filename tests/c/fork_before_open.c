/*
 * Forks before opening a membership, as daemons do, but after other calls of the library.
 * Usage: fork_before_open ENDPOINT
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int messages;

static void on_message(void *user_data, axm_log_level_t level, const char *target,
                       const char *message)
{
    (void)level, (void)target, (void)message;
    atomic_fetch_add((atomic_int *)user_data, 1);
}

static void ignore(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                   const axm_snapshot_t *snapshot)
{
    (void)user_data, (void)event, (void)member, (void)snapshot;
}

/* Everything works, and logs to the callback that was set before the fork. */
static void use_the_library(const char *endpoint, const char *identity)
{
    axm_membership_t *membership = open_and_free(etcd_config(endpoint));
    axm_subscription_t *subscription = NULL;
    axm_snapshot_t *snapshot = NULL;
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = identity;
    worker.host = "host";
    OK(axm_membership_join(membership, &worker, NULL));
    OK(axm_membership_list(membership, AXM_FILTER_LIVE, &snapshot));
    CHECK(axm_snapshot_count(snapshot) == 1);
    axm_snapshot_release(snapshot);
    OK(axm_membership_subscribe(membership, ignore, NULL, &subscription));
    axm_subscription_free(subscription);
    OK(axm_membership_close(membership));
    axm_membership_free(membership);
    CHECK(atomic_load(&messages) > 0);
    OK(axm_log_set(NULL, NULL, AXM_LOG_OFF));
    OK(axm_shutdown(120000));
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    OK(axm_log_set(on_message, &messages, AXM_LOG_INFO));
    OK(axm_shutdown(0));
    axm_config_free(etcd_config(argv[1]));
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        /* A call that waits for ever ends the child, so the test fails. */
        alarm(240);
        use_the_library(argv[1], "worker-00000000-0000-4000-8000-000000000001");
        return 0;
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    use_the_library(argv[1], "worker-00000000-0000-4000-8000-000000000002");
    return 0;
}
