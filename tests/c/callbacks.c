/*
 * Tests subscriptions, the status, log messages and the shutdown.
 * Usage: callbacks ENDPOINT, where the etcd belongs to this test alone
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#define ID1 "worker-00000000-0000-4000-8000-000000000001"
#define ID2 "worker-00000000-0000-4000-8000-000000000002"

/* The events that a subscription delivered. */
struct record {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int count;
    axm_change_kind_t events[32];
    char identities[32][64];
    axm_snapshot_t *kept;
    const axm_membership_t *membership;
    axm_subscription_t *subscription;
    pthread_t thread;
    bool running;
};

static struct record new_record(const axm_membership_t *membership)
{
    struct record record = {.membership = membership};
    CHECK(pthread_mutex_init(&record.mutex, NULL) == 0);
    CHECK(pthread_cond_init(&record.changed, NULL) == 0);
    return record;
}

static void on_event(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                     const axm_snapshot_t *snapshot)
{
    struct record *record = user_data;
    CHECK(pthread_mutex_lock(&record->mutex) == 0);
    CHECK(!record->running && record->count < 32);
    record->running = true;
    record->thread = pthread_self();
    CHECK(pthread_mutex_unlock(&record->mutex) == 0);

    /* This callback may call every function. */
    axm_snapshot_t *listed = NULL;
    char *table = NULL;
    OK(axm_membership_list(record->membership, AXM_FILTER_ALL, &listed));
    CHECK(axm_snapshot_version(listed) >= axm_snapshot_version(snapshot));
    axm_snapshot_release(listed);
    OK(axm_membership_show(record->membership, &table));
    axm_string_free(table);

    CHECK(pthread_mutex_lock(&record->mutex) == 0);
    record->events[record->count] = event;
    snprintf(record->identities[record->count], 64, "%s", axm_member_worker(member)->identity);
    record->count++;
    axm_snapshot_release(record->kept);
    record->kept = axm_snapshot_retain(snapshot);
    record->running = false;
    CHECK(pthread_cond_signal(&record->changed) == 0);
    CHECK(pthread_mutex_unlock(&record->mutex) == 0);
}

/* Waits until the newest event is this one. */
static void await_event(struct record *record, axm_change_kind_t event, const char *identity)
{
    struct timespec deadline;
    CHECK(clock_gettime(CLOCK_REALTIME, &deadline) == 0);
    deadline.tv_sec += 60;
    CHECK(pthread_mutex_lock(&record->mutex) == 0);
    while (record->count == 0 || record->events[record->count - 1] != event ||
           strcmp(record->identities[record->count - 1], identity) != 0) {
        CHECK(pthread_cond_timedwait(&record->changed, &record->mutex, &deadline) == 0);
    }
    CHECK(!pthread_equal(record->thread, pthread_self()));
    CHECK(pthread_mutex_unlock(&record->mutex) == 0);
}

/* Returns whether the newest event shows this worker as live. */
static bool told_live(struct record *record, const char *identity)
{
    const axm_member_t *member = NULL;
    CHECK(pthread_mutex_lock(&record->mutex) == 0);
    OK(axm_snapshot_find(record->kept, identity, &member));
    bool live = axm_member_state(member) == AXM_STATE_LIVE;
    CHECK(pthread_mutex_unlock(&record->mutex) == 0);
    return live;
}

static void free_record(struct record *record)
{
    axm_snapshot_release(record->kept);
    CHECK(pthread_cond_destroy(&record->changed) == 0);
    CHECK(pthread_mutex_destroy(&record->mutex) == 0);
}

static axm_worker_t worker(const char *identity, const char *host)
{
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = identity;
    worker.host = host;
    worker.rpc_port = 29999;
    return worker;
}

