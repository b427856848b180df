/* Checks that report their place, and memberships, for the C tests. */
#ifndef CHECK_H
#define CHECK_H

#include <alluxio_membership.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <time.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

/* Waits until the condition is true, for minutes on a slow machine. */
#define AWAIT(condition) \
    do { \
        const struct timespec moment = {0, 10000000}; \
        for (int i = 0; !(condition); i++) { \
            if (i == 12000) { \
                fprintf(stderr, "%s:%d: still not true: %s\n", __FILE__, __LINE__, #condition); \
                abort(); \
            } \
            thrd_sleep(&moment, NULL); \
        } \
    } while (0)

#define CHECK_TEXT(expected, actual) check_text(__FILE__, __LINE__, expected, actual)

/* The call must succeed. */
#define OK(call) check_error(__FILE__, __LINE__, #call, call, AXM_OK, NULL)

/* The call must fail with an error of this kind. */
#define FAILS(kind, call) check_error(__FILE__, __LINE__, #call, call, kind, NULL)

/* The call must fail with an error of this kind whose message contains this text. */
#define FAILS_WITH(kind, text, call) check_error(__FILE__, __LINE__, #call, call, kind, text)

static inline void check_text(const char *file, int line, const char *expected, const char *actual)
{
    if (actual == NULL || strcmp(expected, actual) != 0) {
        fprintf(stderr, "%s:%d: expected \"%s\", got \"%s\"\n", file, line, expected,
                actual == NULL ? "NULL" : actual);
        abort();
    }
}

static inline void check_error(const char *file, int line, const char *call, axm_error_t *error,
                               axm_error_kind_t kind, const char *text)
{
    const char *message = error == NULL ? "success" : axm_error_message(error);
    if (axm_error_kind(error) != kind || (text != NULL && strstr(message, text) == NULL)) {
        fprintf(stderr, "%s:%d: %s: expected %s and \"%s\", got %s: %s\n", file, line, call,
                axm_error_name(kind), text == NULL ? "" : text,
                    axm_error_name(axm_error_kind(error)), message);
        abort();
    }
    axm_error_free(error);
}

static inline axm_counters_t counters_of(const axm_status_t *status)
{
    axm_counters_t counters = AXM_COUNTERS_INIT;
    OK(axm_status_counters(status, &counters));
    return counters;
}

/* Returns a configuration of a STATIC cluster. */
static inline axm_config_t *static_config(const char *hosts_file)
{
    axm_config_t *config = axm_config_new();
    OK(axm_config_set(config, "alluxio.worker.membership.manager.type", "STATIC"));
    OK(axm_config_set(config, "alluxio.worker.static.membership.manager.config.file", hosts_file));
    return config;
}

/* Returns a membership of the cluster "c" in the etcd at this endpoint. */
static inline axm_config_t *etcd_config(const char *endpoint)
{
    axm_config_t *config = axm_config_new();
    OK(axm_config_set(config, "alluxio.worker.membership.manager.type", "ETCD"));
    OK(axm_config_set(config, "alluxio.etcd.endpoints", endpoint));
    OK(axm_config_set(config, "alluxio.cluster.name", "c"));
    /* A healthy etcd always answers, but late under valgrind or on a busy machine. */
    OK(axm_config_set(config, "alluxio.membership.native.operation.timeout", "2min"));
    return config;
}

/* Opens a membership, and frees the configuration. */
static inline axm_membership_t *open_and_free(axm_config_t *config)
{
    axm_membership_t *membership = NULL;
    OK(axm_membership_open(config, &membership));
    CHECK(membership != NULL);
    axm_config_free(config);
    return membership;
}

#endif
