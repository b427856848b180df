/*
 * Calls every function with wrong arguments: NULL, bad UTF-8, unknown numbers, closed memberships.
 * Usage: misuse HOSTS_FILE
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char BAD_UTF8[] = "worker-\xff\xfe";
static const char IDENTITY[] = "worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d";

static void null_where_nothing_can_fail(void)
{
    CHECK(axm_error_kind(NULL) == AXM_OK);
    CHECK(!axm_error_is_timeout(NULL));
    CHECK_TEXT("unknown", axm_error_name(-1));
    CHECK(axm_error_message(NULL) == NULL);
    CHECK(!axm_error_is_retryable(NULL));
    CHECK(axm_membership_version(NULL) == 0);
    CHECK(axm_snapshot_retain(NULL) == NULL);
    CHECK(axm_snapshot_version(NULL) == 0);
    CHECK(axm_snapshot_revision(NULL) == 0);
    CHECK(axm_snapshot_age_ms(NULL) == -1);
    CHECK(axm_snapshot_count(NULL) == 0);
    CHECK(axm_snapshot_member(NULL, 0) == NULL);
    CHECK(axm_snapshot_skipped_count(NULL) == 0);
    CHECK(axm_snapshot_skipped_key(NULL, 0) == NULL);
    CHECK(axm_snapshot_skipped_reason(NULL, 0) == NULL);
    CHECK(axm_snapshot_skipped_total(NULL) == 0);
    CHECK(axm_member_worker(NULL) == NULL);
    CHECK(axm_member_state(NULL) == 0);
    CHECK(axm_status_version(NULL) == 0);
    CHECK(axm_status_view_age_ms(NULL) == -1);
    CHECK(axm_status_view_error(NULL) == NULL);
    CHECK(axm_status_endpoint_count(NULL) == 0);
    CHECK(axm_status_endpoint(NULL, 0) == NULL);
    CHECK(axm_status_registration_count(NULL) == 0);
    CHECK(axm_status_registration(NULL, 0) == NULL);
    axm_status_free(NULL);
    axm_subscription_free(NULL);
    axm_error_free(NULL);
    axm_string_free(NULL);
    axm_config_free(NULL);
    axm_snapshot_release(NULL);
    axm_membership_free(NULL);
}

static void configuration(const char *hosts_file)
{
    axm_config_t *config = axm_config_new();
    CHECK(config != NULL);
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "config is NULL", axm_config_set(NULL, "k", "v"));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "key is NULL", axm_config_set(config, NULL, "v"));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "value is NULL", axm_config_set(config, "k", NULL));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "key is not UTF-8",
               axm_config_set(config, BAD_UTF8, "v"));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "value is not UTF-8",
               axm_config_set(config, "k", BAD_UTF8));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "config is NULL",
               axm_config_load_file(NULL, hosts_file));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "path is NULL", axm_config_load_file(config, NULL));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "path is not UTF-8",
               axm_config_load_file(config, BAD_UTF8));
    FAILS_WITH(AXM_ERROR_NOT_FOUND, "/does/not/exist",
               axm_config_load_file(config, "/does/not/exist"));
    axm_config_free(config);
}

static void opening(const char *hosts_file)
{
    axm_config_t *config = static_config(hosts_file);
    axm_membership_t *untouched = (axm_membership_t *)config;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "config is NULL", axm_membership_open(NULL, &untouched));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "out is NULL", axm_membership_open(config, NULL));

    OK(axm_config_set(config, "alluxio.worker.membership.manager.type", "SOMETHING"));
    FAILS_WITH(AXM_ERROR_INVALID_CONFIG, "SOMETHING", axm_membership_open(config, &untouched));
    OK(axm_config_set(config, "alluxio.worker.membership.manager.type", "ETCD"));
    FAILS_WITH(AXM_ERROR_MISSING_CONFIG, "alluxio.etcd.endpoints",
               axm_membership_open(config, &untouched));
    CHECK(untouched == (axm_membership_t *)config);
    axm_config_free(config);

    config = static_config("/does/not/exist");
    FAILS_WITH(AXM_ERROR_NOT_FOUND, "/does/not/exist", axm_membership_open(config, &untouched));
    axm_config_free(config);
}

/* More files than the library has threads. */
static void files_that_take_too_long(const char *hosts_file)
{
    char path[4096];
    CHECK(snprintf(path, sizeof path, "%s.pipe", hosts_file) < (int)sizeof path);
    CHECK(mkfifo(path, 0600) == 0);
    /* Readers of the pipe wait for this writer. */
    int writer = open(path, O_RDWR);
    CHECK(writer >= 0);
    axm_config_t *config = static_config(path);
    OK(axm_config_set(config, "alluxio.membership.native.operation.timeout", "100ms"));
    for (int i = 0; i < 5; i++) {
        axm_membership_t *untouched = NULL;
        FAILS_WITH(AXM_ERROR_IO, path, axm_membership_open(config, &untouched));
        CHECK(untouched == NULL);
    }
    axm_config_free(config);
    CHECK(unlink(path) == 0);
    CHECK(close(writer) == 0);
}

