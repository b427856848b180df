/*
 * Calls every function within the log callback, where most calls are errors, and within the
 * callback of a subscription.
 * Usage: inside_callbacks ENDPOINT, where the etcd belongs to this test alone
 */
#define _DEFAULT_SOURCE
#include "check.h"

#include <stdatomic.h>
#include <sys/prctl.h>

#define ID1 "worker-00000000-0000-4000-8000-000000000001"
#define ID2 "worker-00000000-0000-4000-8000-000000000002"
#define ID3 "worker-00000000-0000-4000-8000-000000000003"

/* The objects that the callbacks use and free. */
struct things {
    axm_membership_t *membership;
    axm_membership_t *freed;
    axm_config_t *config;
    axm_snapshot_t *snapshot;
    axm_status_t *status;
    axm_subscription_t *subscription;
    char *table;
    atomic_bool begun;
    atomic_bool done;
};

static axm_worker_t worker(const char *identity)
{
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = identity;
    worker.host = "host";
    return worker;
}

static void ignore(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                   const axm_snapshot_t *snapshot)
{
    (void)user_data, (void)event, (void)member, (void)snapshot;
}

static void no_message(void *user_data, axm_log_level_t level, const char *target,
                       const char *message)
{
    (void)user_data, (void)level, (void)target, (void)message;
}

static void set_up(struct things *things, const char *endpoint)
{
    *things = (struct things){.membership = open_and_free(etcd_config(endpoint)),
                              .freed = open_and_free(etcd_config(endpoint)),
                              .config = etcd_config(endpoint)};
    const axm_worker_t worker1 = worker(ID1);
    OK(axm_membership_join(things->freed, &worker1, NULL));
    OK(axm_membership_list(things->membership, AXM_FILTER_LIVE, &things->snapshot));
    CHECK(axm_snapshot_count(things->snapshot) == 1);
    OK(axm_membership_status(things->membership, &things->status));
    OK(axm_membership_show(things->membership, &things->table));
    OK(axm_membership_subscribe(things->freed, ignore, NULL, &things->subscription));
}

/* Functions that only need memory work everywhere. */
static void use_memory(struct things *things)
{
    const axm_member_t *member = NULL;
    OK(axm_config_set(things->config, "key", "value"));
    FAILS(AXM_ERROR_NOT_FOUND, axm_config_load_file(things->config, "/does/not/exist"));
    OK(axm_snapshot_find(things->snapshot, ID1, &member));
    CHECK_TEXT(ID1, axm_member_worker(member)->identity);
    CHECK(axm_status_endpoint_count(things->status) == 1);
    axm_config_free(things->config);
    axm_snapshot_release(axm_snapshot_retain(things->snapshot));
    axm_snapshot_release(things->snapshot);
    axm_status_free(things->status);
    axm_string_free(things->table);
}

#define REFUSED(call) FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "log callback", call)

static void refused(struct things *things)
{
    axm_membership_t *membership = things->membership;
    const axm_worker_t worker2 = worker(ID2);
    axm_membership_t *opened = NULL;
    axm_snapshot_t *snapshot = NULL;
    axm_status_t *status = NULL;
    axm_subscription_t *subscription = NULL;
    char *table = NULL;
    REFUSED(axm_membership_open(things->config, &opened));
    REFUSED(axm_membership_join(membership, &worker2, NULL));
    REFUSED(axm_membership_list(membership, AXM_FILTER_ALL, &snapshot));
    REFUSED(axm_membership_wait_for_change(membership, AXM_FILTER_ALL, 0, -1, &snapshot));
    REFUSED(axm_membership_show(membership, &table));
    REFUSED(axm_membership_status(membership, &status));
    REFUSED(axm_membership_subscribe(membership, ignore, NULL, &subscription));
    REFUSED(axm_membership_remove(membership, ID1));
    REFUSED(axm_membership_leave_worker(membership, ID1));
    REFUSED(axm_membership_leave(membership));
    REFUSED(axm_membership_close(membership));
    REFUSED(axm_shutdown(1000));
    REFUSED(axm_log_set(NULL, NULL, AXM_LOG_OFF));
    CHECK(axm_membership_version(membership) == 0);
    CHECK(opened == NULL && snapshot == NULL && table == NULL && status == NULL &&
          subscription == NULL);
}

