/*
 * The life of two workers, in an etcd that belongs to this test alone.
 * Usage: etcd ENDPOINT
 */
#include "check.h"

/* A little more than etcd stores. */
enum { TOO_LONG = (3 << 19) + 1 };
#define ID1 "worker-00000000-0000-4000-8000-000000000001"
#define ID2 "worker-00000000-0000-4000-8000-000000000002"

static size_t count(const axm_membership_t *membership, axm_filter_t filter)
{
    axm_snapshot_t *snapshot = NULL;
    OK(axm_membership_list(membership, filter, &snapshot));
    size_t count = axm_snapshot_count(snapshot);
    axm_snapshot_release(snapshot);
    return count;
}

static void check_counts(const axm_membership_t *membership, size_t live, size_t lost)
{
    CHECK(count(membership, AXM_FILTER_LIVE) == live);
    CHECK(count(membership, AXM_FILTER_LOST) == lost);
    CHECK(count(membership, AXM_FILTER_ALL) == live + lost);
}

static axm_worker_t worker1(void)
{
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = ID1;
    worker.host = "host-\xc3\xbc";
    worker.container_host = "container1";
    worker.domain_socket_path = "/var/lib/domain.sock";
    worker.rpc_port = 1;
    worker.data_port = 2;
    worker.secure_rpc_port = 3;
    worker.netty_data_port = 4;
    worker.web_port = 5;
    worker.http_server_port = 6;
    return worker;
}

static axm_worker_t worker2(void)
{
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = ID2;
    worker.host = "host2";
    worker.rpc_port = 29999;
    return worker;
}

static void joined(const axm_membership_t *lister)
{
    axm_snapshot_t *snapshot = NULL;
    const axm_member_t *member = NULL;
    check_counts(lister, 2, 0);
    OK(axm_membership_list(lister, AXM_FILTER_ALL, &snapshot));
    CHECK(axm_snapshot_revision(snapshot) > 0);
    CHECK(axm_snapshot_version(snapshot) > 0);
    OK(axm_snapshot_find(snapshot, ID1, &member));
    CHECK(member == axm_snapshot_member(snapshot, 0));
    CHECK_TEXT(ID1, axm_member_worker(member)->identity);
    CHECK_TEXT("host-\xc3\xbc", axm_member_worker(member)->host);
    CHECK_TEXT("container1", axm_member_worker(member)->container_host);
    CHECK_TEXT("/var/lib/domain.sock", axm_member_worker(member)->domain_socket_path);
    CHECK(axm_member_worker(member)->rpc_port == 1);
    CHECK(axm_member_worker(member)->data_port == 2);
    CHECK(axm_member_worker(member)->secure_rpc_port == 3);
    CHECK(axm_member_worker(member)->netty_data_port == 4);
    CHECK(axm_member_worker(member)->web_port == 5);
    CHECK(axm_member_worker(member)->http_server_port == 6);
    CHECK(axm_member_state(member) == AXM_STATE_LIVE);
    OK(axm_snapshot_find(snapshot, ID2, &member));
    CHECK(member == axm_snapshot_member(snapshot, 1));
    CHECK_TEXT("", axm_member_worker(member)->container_host);

    /* The test stored these records under the cluster's two prefixes. */
    CHECK(axm_snapshot_skipped_count(snapshot) == 2);
    CHECK(axm_snapshot_skipped_total(snapshot) == 2);
    CHECK_TEXT("/DHT/c/AUTHORIZED/broken", axm_snapshot_skipped_key(snapshot, 0));
    CHECK_TEXT("/ServiceDiscovery/c/broken", axm_snapshot_skipped_key(snapshot, 1));
    CHECK(strlen(axm_snapshot_skipped_reason(snapshot, 0)) > 0);
    CHECK(axm_snapshot_skipped_key(snapshot, 2) == NULL);
    axm_snapshot_release(snapshot);

    char *table = NULL;
    OK(axm_membership_show(lister, &table));
    CHECK_TEXT("WorkerId\tAddress\tStatus\n" ID1 "\thost-\xc3\xbc:1\tONLINE\n" ID2
               "\thost2:29999\tONLINE\n",
               table);
    axm_string_free(table);
}

static void refused(axm_membership_t *joiner, axm_membership_t *lister)
{
    axm_worker_t same_worker = worker1();
    OK(axm_membership_join(joiner, &same_worker, NULL));
    axm_worker_t other_worker = worker2();
    other_worker.identity = ID1;
    FAILS_WITH(AXM_ERROR_ALREADY_EXISTS,
               "Some other member with same id registered on the ring, bail.",
               axm_membership_join(lister, &other_worker, NULL));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT,
               "Can't remove running worker: " ID1 ", stop the worker before removing",
               axm_membership_remove(lister, ID1));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "Unrecognized or non-existing worker: worker-7",
               axm_membership_remove(lister, "worker-7"));
    OK(axm_membership_leave_worker(lister, "worker-7"));
    check_counts(lister, 2, 0);

    /* Worker 2 starts again with another address, which only Kubernetes allows. */
    axm_join_options_t options = AXM_JOIN_OPTIONS_INIT;
    axm_worker_t moved_worker = worker2();
    moved_worker.host = "host3";
    options.k8s = AXM_K8S_NO;
    FAILS(AXM_ERROR_ALREADY_EXISTS, axm_membership_join(joiner, &moved_worker, &options));
    options.k8s = AXM_K8S_YES;
    OK(axm_membership_join(joiner, &moved_worker, &options));
    moved_worker.host = "host2";
    OK(axm_membership_join(joiner, &moved_worker, &options));
}