static axm_worker_t good_worker(void)
{
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = IDENTITY;
    worker.host = "host1";
    return worker;
}

static void bad_workers(axm_membership_t *membership)
{
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "worker is NULL",
               axm_membership_join(membership, NULL, NULL));

    axm_worker_t worker = good_worker();
    worker.struct_size = 0;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "AXM_WORKER_INIT",
               axm_membership_join(membership, &worker, NULL));
    worker.struct_size = sizeof worker - 1;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "struct_size",
               axm_membership_join(membership, &worker, NULL));
    worker.struct_size = SIZE_MAX;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "struct_size",
               axm_membership_join(membership, &worker, NULL));

    /* A caller of a later version, with a field that this library does not know. */
    struct {
        axm_worker_t worker;
        int32_t later[2];
    } later = {good_worker(), {0, 1}};
    later.worker.struct_size = sizeof later;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "does not know",
               axm_membership_join(membership, &later.worker, NULL));
    later.later[1] = 0;
    OK(axm_membership_join(membership, &later.worker, NULL));

    worker = good_worker();
    worker.identity = NULL;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "worker.identity is NULL, expected worker-<uuid>",
               axm_membership_join(membership, &worker, NULL));
    worker.identity = "6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d";
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, worker.identity,
               axm_membership_join(membership, &worker, NULL));
    worker.identity = BAD_UTF8;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "worker.identity is not UTF-8",
               axm_membership_join(membership, &worker, NULL));
    worker = good_worker();
    worker.host = NULL;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "worker.host is NULL",
               axm_membership_join(membership, &worker, NULL));
    worker.host = BAD_UTF8;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "worker.host is not UTF-8",
               axm_membership_join(membership, &worker, NULL));
    worker.host = "";
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "worker.host is empty",
               axm_membership_join(membership, &worker, NULL));
    for (int i = 0; i < 6; i++) {
        worker = good_worker();
        int32_t *const ports[] = {&worker.rpc_port,        &worker.data_port,
                                  &worker.secure_rpc_port,
                                  &worker.netty_data_port, &worker.web_port,
                                      &worker.http_server_port};
        *ports[i] = 65536;
        FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "_port is 65536",
                   axm_membership_join(membership, &worker, NULL));
        *ports[i] = -1;
        FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "_port is -1",
                   axm_membership_join(membership, &worker, NULL));
        *ports[i] = 65535;
        OK(axm_membership_join(membership, &worker, NULL));
    }
    worker = good_worker();
    worker.container_host = BAD_UTF8;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "worker.container_host is not UTF-8",
               axm_membership_join(membership, &worker, NULL));
    worker = good_worker();
    worker.domain_socket_path = BAD_UTF8;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "worker.domain_socket_path is not UTF-8",
               axm_membership_join(membership, &worker, NULL));
}

static void bad_join_options(axm_membership_t *membership)
{
    const axm_worker_t worker = good_worker();
    axm_join_options_t options = AXM_JOIN_OPTIONS_INIT;
    OK(axm_membership_join(membership, &worker, &options));
    options.k8s = 3;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "options.k8s is 3, expected an AXM_K8S_* value",
               axm_membership_join(membership, &worker, &options));
    options.k8s = -1;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "options.k8s is -1",
               axm_membership_join(membership, &worker, &options));
    options.struct_size = 0;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "AXM_JOIN_OPTIONS_INIT",
               axm_membership_join(membership, &worker, &options));
}

static void bad_counters(const axm_status_t *status)
{
    /* A caller of a later version. The library does not change fields that it does not know. */
    struct {
        axm_counters_t counters;
        uint64_t later;
    } later = {AXM_COUNTERS_INIT, 7};
    later.counters.struct_size = sizeof later;
    later.counters.listings = 9;
    OK(axm_status_counters(status, &later.counters));
    CHECK(later.counters.struct_size == sizeof later && later.later == 7);
    CHECK(later.counters.listings == 0 && later.counters.lease_left_ms == -1);
    axm_counters_t counters = {0};
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "AXM_COUNTERS_INIT",
               axm_status_counters(status, &counters));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "counters is NULL", axm_status_counters(status, NULL));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "status is NULL", axm_status_counters(NULL, &counters));
    const axm_registration_t *registration = NULL;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "status is NULL",
               axm_status_find_registration(NULL, IDENTITY, &registration));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "identity is NULL",
               axm_status_find_registration(status, NULL, &registration));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "out is NULL",
               axm_status_find_registration(status, IDENTITY, NULL));
    CHECK(registration == NULL);
}