static void events(const char *endpoint)
{
    axm_membership_t *joiner = open_and_free(etcd_config(endpoint));
    axm_membership_t *watcher = open_and_free(etcd_config(endpoint));
    axm_worker_t worker1 = worker(ID1, "host1");
    axm_worker_t worker2 = worker(ID2, "host2");
    OK(axm_membership_join(joiner, &worker1, NULL));

    struct record record = new_record(watcher);
    axm_subscription_t *subscription = NULL;
    OK(axm_membership_subscribe(watcher, on_event, &record, &subscription));
    await_event(&record, AXM_CHANGE_ADDED, ID1);
    CHECK(record.count == 1 && axm_snapshot_count(record.kept) == 1);

    OK(axm_membership_join(joiner, &worker2, NULL));
    /*
     * The worker's two keys are written one after the other, so it is added as lost and then live,
     * or added as live.
     */
    AWAIT(told_live(&record, ID2));
    OK(axm_membership_leave_worker(joiner, ID1));
    await_event(&record, AXM_CHANGE_LOST, ID1);
    OK(axm_membership_join(joiner, &worker1, NULL));
    await_event(&record, AXM_CHANGE_LIVE, ID1);
    worker1.http_server_port = 7;
    OK(axm_membership_join(joiner, &worker1, NULL));
    await_event(&record, AXM_CHANGE_MOVED, ID1);
    OK(axm_membership_leave_worker(joiner, ID1));
    await_event(&record, AXM_CHANGE_LOST, ID1);
    OK(axm_membership_remove(joiner, ID1));
    await_event(&record, AXM_CHANGE_REMOVED, ID1);
    CHECK(axm_snapshot_count(record.kept) == 1);

    /* After the end of the subscription there are no more events. */
    axm_subscription_free(subscription);
    int count = record.count;
    OK(axm_membership_join(joiner, &worker1, NULL));
    CHECK(record.count == count);
    free_record(&record);
    axm_membership_free(joiner);
    axm_membership_free(watcher);
}

/* The first event ends the subscription, from within the callback. */
static void end_inside(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                       const axm_snapshot_t *snapshot)
{
    struct record *record = user_data;
    CHECK(event == AXM_CHANGE_ADDED && axm_member_worker(member)->host != NULL &&
          axm_snapshot_count(snapshot) > 0);
    CHECK(pthread_mutex_lock(&record->mutex) == 0);
    CHECK(record->count == 0);
    axm_subscription_free(record->subscription);
    record->count = 1;
    CHECK(pthread_cond_signal(&record->changed) == 0);
    CHECK(pthread_mutex_unlock(&record->mutex) == 0);
}

static void ended_from_inside(const char *endpoint)
{
    axm_membership_t *membership = open_and_free(etcd_config(endpoint));
    struct record record = new_record(membership);
    CHECK(pthread_mutex_lock(&record.mutex) == 0);
    /* There are two workers, but the first event is the last one. */
    OK(axm_membership_subscribe(membership, end_inside, &record, &record.subscription));
    while (record.count == 0) {
        CHECK(pthread_cond_wait(&record.changed, &record.mutex) == 0);
    }
    CHECK(pthread_mutex_unlock(&record.mutex) == 0);
    axm_membership_free(membership);
    free_record(&record);
}

static void ended_by_close(const char *endpoint)
{
    axm_membership_t *membership = open_and_free(etcd_config(endpoint));
    struct record record = new_record(membership);
    axm_subscription_t *subscription = NULL;
    OK(axm_membership_subscribe(membership, on_event, &record, &subscription));
    await_event(&record, AXM_CHANGE_ADDED, ID2);
    OK(axm_membership_close(membership));
    axm_membership_free(membership);
    axm_subscription_free(subscription);
    free_record(&record);
}

/* The first event closes and frees the membership, from within the callback. */
static void free_inside(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                        const axm_snapshot_t *snapshot)
{
    struct record *record = user_data;
    (void)event, (void)member;
    axm_membership_t *membership = (axm_membership_t *)record->membership;
    axm_snapshot_t *listed = NULL;
    CHECK(record->count == 0 && axm_snapshot_count(snapshot) > 0);
    OK(axm_membership_close(membership));
    FAILS(AXM_ERROR_CLOSED, axm_membership_list(membership, AXM_FILTER_ALL, &listed));
    axm_membership_free(membership);
    CHECK(pthread_mutex_lock(&record->mutex) == 0);
    record->count = 1;
    CHECK(pthread_cond_signal(&record->changed) == 0);
    CHECK(pthread_mutex_unlock(&record->mutex) == 0);
}

static void freed_from_inside(const char *endpoint)
{
    struct record record = new_record(open_and_free(etcd_config(endpoint)));
    axm_subscription_t *subscription = NULL;
    OK(axm_membership_subscribe(record.membership, free_inside, &record, &subscription));
    CHECK(pthread_mutex_lock(&record.mutex) == 0);
    while (record.count == 0) {
        CHECK(pthread_cond_wait(&record.changed, &record.mutex) == 0);
    }
    CHECK(pthread_mutex_unlock(&record.mutex) == 0);
    axm_subscription_free(subscription);
    free_record(&record);
}

static bool knows_nothing(const axm_status_t *status)
{
    const axm_endpoint_t *endpoint = axm_status_endpoint(status, 0);
    return axm_status_version(status) == 0 && axm_status_view_age_ms(status) == -1 &&
           counters_of(status).listings == 0 && endpoint->is_healthy &&
               endpoint->last_error == NULL;
}

