/*
 * Lists a STATIC cluster of the hosts "host1" and "host-ü" in every way.
 * Usage: static HOSTS_FILE SITE_PROPERTIES
 */
#include "check.h"

static const char STRANGER[] = "worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d";

static void getters(const axm_snapshot_t *snapshot)
{
    CHECK(axm_snapshot_version(snapshot) > 0);
    CHECK(axm_snapshot_revision(snapshot) == 0);
    CHECK(axm_snapshot_count(snapshot) == 2);
    CHECK(axm_snapshot_skipped_count(snapshot) == 0);
    const axm_member_t *member = axm_snapshot_member(snapshot, 0);
    CHECK_TEXT("host1", axm_member_worker(member)->host);
    CHECK_TEXT("", axm_member_worker(member)->container_host);
    CHECK_TEXT("", axm_member_worker(member)->domain_socket_path);
    CHECK(axm_member_state(member) == AXM_STATE_LIVE);
    CHECK(axm_member_worker(member)->rpc_port == 12345);
    CHECK(axm_member_worker(member)->data_port == 29997);
    CHECK(axm_member_worker(member)->secure_rpc_port == 0);
    CHECK(axm_member_worker(member)->netty_data_port == 29997);
    CHECK(axm_member_worker(member)->web_port == 30000);
    CHECK(axm_member_worker(member)->http_server_port == 28080);
    CHECK_TEXT("host-\xc3\xbc", axm_member_worker(axm_snapshot_member(snapshot, 1))->host);
}

static void finding(const axm_snapshot_t *snapshot)
{
    const axm_member_t *found = NULL;
    for (size_t i = 0; i < axm_snapshot_count(snapshot); i++) {
        const axm_member_t *member = axm_snapshot_member(snapshot, i);
        OK(axm_snapshot_find(snapshot, axm_member_worker(member)->identity, &found));
        CHECK(found == member);
    }
    OK(axm_snapshot_find(snapshot, STRANGER, &found));
    CHECK(found == NULL);
}

static void waiting(const axm_membership_t *membership, uint64_t version)
{
    axm_snapshot_t *snapshot = NULL;
    OK(axm_membership_wait_for_change(membership, AXM_FILTER_LIVE, 0, -1, &snapshot));
    CHECK(axm_snapshot_version(snapshot) == version);
    CHECK(axm_snapshot_count(snapshot) == 2);
    axm_snapshot_release(snapshot);
    OK(axm_membership_wait_for_change(membership, AXM_FILTER_LIVE, version, 10, &snapshot));
    CHECK(snapshot == NULL);
    OK(axm_membership_wait_for_change(membership, AXM_FILTER_LIVE, UINT64_MAX, 0, &snapshot));
    CHECK(snapshot == NULL);
}

/*
 * The lines of the file define the workers, so functions that change a cluster succeed and have no
 * effect.
 */
static void changing(axm_membership_t *membership)
{
    axm_snapshot_t *before = NULL;
    axm_snapshot_t *after = NULL;
    axm_status_t *status = NULL;
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = STRANGER;
    worker.host = "stranger";
    OK(axm_membership_list(membership, AXM_FILTER_ALL, &before));
    OK(axm_membership_join(membership, &worker, NULL));
    OK(axm_membership_remove(membership, STRANGER));
    OK(axm_membership_remove(membership,
                             axm_member_worker(axm_snapshot_member(before, 0))->identity));
    OK(axm_membership_leave_worker(membership, STRANGER));
    OK(axm_membership_leave(membership));
    OK(axm_membership_list(membership, AXM_FILTER_ALL, &after));
    CHECK(after == before);
    OK(axm_membership_status(membership, &status));
    CHECK(axm_status_registration_count(status) == 0);
    axm_status_free(status);
    axm_snapshot_release(before);
    axm_snapshot_release(after);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    axm_config_t *config = static_config(argv[1]);
    OK(axm_config_load_file(config, argv[2]));
    axm_membership_t *membership = open_and_free(config);

    axm_snapshot_t *all = NULL;
    axm_snapshot_t *again = NULL;
    axm_snapshot_t *live = NULL;
    axm_snapshot_t *lost = NULL;
    OK(axm_membership_list(membership, AXM_FILTER_ALL, &all));
    OK(axm_membership_list(membership, AXM_FILTER_ALL, &again));
    CHECK(all == again);
    OK(axm_membership_list(membership, AXM_FILTER_LIVE, &live));
    OK(axm_membership_list(membership, AXM_FILTER_LOST, &lost));
    CHECK(axm_snapshot_count(live) == 2);
    CHECK(axm_snapshot_count(lost) == 0);
    CHECK(axm_membership_version(membership) == axm_snapshot_version(all));
    getters(all);
    finding(all);
    waiting(membership, axm_snapshot_version(all));
    changing(membership);

    char *table = NULL;
    OK(axm_membership_show(membership, &table));
    CHECK(strncmp(table, "WorkerId\tAddress\tStatus\n", 24) == 0);
    CHECK(strstr(table, "\thost1:12345\tN/A\n") != NULL);
    axm_string_free(table);

    /*
     * Two lists of one snapshot are two owners. A third owner keeps the snapshot after everything
     * else is freed.
     */
    CHECK(axm_snapshot_retain(all) == all);
    axm_snapshot_release(again);
    axm_snapshot_release(live);
    axm_membership_free(membership);
    axm_snapshot_release(lost);
    axm_snapshot_release(all);
    getters(all);
    finding(all);
    axm_snapshot_release(all);
    return 0;
}
