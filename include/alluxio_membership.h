/*
 * Worker membership of an Alluxio 3xx (DORA) cluster, in etcd or in a static hosts file.
 *
 * Generated from src/c_api by build.rs. Do not edit.
 */
#ifndef ALLUXIO_MEMBERSHIP_H
#define ALLUXIO_MEMBERSHIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * \mainpage alluxio-membership for C
 *
 * Worker membership of an Alluxio 3xx (DORA) cluster, in etcd or in a static hosts file. The rules
 * on this page hold for every function that does not say something else.
 *
 * \section errors Errors
 * A function that can fail returns axm_error_t *. NULL means success. Any other pointer is an
 * error for axm_error_free. Each function names the kinds of its errors. Later versions may return
 * other kinds, and a bug of the library is AXM_ERROR_INTERNAL anywhere. Out-parameters must not be
 * NULL, and are written on success only.
 *
 * A necessary argument that is NULL is AXM_ERROR_INVALID_ARGUMENT. A function that cannot fail
 * returns NULL, 0 or false for it, or does nothing, and does the same for an index that is not
 * below its count.
 *
 * \section numbers Numbers
 * An enumeration in a signature is an int32_t with a fixed meaning for each number. Later versions
 * may return numbers that this header does not name, so a switch needs a default. Another number
 * as an argument is AXM_ERROR_INVALID_ARGUMENT.
 *
 * \section ownership Ownership
 * The caller owns what a function hands out through an out-parameter or returns from a *_new
 * function, and passes it once to the function that the documentation names. These functions
 * accept NULL. A const pointer that a function returns is borrowed: it lives as long as the object
 * that it belongs to, and must not be freed. Arguments are borrowed for the call; the library
 * copies what it keeps.
 *
 * \section strings Strings
 * Strings are UTF-8 and end with NUL. Other input is AXM_ERROR_INVALID_ARGUMENT. A stored text may
 * contain U+0000, which C cannot show; the library returns U+FFFD instead. etcd refuses a request
 * of more than 1.5 MiB by default; a function that stores a longer text fails with
 * AXM_ERROR_INVALID_ARGUMENT.
 *
 * \section threads Threads
 * Any number of threads may use an axm_membership_t, an axm_snapshot_t and an axm_status_t at the
 * same time. One thread at a time may use an axm_config_t and an axm_error_t. No thread may use an
 * object during or after the call that frees it. A membership may still be used after
 * axm_membership_close: its calls fail with AXM_ERROR_CLOSED.
 *
 * The first axm_membership_open starts a thread. It ends about half a minute after the last
 * membership is freed. Until then the library keeps the connections to the cluster, and its
 * password, for programs that open it again. axm_shutdown ends the thread at once. If the system
 * grants no more threads or file descriptors, functions fail with AXM_ERROR_RESOURCE_EXHAUSTED,
 * AXM_ERROR_IO or AXM_ERROR_UNAVAILABLE, and work again when it does.
 *
 * \section callbacks Callbacks
 * A callback gets the user_data that was set with it. It runs on a thread of the library, and must
 * not be left by longjmp or by an exception. The function that frees or replaces a callback waits
 * for a running call: do not call it with a lock that the callback takes.
 *
 * \section blocking Blocking
 * Functions that may wait for etcd or for a file say that they block. They wait no longer than
 * alluxio.membership.native.operation.timeout for each answer, and need little of the caller's
 * stack. Signals do not end them. axm_membership_close in another thread ends them, except
 * axm_membership_leave, axm_membership_leave_worker and axm_membership_close. All other functions
 * return at once.
 *
 * \section fork Fork
 * Threads do not survive fork. Fork before the first axm_membership_open of the process, or call
 * exec in the child. axm_log_set, axm_shutdown, and what needs no membership may come before the
 * fork. In a child that is forked later, functions that use a membership, axm_log_set and
 * axm_shutdown fail with AXM_ERROR_FORKED; axm_membership_free and axm_subscription_free do
 * nothing; no callback is called; configurations, errors, snapshots and statuses work. Neither the
 * child nor its end harms the parent: its workers stay registered, and its subscriptions continue.
 *
 * \section signals Signals
 * The threads of the library, named axm-*, block SIGPIPE and all signals that are sent to the
 * process. The library never changes signal handlers. Do not call a function from a signal
 * handler.
 *
 * \section exit Exit
 * A program may simply exit. A registered worker is then listed as live until its lease ends.
 * axm_membership_close ends the lease at once, and axm_shutdown ends the leases of all workers.
 * The library cannot be unloaded: dlclose has no effect. If there is no memory, the library aborts
 * the process. A bug inside the library never unwinds into C.
 */

/**
 * \addtogroup axm_version
 * \{
 */

/** The version of this header: the first number. */
#define AXM_VERSION_MAJOR 0
/** The version of this header: the second number. */
#define AXM_VERSION_MINOR 1
/** The version of this header: the third number. */
#define AXM_VERSION_PATCH 0
/** The version of this header. axm_version returns the version of the library. */
#define AXM_VERSION_STRING "0.1.0"

/** \} */

/* How functions are imported. A program may define another one before it includes this header. */
#ifndef AXM_API
#if defined(__GNUC__) || defined(__clang__)
#define AXM_API __attribute__((visibility("default")))
#else
#define AXM_API
#endif
#endif