static bool cannot_list(const axm_status_t *status)
{
    const axm_endpoint_t *endpoint = axm_status_endpoint(status, 0);
    return !endpoint->is_healthy && endpoint->failed > 0 && endpoint->last_error != NULL &&
           strstr(endpoint->last_error, "127.0.0.1:1") != NULL &&
           axm_status_view_error(status) != NULL && counters_of(status).endpoints == 1 &&
           counters_of(status).endpoints_up == 0;
}

static bool is_up_to_date(const axm_status_t *status)
{
    const axm_counters_t counters = counters_of(status);
    return axm_status_version(status) > 0 && axm_status_view_age_ms(status) >= 0 &&
           axm_status_view_age_ms(status) < 60000 && axm_status_view_error(status) == NULL &&
           counters.listings > 0 && counters.watches > 0 && counters.checks > 0;
}

static bool has_a_healthy_endpoint(const axm_status_t *status)
{
    const axm_endpoint_t *endpoint = axm_status_endpoint(status, 0);
    return axm_status_endpoint_count(status) == 1 && endpoint->is_healthy &&
           endpoint->answered > 0 && endpoint->struct_size == sizeof *endpoint;
}

static bool keeps_worker1(const axm_status_t *status)
{
    const axm_registration_t *registration = axm_status_registration(status, 0);
    const axm_counters_t counters = counters_of(status);
    return axm_status_registration_count(status) == 1 && strcmp(registration->identity, ID1) == 0 &&
           registration->struct_size == sizeof *registration &&
           registration->state == AXM_REGISTRATION_REGISTERED && registration->lease != 0 &&
           registration->leases == 1 && !registration->is_displaced &&
           registration->lease_left_ms > 0 && registration->lease_left_ms <= 120000 &&
           counters.registrations == 1 && counters.registered == 1 &&
           counters.re_registrations == 0 && counters.lease_left_ms == registration->lease_left_ms;
}

static bool keeps_nobody(const axm_status_t *status)
{
    const axm_counters_t counters = counters_of(status);
    return axm_status_registration_count(status) == 0 && counters.registrations == 0 &&
           counters.registered == 0 && counters.lease_left_ms == -1;
}

/*
 * Returns whether the status is as expected now. A late request changes the status for a moment, so
 * callers wait for it.
 */
static bool status_is(const axm_membership_t *membership, bool (*such)(const axm_status_t *))
{
    axm_status_t *status = NULL;
    OK(axm_membership_status(membership, &status));
    bool is = such(status);
    axm_status_free(status);
    return is;
}

static bool version_is_that_of_the_status(const axm_membership_t *membership)
{
    axm_status_t *status = NULL;
    OK(axm_membership_status(membership, &status));
    bool same = axm_status_version(status) == axm_membership_version(membership);
    axm_status_free(status);
    return same;
}

static void status(const char *endpoint)
{
    axm_membership_t *membership = open_and_free(etcd_config(endpoint));
    axm_worker_t worker1 = worker(ID1, "host1");
    worker1.http_server_port = 8;
    axm_config_t *config = etcd_config("http://127.0.0.1:1");
    OK(axm_config_set(config, "alluxio.membership.native.operation.timeout", "1s"));
    axm_membership_t *elsewhere = open_and_free(config);
    axm_snapshot_t *snapshot = NULL;
    CHECK(status_is(elsewhere, knows_nothing));
    FAILS(AXM_ERROR_UNAVAILABLE, axm_membership_list(elsewhere, AXM_FILTER_ALL, &snapshot));
    AWAIT(status_is(elsewhere, cannot_list));
    axm_membership_free(elsewhere);

    OK(axm_membership_join(membership, &worker1, NULL));
    OK(axm_membership_list(membership, AXM_FILTER_ALL, &snapshot));
    CHECK(axm_snapshot_age_ms(snapshot) >= 0);
    axm_snapshot_release(snapshot);
    AWAIT(status_is(membership, is_up_to_date));
    AWAIT(status_is(membership, has_a_healthy_endpoint));
    AWAIT(status_is(membership, keeps_worker1));
    AWAIT(version_is_that_of_the_status(membership));
    axm_status_t *status = NULL;
    OK(axm_membership_status(membership, &status));
    const axm_registration_t *found = NULL;
    CHECK_TEXT(endpoint, axm_status_endpoint(status, 0)->url);
    CHECK(axm_status_endpoint(status, 1) == NULL && axm_status_registration(status, 1) == NULL);
    OK(axm_status_find_registration(status, ID1, &found));
    CHECK(found == axm_status_registration(status, 0));
    OK(axm_status_find_registration(status, ID2, &found));
    CHECK(found == NULL);
    axm_status_free(status);
    OK(axm_membership_leave(membership));
    CHECK(status_is(membership, keeps_nobody));
    axm_membership_free(membership);
}