static void stopped_and_removed(axm_membership_t *joiner, axm_membership_t *lister)
{
    axm_snapshot_t *snapshot = NULL;
    OK(axm_membership_leave_worker(joiner, ID1));
    check_counts(lister, 1, 1);
    OK(axm_membership_list(lister, AXM_FILTER_LOST, &snapshot));
    CHECK_TEXT(ID1, axm_member_worker(axm_snapshot_member(snapshot, 0))->identity);
    CHECK(axm_member_state(axm_snapshot_member(snapshot, 0)) == AXM_STATE_LOST);
    axm_snapshot_release(snapshot);
    OK(axm_membership_remove(lister, ID1));
    check_counts(lister, 1, 0);
}

static void left(axm_membership_t *joiner, axm_membership_t *lister)
{
    axm_snapshot_t *snapshot = NULL;
    axm_worker_t worker = worker1();
    OK(axm_membership_join(joiner, &worker, NULL));
    check_counts(lister, 2, 0);
    OK(axm_membership_leave(lister)); /* which has not registered anybody */
    check_counts(lister, 2, 0);
    uint64_t version = axm_membership_version(lister);
    CHECK(version > 0);
    OK(axm_membership_leave(joiner));
    OK(axm_membership_wait_for_change(lister, AXM_FILTER_LOST, version, 60000, &snapshot));
    CHECK(snapshot != NULL && axm_snapshot_version(snapshot) > version);
    axm_snapshot_release(snapshot);
    check_counts(lister, 0, 2);

    OK(axm_membership_join(joiner, &worker, NULL));
    check_counts(lister, 1, 1);
    OK(axm_membership_close(joiner));
    check_counts(lister, 0, 2);
}

/* Endpoints, and a cluster whose name is too long. */
static void long_names(const char *endpoint, const char *text)
{
    axm_membership_t *membership = NULL;
    axm_snapshot_t *snapshot = NULL;
    axm_config_t *config = etcd_config(text);
    FAILS(AXM_ERROR_INVALID_CONFIG, axm_membership_open(config, &membership));
    axm_config_free(config);

    config = etcd_config(endpoint);
    OK(axm_config_set(config, "alluxio.cluster.name", text));
    membership = open_and_free(config);
    const axm_worker_t worker = worker1();
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "--max-request-bytes",
               axm_membership_join(membership, &worker, NULL));
    axm_error_t *error = axm_membership_list(membership, AXM_FILTER_ALL, &snapshot);
    CHECK(error != NULL);
    axm_error_free(error);
    axm_membership_free(membership);
}

/* Texts that C cannot show, and texts that etcd does not store. */
static void strange_texts(const char *endpoint)
{
    const size_t length = TOO_LONG;
    axm_config_t *config = etcd_config(endpoint);
    OK(axm_config_set(config, "alluxio.cluster.name", "strange"));
    axm_membership_t *membership = open_and_free(config);
    axm_snapshot_t *snapshot = NULL;
    OK(axm_membership_list(membership, AXM_FILTER_ALL, &snapshot));
    /* The test stored a worker whose host contains U+0000. */
    CHECK(axm_snapshot_count(snapshot) == 1);
    /* The test also stored more unreadable records than a snapshot carries. */
    CHECK(axm_snapshot_skipped_count(snapshot) == 100);
    CHECK(axm_snapshot_skipped_total(snapshot) == 101);
    CHECK_TEXT("a\xef\xbf\xbd"
               "b",
               axm_member_worker(axm_snapshot_member(snapshot, 0))->host);
    axm_snapshot_release(snapshot);

    char *text = malloc(length + 1);
    CHECK(text != NULL);
    memset(text, 'x', length);
    text[length] = '\0';
    axm_worker_t worker = worker1();
    worker.identity = text;
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_membership_join(membership, &worker, NULL));
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_membership_leave_worker(membership, text));
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_membership_remove(membership, text));
    /* Each text alone is short enough, but the three together are not. */
    worker = worker1();
    worker.host = worker.container_host = worker.domain_socket_path = text + 2 * length / 3;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "--max-request-bytes",
               axm_membership_join(membership, &worker, NULL));
    /* The refused joins do not affect what follows. */
    worker = worker1();
    OK(axm_membership_join(membership, &worker, NULL));
    OK(axm_membership_leave(membership));
    long_names(endpoint, text);
    free(text);
    axm_membership_free(membership);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    axm_membership_t *joiner = open_and_free(etcd_config(argv[1]));
    axm_membership_t *lister = open_and_free(etcd_config(argv[1]));
    check_counts(lister, 0, 0);
    axm_worker_t worker = worker1();
    OK(axm_membership_join(joiner, &worker, NULL));
    worker = worker2();
    OK(axm_membership_join(joiner, &worker, NULL));
    joined(lister);
    refused(joiner, lister);
    stopped_and_removed(joiner, lister);
    left(joiner, lister);
    strange_texts(argv[1]);
    axm_membership_free(joiner);
    axm_membership_free(lister);
    return 0;
}