static void bad_arguments(axm_membership_t *membership)
{
    static const axm_filter_t BAD_FILTERS[] = {-1, 3, INT32_MIN, INT32_MAX};
    axm_snapshot_t *snapshot = NULL;
    char *table = NULL;
    for (size_t i = 0; i < sizeof BAD_FILTERS / sizeof BAD_FILTERS[0]; i++) {
        FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "filter",
                   axm_membership_list(membership, BAD_FILTERS[i], &snapshot));
        FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "filter",
                   axm_membership_wait_for_change(membership, BAD_FILTERS[i], 0, 0, &snapshot));
    }
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "out is NULL",
               axm_membership_list(membership, AXM_FILTER_ALL, NULL));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "out is NULL",
               axm_membership_wait_for_change(membership, AXM_FILTER_ALL, 0, 0, NULL));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "out is NULL", axm_membership_show(membership, NULL));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "identity is NULL",
               axm_membership_remove(membership, NULL));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "identity is not UTF-8",
               axm_membership_remove(membership, BAD_UTF8));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "Unrecognized worker identity string: worker",
               axm_membership_remove(membership, "worker"));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "identity is NULL",
               axm_membership_leave_worker(membership, NULL));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "identity is not UTF-8",
               axm_membership_leave_worker(membership, BAD_UTF8));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "Unrecognized worker identity string: ",
               axm_membership_leave_worker(membership, ""));

    const axm_worker_t worker = good_worker();
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_membership_join(NULL, &worker, NULL));
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_membership_list(NULL, AXM_FILTER_ALL, &snapshot));
    FAILS(AXM_ERROR_INVALID_ARGUMENT,
          axm_membership_wait_for_change(NULL, AXM_FILTER_ALL, 0, 0, &snapshot));
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_membership_show(NULL, &table));
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_membership_remove(NULL, IDENTITY));
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_membership_leave_worker(NULL, IDENTITY));
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_membership_leave(NULL));
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_membership_close(NULL));
    CHECK(snapshot == NULL && table == NULL);
}

static void ignore_event(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                         const axm_snapshot_t *snapshot)
{
    (void)user_data, (void)event, (void)member, (void)snapshot;
}

static void ignore_message(void *user_data, axm_log_level_t level, const char *target,
                           const char *message)
{
    (void)user_data, (void)level, (void)target, (void)message;
}

static void bad_callbacks(axm_membership_t *membership)
{
    axm_subscription_t *subscription = NULL;
    axm_status_t *status = NULL;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "membership is NULL",
               axm_membership_subscribe(NULL, ignore_event, NULL, &subscription));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "callback is NULL",
               axm_membership_subscribe(membership, NULL, NULL, &subscription));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "out is NULL",
               axm_membership_subscribe(membership, ignore_event, NULL, NULL));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "membership is NULL",
               axm_membership_status(NULL, &status));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "out is NULL", axm_membership_status(membership, NULL));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "level is 6", axm_log_set(ignore_message, NULL, 6));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "level is -1", axm_log_set(NULL, NULL, -1));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "timeout_ms is -1", axm_shutdown(-1));
    OK(axm_log_set(ignore_message, NULL, AXM_LOG_TRACE));
    OK(axm_log_set(NULL, NULL, AXM_LOG_OFF));
    CHECK(subscription == NULL && status == NULL);

    /*
     * All states of a STATIC cluster are known from the start, so the subscription delivers no more
     * events.
     */
    OK(axm_membership_status(membership, &status));
    CHECK(axm_status_version(status) > 0 && axm_status_view_age_ms(status) == 0);
    CHECK(axm_status_endpoint_count(status) == 0 && axm_status_registration_count(status) == 0);
    bad_counters(status);
    axm_status_free(status);
    OK(axm_membership_subscribe(membership, ignore_event, NULL, &subscription));
    axm_subscription_free(subscription);
}