struct messages {
    pthread_mutex_t mutex;
    int count;
    int most;
};

static void on_message(void *user_data, axm_log_level_t level, const char *target,
                       const char *message)
{
    struct messages *messages = user_data;
    CHECK(level >= AXM_LOG_ERROR && level <= AXM_LOG_DEBUG);
    CHECK(strncmp(target, "alluxio_membership", 18) == 0 && strlen(message) > 0);
    FAILS(AXM_ERROR_INVALID_ARGUMENT, axm_log_set(NULL, NULL, AXM_LOG_OFF));
    CHECK(pthread_mutex_lock(&messages->mutex) == 0);
    messages->count++;
    messages->most = level > messages->most ? level : messages->most;
    CHECK(pthread_mutex_unlock(&messages->mutex) == 0);
}

static void join_and_leave(const char *endpoint)
{
    axm_membership_t *membership = open_and_free(etcd_config(endpoint));
    axm_worker_t worker2 = worker(ID2, "host2");
    OK(axm_membership_join(membership, &worker2, NULL));
    axm_membership_free(membership);
}

static void messages(const char *endpoint)
{
    struct messages messages = {.count = 0};
    CHECK(pthread_mutex_init(&messages.mutex, NULL) == 0);
    OK(axm_log_set(on_message, &messages, AXM_LOG_INFO));
    join_and_leave(endpoint);
    OK(axm_log_set(on_message, &messages, AXM_LOG_OFF));
    CHECK(messages.count > 0 && messages.most == AXM_LOG_INFO);
    int count = messages.count;
    join_and_leave(endpoint);
    CHECK(messages.count == count);
    OK(axm_log_set(on_message, &messages, AXM_LOG_INFO));
    OK(axm_log_set(NULL, NULL, AXM_LOG_TRACE));
    count = messages.count;
    join_and_leave(endpoint);
    CHECK(messages.count == count);
    CHECK(pthread_mutex_destroy(&messages.mutex) == 0);
}

/* A callback whose call lasts until the test ends it. */
struct running {
    sem_t entered;
    sem_t go_on;
    sem_t ending;
    atomic_bool first;
    atomic_bool returned;
    axm_subscription_t *subscription;
};

static void new_running(struct running *running)
{
    atomic_init(&running->first, true);
    atomic_init(&running->returned, false);
    CHECK(sem_init(&running->entered, 0, 0) == 0 && sem_init(&running->go_on, 0, 0) == 0);
    CHECK(sem_init(&running->ending, 0, 0) == 0);
}

static void free_running(struct running *running)
{
    CHECK(sem_destroy(&running->entered) == 0 && sem_destroy(&running->go_on) == 0);
    CHECK(sem_destroy(&running->ending) == 0);
}

static void stay(struct running *running)
{
    if (atomic_exchange(&running->first, false)) {
        CHECK(sem_post(&running->entered) == 0);
        CHECK(sem_wait(&running->go_on) == 0);
        atomic_store(&running->returned, true);
    }
}

static void stay_in_event(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                          const axm_snapshot_t *snapshot)
{
    (void)event, (void)member, (void)snapshot;
    stay(user_data);
}

static void stay_in_message(void *user_data, axm_log_level_t level, const char *target,
                            const char *message)
{
    (void)level, (void)target, (void)message;
    stay(user_data);
}

static void *end_subscription(void *user_data)
{
    struct running *running = user_data;
    CHECK(sem_post(&running->ending) == 0);
    axm_subscription_free(running->subscription);
    CHECK(atomic_load(&running->returned));
    return NULL;
}

static void *end_messages(void *user_data)
{
    struct running *running = user_data;
    CHECK(sem_post(&running->ending) == 0);
    OK(axm_log_set(NULL, NULL, AXM_LOG_OFF));
    CHECK(atomic_load(&running->returned));
    return NULL;
}

/*
 * In another thread, ends what a callback is part of while the callback runs, and then lets the
 * callback return.
 */