static void on_message(void *user_data, axm_log_level_t level, const char *target,
                       const char *message)
{
    struct things *things = user_data;
    char name[16];
    (void)level, (void)target, (void)message;
    CHECK(prctl(PR_GET_NAME, name) == 0);
    /* On the thread that such calls would wait for. */
    if (strcmp(name, "axm-runtime") != 0 || atomic_exchange(&things->begun, true)) {
        return;
    }
    refused(things);
    use_memory(things);
    axm_membership_free(things->freed);
    axm_subscription_free(things->subscription);
    atomic_store(&things->done, true);
}

static size_t count(axm_membership_t *membership, axm_filter_t filter)
{
    axm_snapshot_t *snapshot = NULL;
    OK(axm_membership_list(membership, filter, &snapshot));
    size_t count = axm_snapshot_count(snapshot);
    axm_snapshot_release(snapshot);
    return count;
}

static void inside_the_log_callback(const char *endpoint)
{
    struct things things;
    set_up(&things, endpoint);
    OK(axm_log_set(on_message, &things, AXM_LOG_INFO));
    const axm_worker_t worker2 = worker(ID2);
    OK(axm_membership_join(things.membership, &worker2, NULL));
    AWAIT(atomic_load(&things.done));
    OK(axm_log_set(NULL, NULL, AXM_LOG_OFF));
    /* The freed membership is closed in the background, so its worker is lost. */
    AWAIT(count(things.membership, AXM_FILTER_LOST) == 1);
    CHECK(count(things.membership, AXM_FILTER_LIVE) == 1);
    OK(axm_membership_leave(things.membership));
    OK(axm_membership_remove(things.membership, ID1));
    OK(axm_membership_remove(things.membership, ID2));
    axm_membership_free(things.membership);
}

static void on_event(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                     const axm_snapshot_t *all)
{
    struct things *things = user_data;
    (void)event, (void)member, (void)all;
    if (atomic_exchange(&things->begun, true)) {
        return;
    }
    axm_membership_t *membership = things->membership;
    axm_membership_t *opened = NULL;
    axm_subscription_t *subscription = NULL;
    axm_snapshot_t *snapshot = NULL;
    axm_status_t *status = NULL;
    const axm_worker_t worker2 = worker(ID2), worker3 = worker(ID3);
    OK(axm_membership_open(things->config, &opened));
    OK(axm_membership_join(membership, &worker2, NULL));
    OK(axm_membership_join(opened, &worker3, NULL));
    OK(axm_membership_subscribe(opened, ignore, NULL, &subscription));
    CHECK(count(membership, AXM_FILTER_LIVE) == 3 && axm_membership_version(opened) > 0);
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_membership_remove(membership, ID2));
    OK(axm_membership_leave_worker(membership, ID2));
    OK(axm_membership_remove(membership, ID2));
    OK(axm_membership_wait_for_change(membership, AXM_FILTER_LIVE, 0, -1, &snapshot));
    axm_snapshot_release(snapshot);
    OK(axm_membership_status(membership, &status));
    axm_status_free(status);
    OK(axm_log_set(no_message, NULL, AXM_LOG_TRACE));
    OK(axm_log_set(NULL, NULL, AXM_LOG_OFF));
    OK(axm_membership_leave(opened));
    OK(axm_membership_close(opened));
    axm_membership_free(opened);
    axm_subscription_free(subscription);
    use_memory(things);
    axm_membership_free(things->freed);
    axm_subscription_free(things->subscription);
    CHECK(count(membership, AXM_FILTER_LIVE) == 0 && count(membership, AXM_FILTER_LOST) == 2);
    OK(axm_shutdown(120000));
    FAILS(AXM_ERROR_CLOSED, axm_membership_list(membership, AXM_FILTER_ALL, &snapshot));
    axm_membership_free(membership);
    atomic_store(&things->done, true);
}

static void inside_an_event_callback(const char *endpoint)
{
    struct things things;
    axm_subscription_t *subscription = NULL;
    set_up(&things, endpoint);
    OK(axm_membership_subscribe(things.membership, on_event, &things, &subscription));
    AWAIT(atomic_load(&things.done));
    axm_subscription_free(subscription);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    inside_the_log_callback(argv[1]);
    inside_an_event_callback(argv[1]);
    return 0;
}