static void bad_snapshot_arguments(axm_membership_t *membership)
{
    const axm_member_t *member = NULL;
    axm_snapshot_t *snapshot = NULL;
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "snapshot is NULL",
               axm_snapshot_find(NULL, IDENTITY, &member));
    OK(axm_membership_list(membership, AXM_FILTER_ALL, &snapshot));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "identity is NULL",
               axm_snapshot_find(snapshot, NULL, &member));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "identity is not UTF-8",
               axm_snapshot_find(snapshot, BAD_UTF8, &member));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "Unrecognized worker identity string: x",
               axm_snapshot_find(snapshot, "x", &member));
    FAILS_WITH(AXM_ERROR_INVALID_ARGUMENT, "out is NULL",
               axm_snapshot_find(snapshot, IDENTITY, NULL));
    CHECK(axm_snapshot_member(snapshot, axm_snapshot_count(snapshot)) == NULL);
    CHECK(axm_snapshot_member(snapshot, SIZE_MAX) == NULL);
    CHECK(axm_snapshot_skipped_key(snapshot, SIZE_MAX) == NULL);
    CHECK(axm_snapshot_skipped_reason(snapshot, SIZE_MAX) == NULL);
    axm_snapshot_release(snapshot);
}

static void closed(axm_membership_t *membership)
{
    axm_snapshot_t *snapshot = NULL;
    axm_snapshot_t *kept = NULL;
    char *table = NULL;
    const axm_worker_t worker = good_worker();
    OK(axm_membership_list(membership, AXM_FILTER_ALL, &kept));
    OK(axm_membership_close(membership));
    OK(axm_membership_close(membership));
    FAILS(AXM_ERROR_CLOSED, axm_membership_join(membership, &worker, NULL));
    FAILS(AXM_ERROR_CLOSED, axm_membership_list(membership, AXM_FILTER_ALL, &snapshot));
    FAILS(AXM_ERROR_CLOSED, axm_membership_list(membership, AXM_FILTER_LIVE, &snapshot));
    FAILS(AXM_ERROR_CLOSED,
          axm_membership_wait_for_change(membership, AXM_FILTER_ALL, 0, -1, &snapshot));
    FAILS(AXM_ERROR_CLOSED, axm_membership_show(membership, &table));
    FAILS(AXM_ERROR_CLOSED, axm_membership_remove(membership, IDENTITY));
    FAILS(AXM_ERROR_CLOSED, axm_membership_leave_worker(membership, IDENTITY));
    FAILS(AXM_ERROR_CLOSED, axm_membership_leave(membership));
    axm_subscription_t *subscription = NULL;
    axm_status_t *status = NULL;
    FAILS(AXM_ERROR_CLOSED, axm_membership_subscribe(membership, ignore_event, NULL,
                                                     &subscription));
    FAILS(AXM_ERROR_CLOSED, axm_membership_status(membership, &status));
    CHECK(subscription == NULL && status == NULL);
    CHECK(axm_membership_version(membership) == 0);
    CHECK(snapshot == NULL && table == NULL);
    CHECK(axm_snapshot_count(kept) == 2);
    axm_snapshot_release(kept);
}

static void over_long_input(const char *hosts_file)
{
    enum { LENGTH = 1 << 20 };
    char *text = malloc(LENGTH + 1);
    CHECK(text != NULL);
    memset(text, 'x', LENGTH);
    text[LENGTH] = '\0';
    axm_config_t *config = static_config(hosts_file);
    OK(axm_config_set(config, text, text));
    FAILS(AXM_ERROR_IO, axm_config_load_file(config, text));
    axm_membership_t *membership = open_and_free(config);
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_membership_remove(membership, text));
    axm_snapshot_t *snapshot = NULL;
    const axm_member_t *member = NULL;
    OK(axm_membership_list(membership, AXM_FILTER_ALL, &snapshot));
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_snapshot_find(snapshot, text, &member));
    axm_snapshot_release(snapshot);
    axm_membership_free(membership);
    free(text);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    const char *hosts_file = argv[1];
    CHECK(axm_abi_version() == AXM_ABI_VERSION);
    CHECK(strlen(axm_version()) >= strlen("0.0.0"));
    null_where_nothing_can_fail();
    configuration(hosts_file);
    opening(hosts_file);
    files_that_take_too_long(hosts_file);

    axm_membership_t *membership = open_and_free(static_config(hosts_file));
    bad_workers(membership);
    bad_join_options(membership);
    bad_arguments(membership);
    bad_callbacks(membership);
    bad_snapshot_arguments(membership);
    closed(membership);
    axm_membership_free(membership);
    over_long_input(hosts_file);
    OK(axm_shutdown(10000));
    return 0;
}