static void end_while_running(struct running *running, void *(*end)(void *))
{
    const struct timespec some_time = {0, 50000000};
    pthread_t thread;
    CHECK(sem_wait(&running->entered) == 0);
    CHECK(pthread_create(&thread, NULL, end, running) == 0);
    CHECK(sem_wait(&running->ending) == 0);
    /*
     * The test cannot see that the end waits. It notices an end that does not wait, if that end has
     * time to return.
     */
    thrd_sleep(&some_time, NULL);
    CHECK(sem_post(&running->go_on) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void ended_while_running(const char *endpoint)
{
    struct running running = {.subscription = NULL};
    new_running(&running);
    axm_membership_t *membership = open_and_free(etcd_config(endpoint));
    OK(axm_membership_subscribe(membership, stay_in_event, &running, &running.subscription));
    end_while_running(&running, end_subscription);
    axm_membership_free(membership);
    free_running(&running);
}

static void *join_and_leave_thread(void *endpoint)
{
    join_and_leave(endpoint);
    return NULL;
}

static void replaced_while_running(char *endpoint)
{
    struct running running = {.subscription = NULL};
    pthread_t thread;
    new_running(&running);
    OK(axm_log_set(stay_in_message, &running, AXM_LOG_INFO));
    CHECK(pthread_create(&thread, NULL, join_and_leave_thread, endpoint) == 0);
    end_while_running(&running, end_messages);
    CHECK(pthread_join(thread, NULL) == 0);
    free_running(&running);
}

static void *wait_for_ever(void *membership)
{
    axm_snapshot_t *snapshot = NULL;
    FAILS(AXM_ERROR_CLOSED,
          axm_membership_wait_for_change(membership, AXM_FILTER_ALL, UINT64_MAX, -1, &snapshot));
    return NULL;
}

static void ignore_event(void *user_data, axm_change_kind_t event, const axm_member_t *member,
                         const axm_snapshot_t *snapshot)
{
    (void)user_data, (void)event, (void)member, (void)snapshot;
}

static void shut_down(const char *endpoint)
{
    axm_config_t *config = etcd_config(endpoint);
    axm_membership_t *membership = open_and_free(etcd_config(endpoint));
    axm_membership_t *other = membership;
    struct record record = new_record(membership);
    axm_subscription_t *subscription = NULL;
    axm_snapshot_t *snapshot = NULL;
    axm_worker_t worker2 = worker(ID2, "host2");
    OK(axm_membership_join(membership, &worker2, NULL));
    OK(axm_membership_list(membership, AXM_FILTER_ALL, &snapshot));
    OK(axm_membership_subscribe(membership, on_event, &record, &subscription));
    await_event(&record, AXM_CHANGE_ADDED, ID2);
    /* All objects may be freed afterwards, in any order. */
    axm_subscription_t *late = NULL;
    axm_status_t *status = NULL;
    OK(axm_membership_subscribe(membership, ignore_event, NULL, &late));
    OK(axm_membership_status(membership, &status));
    axm_subscription_free(subscription);
    pthread_t thread;
    struct messages messages = {.count = 0};
    CHECK(pthread_mutex_init(&messages.mutex, NULL) == 0);
    OK(axm_log_set(on_message, &messages, AXM_LOG_DEBUG));
    CHECK(pthread_create(&thread, NULL, wait_for_ever, membership) == 0);
    OK(axm_shutdown(120000));
    OK(axm_shutdown(120000));
    CHECK(pthread_join(thread, NULL) == 0);
    /* Threads of subscriptions may still log, although the callback is being removed. */
    OK(axm_log_set(NULL, NULL, AXM_LOG_OFF));
    CHECK(pthread_mutex_destroy(&messages.mutex) == 0);
    FAILS_WITH(AXM_ERROR_CLOSED, "was shut down", axm_membership_open(config, &other));
    FAILS(AXM_ERROR_CLOSED, axm_membership_join(membership, &worker2, NULL));
    FAILS(AXM_ERROR_CLOSED, axm_membership_close(membership));
    CHECK(axm_membership_version(membership) == 0 && axm_snapshot_count(snapshot) > 0);
    axm_snapshot_release(snapshot);
    axm_membership_free(membership);
    axm_config_free(config);
    axm_subscription_free(late);
    CHECK(axm_status_registration_count(status) <= 1);
    axm_status_free(status);
    free_record(&record);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    OK(axm_shutdown(0)); /* Nothing was opened. */
    events(argv[1]);
    join_and_leave(argv[1]);
    ended_from_inside(argv[1]);
    ended_by_close(argv[1]);
    freed_from_inside(argv[1]);
    messages(argv[1]);
    ended_while_running(argv[1]);
    replaced_while_running(argv[1]);
    status(argv[1]);
    shut_down(argv[1]);
    return 0;
}