/* The result of such a function must be used. */
#if defined(__GNUC__) || defined(__clang__)
#define AXM_MUST_USE __attribute__((warn_unused_result))
#else
#define AXM_MUST_USE
#endif

/**
 * The start value of an axm_worker_t: no texts, and no ports.
 * \ingroup axm_worker
 */
#define AXM_WORKER_INIT {sizeof(axm_worker_t), NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0}

/**
 * The start value of an axm_join_options_t: everything as configured.
 * \ingroup axm_membership
 */
#define AXM_JOIN_OPTIONS_INIT {sizeof(axm_join_options_t), AXM_K8S_AS_CONFIGURED}

/**
 * The start value of an axm_counters_t.
 * \ingroup axm_status
 */
#define AXM_COUNTERS_INIT {sizeof(axm_counters_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

#ifdef __cplusplus
extern "C" {
#endif

/**
 * \defgroup axm_version Versions
 * \{
 */

/**
 * The version of this interface. It grows with every addition. The number in the name of the
 * shared library changes when something is changed or removed.
 */
#define AXM_ABI_VERSION 1

/**
 * Returns the version of the library that is loaded, such as "0.1.0".
 *
 * A program that was compiled with the header of the same release finds #AXM_VERSION_STRING here.
 *
 * \return The version. The text lives as long as the process.
 */
AXM_API const char *axm_version(void);

/**
 * Returns the #AXM_ABI_VERSION of the library that is loaded.
 *
 * \return The version. A library whose version is at least the header's has everything that the
 * header declares.
 */
AXM_API uint32_t axm_abi_version(void);

/** \} */

/**
 * \defgroup axm_error Errors
 * \{
 */

/**
 * What went wrong, in terms of what a caller can do about it. Later versions may add kinds.
 */
enum axm_error_kind_t
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif
 {
    /**
     * Nothing went wrong.
     */
    AXM_OK = 0,
    /**
     * An argument cannot be used, the worker is in a state that the operation does not allow, or
     * the log callback called the function.
     */
    AXM_ERROR_INVALID_ARGUMENT = 1,
    /**
     * A property has a value that cannot be used. Correct the configuration.
     */
    AXM_ERROR_INVALID_CONFIG = 2,
    /**
     * A property without a default is not set. Set the property.
     */
    AXM_ERROR_MISSING_CONFIG = 3,
    /**
     * A file that the configuration names does not exist.
     */
    AXM_ERROR_NOT_FOUND = 4,
    /**
     * Another worker has this identity.
     */
    AXM_ERROR_ALREADY_EXISTS = 5,
    /**
     * A stored record that the operation needs cannot be read.
     */
    AXM_ERROR_CORRUPT = 6,
    /**
     * etcd did not answer, or not in time. The same call may succeed later.
     */
    AXM_ERROR_UNAVAILABLE = 7,
    /**
     * etcd refused the user name or the password.
     */
    AXM_ERROR_UNAUTHENTICATED = 8,
    /**
     * The etcd user lacks a permission.
     */
    AXM_ERROR_PERMISSION_DENIED = 9,
    /**
     * A file could not be read.
     */
    AXM_ERROR_IO = 10,
    /**
     * The membership was closed before or during the call.
     */
    AXM_ERROR_CLOSED = 11,
    /**
     * The process was forked after its parent had opened a membership. See \ref fork.
     */
    AXM_ERROR_FORKED = 12,
    /**
     * A bug in this library.
     */
    AXM_ERROR_INTERNAL = 13,
    /**
     * The system grants this process no more threads or file descriptors. The same call may
     * succeed later.
     */
    AXM_ERROR_RESOURCE_EXHAUSTED = 14
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum axm_error_kind_t axm_error_kind_t;
#else
typedef int32_t axm_error_kind_t;
#endif
#endif

/**
 * Why a call failed. One thread at a time may use an error.
 */
typedef struct axm_error_t axm_error_t;

/**
 * Returns the kind of an error.
 *
 * \param error An error, or NULL.
 * \return The kind; AXM_OK for NULL.
 */
AXM_API axm_error_kind_t axm_error_kind(const axm_error_t *error);

/**
 * Returns the name of a kind of error, for logs.
 *
 * \param kind A kind.
 * \return The name in this header, such as "AXM_ERROR_UNAVAILABLE", or "unknown" for a number that
 * the library does not know. The text lives as long as the process.
 */
AXM_API const char *axm_error_name(axm_error_kind_t kind);

/**
 * Returns what failed and why, for people.
 *
 * \param error An error, or NULL.
 * \return The text, which lives as long as the error; NULL for NULL.
 */
AXM_API const char *axm_error_message(const axm_error_t *error);

/**
 * Returns whether the same call may succeed later without any correction.
 *
 * \param error An error, or NULL.
 * \return True for AXM_ERROR_UNAVAILABLE and AXM_ERROR_RESOURCE_EXHAUSTED; false for NULL.
 */
AXM_API bool axm_error_is_retryable(const axm_error_t *error);

/**
 * Returns whether a call failed because no answer of etcd came in time.
 *
 * Then etcd may have done what the call asked for, or may do it later:
 * - If the first axm_membership_join of a worker fails, the library ends the registration: it
 *   revokes the lease, or the lease runs out. A later join of a registered worker may have changed
 *   its record, and the registration continues.
 * - axm_membership_leave, axm_membership_leave_worker and axm_membership_close have ended the
 *   renewals, so the lease runs out.
 * - axm_membership_remove may have removed the worker. Then the same call fails with
 *   AXM_ERROR_INVALID_ARGUMENT, because the worker is unknown.
 *
 * The other functions only read.
 *
 * \param error An error, or NULL.
 * \return True if no answer came in time; false for NULL.
 */
AXM_API bool axm_error_is_timeout(const axm_error_t *error);

/**
 * Frees an error.
 *
 * \param error An error, or NULL.
 */
AXM_API void axm_error_free(axm_error_t *error);

/** \} */

/**
 * \defgroup axm_config Configuration
 * \{
 */

/**
 * Alluxio properties.
 *
 * axm_membership_open checks them. The library ignores other properties of Alluxio, so a whole
 * alluxio-site.properties may be loaded. One thread at a time may use a configuration.
 */
typedef struct axm_config_t axm_config_t;

/**
 * Makes an empty configuration.
 *
 * \return The configuration, for axm_config_free; never NULL.
 */
AXM_API axm_config_t *axm_config_new(void);

/**
 * Sets one property.
 *
 * \param config A configuration.
 * \param key A name, such as "alluxio.etcd.endpoints".
 * \param value A value, such as "http://etcd-0:2379,http://etcd-1:2379". It replaces an earlier
 * value.
 * \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_config_set(axm_config_t *config,
                            const char *key,
                            const char *value);

/**
 * Sets all properties of a file. Blocks for as long as the file system blocks.
 *
 * \param config A configuration.
 * \param path A file in the format of alluxio-site.properties.
 * \return NULL, or an error: AXM_ERROR_NOT_FOUND or AXM_ERROR_IO for the file,
 * AXM_ERROR_INVALID_CONFIG for its content, AXM_ERROR_INVALID_ARGUMENT.
 */
AXM_API AXM_MUST_USE axm_error_t *axm_config_load_file(axm_config_t *config, const char *path);

/**
 * Frees a configuration. Memberships that were opened with the configuration do not need it.
 *
 * \param config A configuration, or NULL.
 */
AXM_API void axm_config_free(axm_config_t *config);

/** \} */

/**
 * \defgroup axm_worker Workers
 * \{
 */

/**
 * A worker: its identity and its address.
 *
 * A worker to register starts as #AXM_WORKER_INIT. Texts that stay NULL are stored as empty texts.
 * In a worker that the library hands out, no text is NULL. Later versions may add fields at the
 * end.
 *
 * \code{.c}
 * axm_worker_t worker = AXM_WORKER_INIT;
 * worker.identity = "worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d";
 * worker.host = "host1";
 * worker.rpc_port = 29999;
 * \endcode
 */
typedef struct {
    /**
     * sizeof(axm_worker_t), which #AXM_WORKER_INIT sets.
     */
    size_t struct_size;
    /**
     * "worker-" and a UUID. A worker has the same identity at every start, and no other worker has
     * it. Required. Workers of old releases are listed as "worker-" and a number.
     */
    const char *identity;
    /**
     * The host name or IP address of the worker's services. Required, and not empty.
     */
    const char *host;
    /**
     * The host name of the worker's container.
     */
    const char *container_host;
    /**
     * The path of the domain socket for short-circuit reads.
     */
    const char *domain_socket_path;
    /**
     * The port of the RPC service, 1 to 65535. Here and below, 0 means that there is no port.
     */
    int32_t rpc_port;
    /**
     * The port of the data service.
     */
    int32_t data_port;
    /**
     * The port of the secure RPC service.
     */
    int32_t secure_rpc_port;
    /**
     * The port of the Netty data service.
     */
    int32_t netty_data_port;
    /**
     * The port of the web server.
     */
    int32_t web_port;
    /**
     * The port of the HTTP server.
     */
    int32_t http_server_port;
} axm_worker_t;

/** \} */

/**
 * \defgroup axm_snapshot Snapshots
 * \{
 */

/**
 * The state of a worker.
 */
enum axm_state_t
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif
 {
    /**
     * The worker renews its lease.
     */
    AXM_STATE_LIVE = 1,
    /**
     * The worker is registered, but its lease has ended.
     */
    AXM_STATE_LOST = 2
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum axm_state_t axm_state_t;
#else
typedef int32_t axm_state_t;
#endif
#endif

/**
 * Which workers a caller asks for.
 */
enum axm_filter_t
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif
 {
    /**
     * Every registered worker, live or lost.
     */
    AXM_FILTER_ALL = 0,
    /**
     * The workers that renew their lease.
     */
    AXM_FILTER_LIVE = 1,
    /**
     * The registered workers whose lease has ended.
     */
    AXM_FILTER_LOST = 2
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum axm_filter_t axm_filter_t;
#else
typedef int32_t axm_filter_t;
#endif
#endif

/**
 * A worker in a snapshot, and its state. Lives as long as the snapshot.
 */
typedef struct axm_member_t axm_member_t;

/**
 * Workers of a cluster at one moment, in the order of their keys in etcd or of the lines of the
 * hosts file.
 *
 * Only the age of a snapshot changes. A snapshot lives until each of its owners has released it,
 * also after its membership is freed. The library hands out the same snapshot again while nothing
 * changes. Any number of threads may use a snapshot at the same time.
 */
typedef struct axm_snapshot_t axm_snapshot_t;

/**
 * Adds an owner to a snapshot.
 *
 * \param snapshot A snapshot, or NULL. Const, because no function shows the number of owners.
 * \return The same snapshot, for another axm_snapshot_release.
 */
AXM_API axm_snapshot_t *axm_snapshot_retain(const axm_snapshot_t *snapshot);

/**
 * Ends the ownership of one owner. The last one frees the snapshot, its workers and their texts.
 *
 * \param snapshot A snapshot, or NULL.
 */
AXM_API void axm_snapshot_release(axm_snapshot_t *snapshot);

/**
 * Returns the version of a snapshot.
 *
 * The version grows with every change while the cluster is open. It may start again from 1 when
 * the cluster is opened again.
 *
 * \param snapshot A snapshot, or NULL.
 * \return The version, which is never 0; 0 for NULL.
 */
AXM_API uint64_t axm_snapshot_version(const axm_snapshot_t *snapshot);

/**
 * Returns the revision of etcd that a snapshot shows.
 *
 * \param snapshot A snapshot, or NULL.
 * \return The revision; 0 if the workers come from a hosts file, and for NULL.
 */
AXM_API int64_t axm_snapshot_revision(const axm_snapshot_t *snapshot);

/**
 * Returns the time since etcd was last known to have exactly these workers.
 *
 * The age of the newest snapshot stays below a few thousand while etcd answers.
 *
 * \param snapshot A snapshot, or NULL.
 * \return The age in milliseconds; 0 if the workers come from a hosts file; -1 for NULL.
 */
AXM_API int64_t axm_snapshot_age_ms(const axm_snapshot_t *snapshot);

/**
 * Returns the number of workers.
 *
 * \param snapshot A snapshot, or NULL.
 * \return The number; 0 for NULL.
 */
AXM_API size_t axm_snapshot_count(const axm_snapshot_t *snapshot);

/**
 * Returns the worker at an index.
 *
 * \param snapshot A snapshot, or NULL.
 * \param index An index.
 * \return The member; NULL if the index is not below axm_snapshot_count.
 */
AXM_API const axm_member_t *axm_snapshot_member(const axm_snapshot_t *snapshot, size_t index);

/**
 * Finds the worker of an identity.
 *
 * \param snapshot A snapshot.
 * \param identity An identity, such as "worker-<uuid>".
 * \param[out] out The member; NULL if the snapshot does not contain the worker.
 * \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_snapshot_find(const axm_snapshot_t *snapshot,
                               const char *identity,
                               const axm_member_t **out);

/**
 * Returns the number of skipped records that a snapshot carries, at most 100.
 *
 * A skipped record has a key of the cluster, but cannot be read, so its worker is not listed.
 *
 * \param snapshot A snapshot, or NULL.
 * \return The number; 0 for NULL.
 */
AXM_API size_t axm_snapshot_skipped_count(const axm_snapshot_t *snapshot);

/**
 * Returns the number of all skipped records, also of those beyond the 100 that a snapshot carries.
 *
 * \param snapshot A snapshot, or NULL.
 * \return The number; 0 for NULL.
 */
AXM_API size_t axm_snapshot_skipped_total(const axm_snapshot_t *snapshot);

/**
 * Returns the key in etcd of a skipped record.
 *
 * \param snapshot A snapshot, or NULL.
 * \param index An index.
 * \return The key; NULL if the index is not below axm_snapshot_skipped_count.
 */
AXM_API const char *axm_snapshot_skipped_key(const axm_snapshot_t *snapshot, size_t index);

/**
 * Returns why a skipped record is not listed.
 *
 * \param snapshot A snapshot, or NULL.
 * \param index An index.
 * \return The reason; NULL if the index is not below axm_snapshot_skipped_count.
 */
AXM_API const char *axm_snapshot_skipped_reason(const axm_snapshot_t *snapshot, size_t index);

/**
 * Returns the worker of a member.
 *
 * \param member A member, or NULL.
 * \return The worker, which lives as long as the member; NULL for NULL. No text in it is NULL.
 */
AXM_API const axm_worker_t *axm_member_worker(const axm_member_t *member);

/**
 * Returns the state of a member.
 *
 * \param member A member, or NULL.
 * \return The state; 0 for NULL.
 */
AXM_API axm_state_t axm_member_state(const axm_member_t *member);

/** \} */

/**
 * \defgroup axm_membership Memberships
 * \{
 */

/**
 * Whether the workers run on Kubernetes, where a worker may start again under another address.
 */
enum axm_k8s_t
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif
 {
    /**
     * As the property alluxio.k8s.env.deployment says.
     */
    AXM_K8S_AS_CONFIGURED = 0,
    /**
     * The workers do not run on Kubernetes.
     */
    AXM_K8S_NO = 1,
    /**
     * The workers run on Kubernetes.
     */
    AXM_K8S_YES = 2
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum axm_k8s_t axm_k8s_t;
#else
typedef int32_t axm_k8s_t;
#endif
#endif

/**
 * Access to one cluster: lists its workers, registers workers and keeps them registered.
 *
 * Memberships of one cluster share their connections and their memory, so another one is cheap.
 * Any number of threads may use a membership at the same time.
 */
typedef struct axm_membership_t axm_membership_t;

/**
 * How a worker joins. Start with #AXM_JOIN_OPTIONS_INIT. Later versions may add fields at the end.
 */
typedef struct {
    /**
     * sizeof(axm_join_options_t), which #AXM_JOIN_OPTIONS_INIT sets.
     */
    size_t struct_size;
    /**
     * Whether a record of the worker under another address is replaced.
     */
    axm_k8s_t k8s;
} axm_join_options_t;

/**
 * Opens a membership.
 *
 * Never waits for the network: if etcd cannot be reached, later calls fail. Blocks if the
 * configuration names files, at most for alluxio.membership.native.operation.timeout.
 *
 * \param config The configuration.
 * \param[out] out The membership, for axm_membership_free.
 * \return NULL, or an error: AXM_ERROR_INVALID_CONFIG, AXM_ERROR_MISSING_CONFIG;
 * AXM_ERROR_NOT_FOUND or AXM_ERROR_IO for a file, also for one that is not read in time;
 * AXM_ERROR_RESOURCE_EXHAUSTED, AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_membership_open(const axm_config_t *config,
                                 axm_membership_t **out);

/**
 * Registers a worker and keeps it registered.
 *
 * The registration ends with axm_membership_leave, axm_membership_leave_worker,
 * axm_membership_close or the process. A registered worker may join again with another
 * http_server_port and netty_data_port. Any other new address is AXM_ERROR_ALREADY_EXISTS, unless
 * the workers run on Kubernetes (#axm_k8s_t). Succeeds and does nothing for a STATIC cluster,
 * because the hosts file defines its workers. Blocks.
 *
 * \param membership A membership.
 * \param worker The worker.
 * \param options How it joins; NULL for the defaults.
 * \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT for the worker, also for a record that is
 * longer than etcd stores (1.5 MiB by default); AXM_ERROR_ALREADY_EXISTS; AXM_ERROR_CORRUPT if the
 * record that is stored under this identity cannot be read; AXM_ERROR_UNAVAILABLE,
 * AXM_ERROR_UNAUTHENTICATED, AXM_ERROR_PERMISSION_DENIED, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_membership_join(axm_membership_t *membership,
                                 const axm_worker_t *worker,
                                 const axm_join_options_t *options);

/**
 * Lists workers of the cluster. Blocks when the library has no list that is fresh enough.
 *
 * \param membership A membership.
 * \param filter Which workers to list.
 * \param[out] out The snapshot, for axm_snapshot_release.
 * \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_UNAVAILABLE,
 * AXM_ERROR_UNAUTHENTICATED, AXM_ERROR_PERMISSION_DENIED, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_membership_list(const axm_membership_t *membership,
                                 axm_filter_t filter,
                                 axm_snapshot_t **out);

/**
 * Returns the version that a list would have now. Takes nanoseconds.
 *
 * For programs that derive data of their own from the list, and update it when the version
 * changes.
 *
 * \param membership A membership, or NULL.
 * \return The version; 0 if axm_membership_list would block or fail, and for NULL.
 */
AXM_API uint64_t axm_membership_version(const axm_membership_t *membership);

/**
 * Waits for a list of the cluster with a greater version.
 *
 * The list may be of any age, whatever the configured read mode: axm_snapshot_age_ms returns the
 * age. Blocks, also while etcd does not answer: axm_membership_status shows that.
 *
 * \param membership A membership.
 * \param filter Which workers to list.
 * \param version The version that the caller knows; 0 for none.
 * \param timeout_ms The limit in milliseconds; no limit if negative.
 * \param[out] out The snapshot, for axm_snapshot_release; NULL after the timeout.
 * \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_membership_wait_for_change(const axm_membership_t *membership,
                                            axm_filter_t filter,
                                            uint64_t version,
                                            int64_t timeout_ms,
                                            axm_snapshot_t **out);

/**
 * Returns the table of all workers that "alluxio info nodes" prints. Blocks like
 * axm_membership_list.
 *
 * \param membership A membership.
 * \param[out] out The table, for axm_string_free.
 * \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_UNAVAILABLE,
 * AXM_ERROR_UNAUTHENTICATED, AXM_ERROR_PERMISSION_DENIED, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_membership_show(const axm_membership_t *membership,
                                 char **out);

/**
 * Removes a lost worker from the cluster.
 *
 * Succeeds and does nothing in a STATIC and in a SERVICE_REGISTRY cluster, which have no record to
 * remove. Blocks.
 *
 * \param membership A membership.
 * \param identity The identity of the worker, such as "worker-<uuid>".
 * \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT for a live or an unknown worker, and for a
 * text that is no identity; AXM_ERROR_UNAVAILABLE, AXM_ERROR_UNAUTHENTICATED,
 * AXM_ERROR_PERMISSION_DENIED, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_membership_remove(axm_membership_t *membership,
                                   const char *identity);

/**
 * Ends the registration of one worker that this process registered. The worker is lost at once.
 *
 * Succeeds and does nothing if this process has not registered the worker. Blocks.
 *
 * \param membership A membership of the cluster.
 * \param identity The identity of the worker, such as "worker-<uuid>".
 * \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT; AXM_ERROR_UNAVAILABLE,
 * AXM_ERROR_UNAUTHENTICATED or AXM_ERROR_PERMISSION_DENIED, after which the lease runs out on its
 * own; AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_membership_leave_worker(axm_membership_t *membership,
                                         const char *identity);

/**
 * Ends the registration of every worker that joined through this membership. They are lost at
 * once.
 *
 * Blocks.
 *
 * \param membership A membership.
 * \return NULL, or an error: AXM_ERROR_UNAVAILABLE, AXM_ERROR_UNAUTHENTICATED or
 * AXM_ERROR_PERMISSION_DENIED, after which a lease runs out on its own;
 * AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
 */
AXM_API AXM_MUST_USE axm_error_t *axm_membership_leave(axm_membership_t *membership);

/**
 * Leaves and closes.
 *
 * Running calls soon end with AXM_ERROR_CLOSED (\ref blocking names the exceptions), and so do all
 * later calls except this one, which succeeds again. The membership is closed even if leaving
 * fails; then the lease of a worker runs out on its own. The membership must still be freed; until
 * then the library follows the cluster. Blocks.
 *
 * \param membership A membership.
 * \return NULL, or an error: AXM_ERROR_UNAVAILABLE, AXM_ERROR_UNAUTHENTICATED or
 * AXM_ERROR_PERMISSION_DENIED, after which the membership is closed too; AXM_ERROR_CLOSED after
 * axm_shutdown; AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_FORKED.
 */
AXM_API AXM_MUST_USE axm_error_t *axm_membership_close(axm_membership_t *membership);

/**
 * Frees a membership, and closes it first if it is open. Snapshots stay.
 *
 * Blocks if it closes the membership. The error of closing is logged only.
 *
 * \param membership A membership, or NULL.
 */
AXM_API void axm_membership_free(axm_membership_t *membership);

/**
 * Frees a text that a function handed out through an out-parameter.
 *
 * \param text A text, or NULL.
 */
AXM_API void axm_string_free(char *text);

/** \} */

/**
 * \defgroup axm_subscription Changes
 * \{
 */

/**
 * What happened to a worker. Later versions may add kinds.
 */
enum axm_change_kind_t
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif
 {
    /**
     * The worker is new to the subscription.
     */
    AXM_CHANGE_ADDED = 1,
    /**
     * The worker is no longer listed.
     */
    AXM_CHANGE_REMOVED = 2,
    /**
     * The worker was lost and is live again.
     */
    AXM_CHANGE_LIVE = 3,
    /**
     * The worker was live and is lost.
     */
    AXM_CHANGE_LOST = 4,
    /**
     * The worker has another address, and the state that it had before.
     */
    AXM_CHANGE_MOVED = 5
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum axm_change_kind_t axm_change_kind_t;
#else
typedef int32_t axm_change_kind_t;
#endif
#endif

/**
 * A callback that gets the changes of a cluster until the subscription is freed.
 */
typedef struct axm_subscription_t axm_subscription_t;

/**
 * Called for each change.
 *
 * Changes that are reported together come in the order of the identities, not of time. A live
 * worker that is not registered is reported too, but is not in the snapshot. That such a worker
 * registers, or stops being registered, is not reported.
 *
 * \param user_data The user_data of axm_membership_subscribe.
 * \param kind What happened.
 * \param member The worker as it is now; if it was removed, as it was. Lives during the call only.
 * \param snapshot The registered workers after this change and all others that are reported with
 * it, as #AXM_FILTER_ALL lists them. Lives during the call only, unless axm_snapshot_retain keeps
 * it.
 */
typedef void (*axm_change_callback_t)(void *user_data,
                                      axm_change_kind_t kind,
                                      const axm_member_t *member,
                                      const axm_snapshot_t *snapshot);

/**
 * Subscribes to the changes of the cluster.
 *
 * The callback first gets AXM_CHANGE_ADDED for each listed worker, then each change. Changes that
 * come faster than the callback returns may be reported as one.
 *
 * The subscription has a thread, which runs one call of the callback at a time. The callback may
 * use the library like any other thread, and may close the membership. The subscription ends
 * without a call when the membership is closed. While etcd does not answer there are no changes;
 * axm_membership_status shows that.
 *
 * \param membership A membership.
 * \param callback The callback.
 * \param user_data For the callback. Must live until axm_subscription_free has returned.
 * \param[out] out The subscription, for axm_subscription_free.
 * \return NULL, or an error: AXM_ERROR_RESOURCE_EXHAUSTED if the thread cannot start;
 * AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_membership_subscribe(const axm_membership_t *membership,
                                      axm_change_callback_t callback,
                                      void *user_data,
                                      axm_subscription_t **out);

/**
 * Ends a subscription and frees it.
 *
 * Blocks until a running call of the callback has returned. No call starts after that. Inside the
 * callback itself, this function does not wait: the running call is the last one. In the log
 * callback it does not wait either, and a running call may end later.
 *
 * \param subscription A subscription, or NULL.
 */
AXM_API void axm_subscription_free(axm_subscription_t *subscription);

/** \} */

/**
 * \defgroup axm_status Status
 * \{
 */

/**
 * The state of a registration.
 */
enum axm_registration_state_t
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif
 {
    /**
     * The first registration is running.
     */
    AXM_REGISTRATION_JOINING = 1,
    /**
     * The lease is renewed in time.
     */
    AXM_REGISTRATION_REGISTERED = 2,
    /**
     * No renewal was answered for two thirds of the lease.
     */
    AXM_REGISTRATION_SUSPECT = 3,
    /**
     * The lease has ended, or may have ended. Others may list the worker as lost.
     */
    AXM_REGISTRATION_LOST = 4,
    /**
     * The lease has ended or a key is gone. The library writes the keys again.
     */
    AXM_REGISTRATION_REJOINING = 5,
    /**
     * The registration ended on purpose.
     */
    AXM_REGISTRATION_LEFT = 6
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum axm_registration_state_t axm_registration_state_t;
#else
typedef int32_t axm_registration_state_t;
#endif
#endif

/**
 * The status of a membership at one moment, as far as this process knew.
 *
 * A status never changes. Any number of threads may use it at the same time.
 */
typedef struct axm_status_t axm_status_t;

/**
 * The counters of a status, under the names that they have in metrics.
 *
 * Start with #AXM_COUNTERS_INIT. Later versions may add fields at the end. The first six count for
 * all memberships of the cluster in this process, since its first list.
 */
typedef struct {
    /**
     * sizeof(axm_counters_t), which #AXM_COUNTERS_INIT sets.
     */
    size_t struct_size;
    /**
     * How often all workers were listed: once at first, and whenever changes may have been missed.
     */
    uint64_t listings;
    /**
     * How often etcd opened a watch: after each listing, and after each watch that broke.
     */
    uint64_t watches;
    /**
     * How often a comparison of the list with etcd showed that the list is complete.
     */
    uint64_t checks;
    /**
     * How often a comparison found changes that the watch had not delivered yet. A few are normal.
     */
    uint64_t checks_behind;
    /**
     * How often etcd did not answer a comparison.
     */
    uint64_t checks_failed;
    /**
     * How many listings showed that etcd had lost data: it was wiped, or restored from a backup.
     */
    uint64_t other_histories;
    /**
     * The number of etcd's endpoints in the configuration.
     */
    uint64_t endpoints;
    /**
     * The number of endpoints that are not quarantined.
     */
    uint64_t endpoints_up;
    /**
     * The number of workers that this process keeps registered in the cluster.
     */
    uint64_t registrations;
    /**
     * The number of registrations that are listed as live: registered or suspect, and not
     * displaced by another process.
     */
    uint64_t registered;
    /**
     * How often no renewal was answered for two thirds of a lease.
     */
    uint64_t late_renewals;
    /**
     * How often a worker was registered again after its lease had ended.
     */
    uint64_t re_registrations;
    /**
     * The time that is left of the lease that ends first, in milliseconds; -1 without a
     * registration.
     */
    int64_t lease_left_ms;
} axm_counters_t;

/**
 * One server of etcd. Lives as long as its status. Later versions may add fields at the end.
 */
typedef struct {
    /**
     * sizeof(axm_endpoint_t) in the library.
     */
    size_t struct_size;
    /**
     * "http://host:port", or "https://host:port" with TLS.
     */
    const char *url;
    /**
     * Why the endpoint is quarantined, else why its last failed request failed. NULL if no request
     * has failed.
     */
    const char *last_error;
    /**
     * The number of requests that the endpoint answered.
     */
    uint64_t answered;
    /**
     * The number of requests to the endpoint that failed.
     */
    uint64_t failed;
    /**
     * False while the endpoint is quarantined: it did not answer, and is not used until it answers
     * again. True for an endpoint that was never asked.
     */
    bool is_healthy;
} axm_endpoint_t;

/**
 * The registration of a worker. Lives as long as its status. Later versions may add fields at the
 * end.
 */
typedef struct {
    /**
     * sizeof(axm_registration_t) in the library.
     */
    size_t struct_size;
    /**
     * The identity of the worker.
     */
    const char *identity;
    /**
     * The id of the lease in etcd; 0 without a lease.
     */
    int64_t lease;
    /**
     * The time until the lease ends unless it is renewed, in milliseconds.
     */
    int64_t lease_left_ms;
    /**
     * The number of leases that the registration has had; more than 1 if the worker was registered
     * again.
     */
    uint64_t leases;
    /**
     * How often no renewal was answered for two thirds of the lease.
     */
    uint64_t late_renewals;
    /**
     * The state.
     */
    axm_registration_state_t state;
    /**
     * True if another process has registered the same identity, so that its record is the live
     * one. This process writes its own record again when the other one is gone.
     */
    bool is_displaced;
} axm_registration_t;

/**
 * Returns the status of a membership, as far as this process knows without asking etcd.
 *
 * Does not block, also while another call changes a registration.
 *
 * \param membership A membership.
 * \param[out] out The status, for axm_status_free.
 * \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_membership_status(const axm_membership_t *membership,
                                   axm_status_t **out);

/**
 * Frees a status.
 *
 * \param status A status, or NULL.
 */
AXM_API void axm_status_free(axm_status_t *status);

/**
 * Returns the version of the list in memory, which grows with each change.
 *
 * \param status A status, or NULL.
 * \return The version; 0 before the first listing, and for NULL.
 */
AXM_API uint64_t axm_status_version(const axm_status_t *status);

/**
 * Returns for how long the list in memory has not been compared with etcd.
 *
 * \param status A status, or NULL.
 * \return The age in milliseconds; -1 before the first listing, and for NULL.
 */
AXM_API int64_t axm_status_view_age_ms(const axm_status_t *status);

/**
 * Returns why the list in memory cannot be updated at present.
 *
 * \param status A status, or NULL.
 * \return The reason, which lives as long as the status; NULL if the list is updated, and for
 * NULL.
 */
AXM_API const char *axm_status_view_error(const axm_status_t *status);

/**
 * Copies the counters of a status.
 *
 * \param status A status.
 * \param[in,out] counters Counters, which start as #AXM_COUNTERS_INIT. A field that this library
 * does not know stays 0.
 * \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_status_counters(const axm_status_t *status,
                                 axm_counters_t *counters);

/**
 * Returns the number of etcd's endpoints in the configuration.
 *
 * \param status A status, or NULL.
 * \return The number; 0 if the workers come from a hosts file, and for NULL.
 */
AXM_API size_t axm_status_endpoint_count(const axm_status_t *status);

/**
 * Returns the endpoint at an index.
 *
 * \param status A status, or NULL.
 * \param index An index.
 * \return The endpoint; NULL if the index is not below axm_status_endpoint_count.
 */
AXM_API const axm_endpoint_t *axm_status_endpoint(const axm_status_t *status, size_t index);

/**
 * Returns the number of workers of the cluster that this process keeps registered.
 *
 * They may have joined through any membership of this process.
 *
 * \param status A status, or NULL.
 * \return The number; 0 for a STATIC cluster, and for NULL.
 */
AXM_API size_t axm_status_registration_count(const axm_status_t *status);

/**
 * Returns the registration at an index.
 *
 * \param status A status, or NULL.
 * \param index An index.
 * \return The registration; NULL if the index is not below axm_status_registration_count.
 */
AXM_API const axm_registration_t *axm_status_registration(const axm_status_t *status, size_t index);

/**
 * Finds the registration of a worker.
 *
 * \param status A status.
 * \param identity The identity of the worker, such as "worker-<uuid>".
 * \param[out] out The registration; NULL if this process has not registered the worker.
 * \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_status_find_registration(const axm_status_t *status,
                                          const char *identity,
                                          const axm_registration_t **out);

/** \} */

/**
 * \defgroup axm_log Log messages
 * \{
 */

/**
 * How important a message is.
 */
enum axm_log_level_t
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif
 {
    /**
     * No messages.
     */
    AXM_LOG_OFF = 0,
    /**
     * A bug of the library.
     */
    AXM_LOG_ERROR = 1,
    /**
     * The library lost something, such as a connection or a lease.
     */
    AXM_LOG_WARN = 2,
    /**
     * Something changed as expected.
     */
    AXM_LOG_INFO = 3,
    /**
     * Detail for debugging.
     */
    AXM_LOG_DEBUG = 4,
    /**
     * Trace-level detail, such as each request.
     */
    AXM_LOG_TRACE = 5
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum axm_log_level_t axm_log_level_t;
#else
typedef int32_t axm_log_level_t;
#endif
#endif

/**
 * Called for each message.
 *
 * \param user_data The user_data of axm_log_set.
 * \param level How important the message is.
 * \param target The module of the library that logs. Lives during the call only.
 * \param message The message. Lives during the call only.
 */
typedef void (*axm_log_callback_t)(void *user_data,
                                   axm_log_level_t level,
                                   const char *target,
                                   const char *message);

/**
 * Passes messages to a callback, for the whole process.
 *
 * Without a callback the library logs nothing. May be called before a fork, and after
 * axm_shutdown.
 *
 * The callback runs on any thread, and on several threads at the same time. It must return soon,
 * because the library waits for it. It should not call the library: functions that use a
 * membership, axm_log_set and axm_shutdown fail there with AXM_ERROR_INVALID_ARGUMENT,
 * axm_membership_free closes in the background, and axm_subscription_free does not wait for a
 * running call. Blocks until running calls of the previous callback have returned. No call of the
 * previous callback starts after that.
 *
 * \param callback The callback; NULL to stop.
 * \param user_data For the callback. Must live until another axm_log_set has returned.
 * \param level Messages of this level, and more important ones, are passed.
 * \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT for the level, or inside the callback;
 * AXM_ERROR_ALREADY_EXISTS if another logger of this process gets the messages already, as in JVMs
 * and in programs in Rust; AXM_ERROR_FORKED.
 */
AXM_API
AXM_MUST_USE
axm_error_t *axm_log_set(axm_log_callback_t callback,
                         void *user_data,
                         axm_log_level_t level);

/** \} */

/**
 * \defgroup axm_shutdown Shutdown
 * \{
 */

/**
 * Ends the library before the process ends.
 *
 * Ends every registration, then every thread except the threads of subscriptions, which end on
 * their own. Waits for at most timeout_ms, and some tenths of a second for the threads. Running
 * calls end with AXM_ERROR_CLOSED, and so do later calls. The library cannot be started again.
 * What was opened must still be freed. Does nothing if no membership was ever opened, or if the
 * library was shut down before. Must not be called from the log callback. Blocks.
 *
 * \param timeout_ms The limit for ending the registrations, in milliseconds; 0 or more.
 * \return NULL, or an error. After the errors AXM_ERROR_UNAVAILABLE, AXM_ERROR_UNAUTHENTICATED and
 * AXM_ERROR_PERMISSION_DENIED the library has ended too, but etcd revokes some lease only when it
 * runs out. AXM_ERROR_UNAVAILABLE also means that another thread has been shutting down for longer
 * than timeout_ms. Others: AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_FORKED.
 */
AXM_API AXM_MUST_USE axm_error_t *axm_shutdown(int64_t timeout_ms);

/** \} */

#ifdef __cplusplus
}
#endif

#endif
