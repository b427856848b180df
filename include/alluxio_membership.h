/*
 * Worker membership of an Alluxio 3xx (DORA) cluster, kept in etcd or in a static hosts file.
 *
 * Generated from src/c_api by build.rs. Do not edit.
 *
 * CONVENTIONS, for every function that does not say otherwise
 *
 * Errors. A function that can fail returns axm_error_t *: NULL means success, anything else is an
 *   error that belongs to the caller, who frees it with axm_error_free. Each function names the codes
 *   it knows, without AXM_ERROR_; a bug of the library (INTERNAL) is possible everywhere, and later
 *   versions may return others.
 * Out-parameters are written on success only. They must not be NULL.
 * Ownership. What a function hands out through an out-parameter, or returns from a *_new function,
 *   belongs to the caller and is freed with the *_free function of its type, once. Every *_free
 *   function accepts NULL. A pointer returned as const is borrowed: it lives as long as the object it
 *   came from, and must not be freed. Arguments are borrowed for the call only; the library copies
 *   what it keeps.
 * NULL for an argument that is needed is AXM_ERROR_INVALID_ARGUMENT where the function can fail. Where
 *   it cannot, it answers NULL, 0 or false, or does nothing. So does an index that is not below its count.
 * Strings are UTF-8 and end with NUL, in both directions; other input is
 *   AXM_ERROR_INVALID_ARGUMENT. A stored text may contain U+0000, which C cannot show: it is handed
 *   out as U+FFFD. They may be of any length, but etcd refuses a request of more than 1.5 MiB, unless
 *   it is configured otherwise: AXM_ERROR_INVALID_ARGUMENT of the function that stores the text.
 * Threads. An axm_membership_t, an axm_snapshot_t and an axm_status_t may be used by any number of
 *   threads at a time; an axm_config_t and an axm_error_t by one. No thread may use an object while, or
 *   after, it is freed. After axm_membership_close, in contrast, a handle may still be used: its calls
 *   fail with AXM_ERROR_CLOSED.
 * Callbacks get back the user_data that was set with them, run on threads of the library, and must not
 *   be left by longjmp or by an exception. Freeing what calls a callback waits for a running call: do not
 *   hold a lock meanwhile that the callback takes.
 * Blocking. Functions that may wait, for etcd or a file, say so. They wait no longer than
 *   alluxio.membership.native.operation.timeout for each answer they need, use little of the caller's
 *   stack, and are not ended by signals. axm_membership_close in another thread ends them, but for
 *   axm_membership_leave, axm_membership_stop_heartbeat and itself. All other functions return at once.
 * Fork. Threads do not survive fork: fork before the first axm_membership_open of the process, or exec
 *   in the child; axm_log_set, axm_shutdown and whatever needs no membership may come before. In a child
 *   forked later, functions that use a membership, axm_log_set and axm_shutdown fail with
 *   AXM_ERROR_FORKED, axm_membership_free and axm_subscription_free do nothing, no callback is called, and
 *   configurations, errors, snapshots and statuses work. Neither this nor the end of the child harms the
 *   parent, whose workers stay registered and whose subscriptions go on.
 * Threads of the library. The first axm_membership_open starts one, which ends about half a minute after the
 *   last membership is freed: until then the library keeps the connections to the cluster and its password, for
 *   programs that open it again. axm_shutdown ends them at once. Where the system grants no more threads or file
 *   descriptors, functions fail with AXM_ERROR_RESOURCE_EXHAUSTED, AXM_ERROR_IO or AXM_ERROR_UNAVAILABLE, and
 *   work again when it does.
 * Signals. The threads of the library, named axm-*, block all signals that are sent to the process,
 *   and SIGPIPE; handlers and dispositions are never changed. No function may be called from a
 *   signal handler.
 * Exit. A program may simply exit, but a registered worker is then listed as live until its lease
 *   ends; axm_membership_close ends it at once, and axm_shutdown does for all workers. The library
 *   cannot be unloaded: dlclose has no effect.
 * Memory. When there is none left, the process is aborted.
 * Panics. A bug inside the library is reported as AXM_ERROR_INTERNAL; it never unwinds into C.
 */


#ifndef ALLUXIO_MEMBERSHIP_H
#define ALLUXIO_MEMBERSHIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define AXM_MUST_USE __attribute__((warn_unused_result))
#else
#define AXM_MUST_USE
#endif

/**
 * The start value of every axm_worker_t: texts absent, ports 0.
 */
#define AXM_WORKER_INIT {sizeof(axm_worker_t), NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0}


/**
 * The version of this interface. It grows with every addition; the number in the name of the shared library
 * changes when something is changed or taken away.
 */
#define AXM_ABI_VERSION 1

/**
 * What went wrong, in terms of what a caller can do about it. Later versions may add codes.
 */
typedef enum {
    /**
     * An argument cannot be used, the operation does not fit the worker's state, or the log callback called.
     */
    AXM_ERROR_INVALID_ARGUMENT = 1,
    /**
     * A property has a value that cannot be used. Correct the configuration.
     */
    AXM_ERROR_INVALID_CONFIG = 2,
    /**
     * A property without a default is not set. Set it.
     */
    AXM_ERROR_MISSING_CONFIG = 3,
    /**
     * A file named by the configuration does not exist.
     */
    AXM_ERROR_NOT_FOUND = 4,
    /**
     * Another worker holds this identity.
     */
    AXM_ERROR_ALREADY_EXISTS = 5,
    /**
     * A stored record that had to be understood could not be.
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
     * This process was forked after its parent had opened a membership. See "Fork" above.
     */
    AXM_ERROR_FORKED = 12,
    /**
     * A bug in this library.
     */
    AXM_ERROR_INTERNAL = 13,
    /**
     * The system grants this process no more threads or file descriptors. The same call may succeed later.
     */
    AXM_ERROR_RESOURCE_EXHAUSTED = 14,
} axm_error_code_t;

/**
 * What happened to a worker. Later versions may add events.
 */
typedef enum {
    /**
     * It is new to the subscription.
     */
    AXM_EVENT_ADDED = 1,
    /**
     * It is no longer listed.
     */
    AXM_EVENT_REMOVED = 2,
    /**
     * It was lost and is live again.
     */
    AXM_EVENT_LIVE = 3,
    /**
     * It was live and is lost.
     */
    AXM_EVENT_LOST = 4,
    /**
     * It is as live as before, under another address.
     */
    AXM_EVENT_MOVED = 5,
} axm_event_t;

/**
 * Which workers are asked for.
 */
typedef enum {
    /**
     * Every registered worker, live or lost.
     */
    AXM_FILTER_ALL = 0,
    /**
     * Workers that renew their lease.
     */
    AXM_FILTER_LIVE = 1,
    /**
     * Registered workers whose lease has ended.
     */
    AXM_FILTER_FAILED = 2,
} axm_filter_t;

/**
 * How important a message is.
 */
typedef enum {
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
     * Something changed as it should.
     */
    AXM_LOG_INFO = 3,
    /**
     * For finding out what goes on.
     */
    AXM_LOG_DEBUG = 4,
    /**
     * Trace-level detail, such as each request.
     */
    AXM_LOG_TRACE = 5,
} axm_log_level_t;

/**
 * Where a registration stands.
 */
typedef enum {
    /**
     * The first registration is under way.
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
     * The lease has run out, or may have: others may list the worker as lost.
     */
    AXM_REGISTRATION_LOST = 4,
    /**
     * The lease has run out or a key is gone; the keys are being written again.
     */
    AXM_REGISTRATION_REJOINING = 5,
    /**
     * Ended on purpose.
     */
    AXM_REGISTRATION_LEFT = 6,
} axm_registration_state_t;

/**
 * The state of a worker.
 */
typedef enum {
    /**
     * Registered and renewing its lease.
     */
    AXM_STATE_LIVE = 1,
    /**
     * Registered, but its lease has ended.
     */
    AXM_STATE_LOST = 2,
} axm_state_t;

/**
 * Alluxio properties. Nothing is checked before axm_membership_open, and what Alluxio knows but this library does not
 * need is ignored, so a whole alluxio-site.properties may be given.
 */
typedef struct axm_config_t axm_config_t;

/**
 * Why a call failed.
 */
typedef struct axm_error_t axm_error_t;

/**
 * A worker in a listing. Belongs to its snapshot, as do its texts.
 */
typedef struct axm_member_t axm_member_t;

/**
 * Access to one cluster: lists its workers, registers workers and keeps them registered. Memberships of one cluster
 * share their connections and their memory; opening another one is cheap.
 */
typedef struct axm_membership_t axm_membership_t;

/**
 * Some or all workers of a cluster at one moment, in the order of their keys in etcd (of the lines, where they come from
 * a hosts file). Never changes, but for its age. Counted: it lives until every holder has freed it, however many memberships are freed
 * before. The same listing may be handed out many times, and costs nothing then.
 */
typedef struct axm_snapshot_t axm_snapshot_t;

/**
 * How a membership was doing at one moment, as far as this process knew. Never changes.
 */
typedef struct axm_status_t axm_status_t;

/**
 * A callback that changes are reported to until it is freed.
 */
typedef struct axm_subscription_t axm_subscription_t;

/**
 * A worker to register. Start with AXM_WORKER_INIT, then set what applies; texts that stay NULL are stored as empty
 * texts. Later versions may add fields at the end.
 *
 * ```c
 * axm_worker_t worker = AXM_WORKER_INIT;
 * worker.identity = "worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d";
 * worker.host = "host1";
 * worker.rpc_port = 29999;
 * ```
 */
typedef struct {
    /**
     * sizeof(axm_worker_t), which AXM_WORKER_INIT sets.
     */
    size_t struct_size;
    /**
     * "worker-" and a UUID that is the worker's own: the same at every start, and no other worker's. Required.
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
     * The port of the RPC service, 1 to 65535; 0, as for all ports, if there is none.
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

/**
 * Called for each change: with the user_data of axm_membership_subscribe, an AXM_EVENT_* value, the worker as it is now
 * (as it was, if it was removed), and the registered workers after the change and all others reported with it, as
 * AXM_FILTER_ALL lists them. Changes reported together come in the order of the workers' identities, not of time. A live
 * worker that is not registered counts too, but is not in the snapshot; that it is registered now, or no longer, is not
 * reported. The member lives during the call only; so does the snapshot, unless it is kept with axm_snapshot_retain.
 */
typedef void (*axm_event_callback_t)(void *user_data,
                                     int32_t event,
                                     const axm_member_t *member,
                                     const axm_snapshot_t *snapshot);

/**
 * Called with the user_data of axm_log_set, an AXM_LOG_* value, the part of the library that speaks, and what it says.
 * The texts live during the call only.
 */
typedef void (*axm_log_callback_t)(void *user_data,
                                   int32_t level,
                                   const char *target,
                                   const char *message);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that is loaded, such as "0.1.0". Static.
 */
const char *axm_version_string(void);

/**
 * The AXM_ABI_VERSION of the library that is loaded. One that is at least the header's has everything the header
 * declares.
 */
uint32_t axm_abi_version(void);

/**
 * One of the AXM_ERROR_* values; 0 for NULL.
 */
int32_t axm_error_code(const axm_error_t *error);

/**
 * What failed and why, for people. Belongs to the error.
 */
const char *axm_error_message(const axm_error_t *error);

/**
 * Whether the same call may succeed later without anybody correcting anything.
 */
bool axm_error_is_retryable(const axm_error_t *error);

/**
 * Frees an error.
 */
void axm_error_free(axm_error_t *error);

/**
 * An empty configuration. Never NULL.
 */
axm_config_t *axm_config_new(void);

/**
 * Sets one property, for example "alluxio.etcd.endpoints" to "http://etcd-0:2379,http://etcd-1:2379". The last value
 * counts.
 *
 * Errors: INVALID_ARGUMENT.
 */
AXM_MUST_USE
axm_error_t *axm_config_set(axm_config_t *config,
                            const char *key,
                            const char *value);

/**
 * Sets all properties of a file in the format of alluxio-site.properties. Blocks for as long as the file system does.
 *
 * Errors: NOT_FOUND, IO, INVALID_CONFIG (what is in the file), INVALID_ARGUMENT.
 */
AXM_MUST_USE
axm_error_t *axm_config_load_file(axm_config_t *config,
                                  const char *path);

/**
 * Frees a configuration. Memberships opened with it do not need it any more.
 */
void axm_config_free(axm_config_t *config);

/**
 * Another hold on the same snapshot, for another owner, who frees it. Returns the snapshot.
 */
axm_snapshot_t *axm_snapshot_retain(const axm_snapshot_t *snapshot);

/**
 * Ends one hold on the snapshot; the last one frees it, with its workers and their texts.
 */
void axm_snapshot_free(axm_snapshot_t *snapshot);

/**
 * Grows with every change, while the cluster stays open; never 0. May start again from 1 when the cluster is opened again.
 */
uint64_t axm_snapshot_version(const axm_snapshot_t *snapshot);

/**
 * The etcd revision that the snapshot shows; 0 if the workers come from a hosts file.
 */
int64_t axm_snapshot_revision(const axm_snapshot_t *snapshot);

/**
 * How many milliseconds ago etcd was last known to have exactly these workers; -1 for NULL. A few thousand at most while
 * they are the newest and etcd answers; from then on it grows. 0 if the workers come from a hosts file.
 */
int64_t axm_snapshot_age_ms(const axm_snapshot_t *snapshot);

/**
 * The number of workers.
 */
size_t axm_snapshot_count(const axm_snapshot_t *snapshot);

/**
 * The worker at an index; NULL if the index is not below axm_snapshot_count.
 */
const axm_member_t *axm_snapshot_member(const axm_snapshot_t *snapshot, size_t index);

/**
 * The worker of an identity such as "worker-<uuid>": *out is NULL if the snapshot does not contain it.
 *
 * Errors: INVALID_ARGUMENT.
 */
AXM_MUST_USE
axm_error_t *axm_snapshot_find(const axm_snapshot_t *snapshot,
                               const char *identity,
                               const axm_member_t **out);

/**
 * The number of keys that belong to the cluster but are not listed, because their records cannot be understood.
 */
size_t axm_snapshot_skipped_count(const axm_snapshot_t *snapshot);

/**
 * The etcd key of a record that is not listed; NULL if the index is not below axm_snapshot_skipped_count.
 */
const char *axm_snapshot_skipped_key(const axm_snapshot_t *snapshot,
                                     size_t index);

/**
 * Why that record is not listed.
 */
const char *axm_snapshot_skipped_reason(const axm_snapshot_t *snapshot, size_t index);

/**
 * The identity: "worker-<uuid>", or "worker-<number>" for workers of old releases.
 */
const char *axm_member_identity(const axm_member_t *member);

/**
 * One of the AXM_STATE_* values.
 */
int32_t axm_member_state(const axm_member_t *member);

/**
 * The host name or IP address of the worker's services.
 */
const char *axm_member_host(const axm_member_t *member);

/**
 * The host name of the worker's container; empty if there is none.
 */
const char *axm_member_container_host(const axm_member_t *member);

/**
 * The path of the domain socket for short-circuit reads; empty if there is none.
 */
const char *axm_member_domain_socket_path(const axm_member_t *member);

/**
 * The port of the RPC service; 0, as for all ports, if there is none.
 */
int32_t axm_member_rpc_port(const axm_member_t *member);

/**
 * The port of the data service.
 */
int32_t axm_member_data_port(const axm_member_t *member);

/**
 * The port of the secure RPC service.
 */
int32_t axm_member_secure_rpc_port(const axm_member_t *member);

/**
 * The port of the Netty data service.
 */
int32_t axm_member_netty_data_port(const axm_member_t *member);

/**
 * The port of the web server.
 */
int32_t axm_member_web_port(const axm_member_t *member);

/**
 * The port of the HTTP server.
 */
int32_t axm_member_http_server_port(const axm_member_t *member);

/**
 * Opens a membership. Never waits for the network: an etcd that cannot be reached is an error of later calls. Reads the
 * files that the configuration names. Blocks if there are any, at most for alluxio.membership.native.operation.timeout.
 *
 * Errors: INVALID_CONFIG, MISSING_CONFIG; NOT_FOUND, IO (a file, also if it is not read in time); INVALID_ARGUMENT,
 * CLOSED, FORKED, RESOURCE_EXHAUSTED (no thread or no file descriptor to be had).
 */
AXM_MUST_USE
axm_error_t *axm_membership_open(const axm_config_t *config,
                                 axm_membership_t **out);

/**
 * Registers a worker and keeps it registered until axm_membership_leave, axm_membership_stop_heartbeat,
 * axm_membership_close or the end of the process. A worker that is registered already may join again, with another
 * http_server_port and netty_data_port. Joining with any other address is AXM_ERROR_ALREADY_EXISTS, unless
 * alluxio.k8s.env.deployment is true. Succeeds and does nothing for a STATIC cluster, whose workers are those of the
 * hosts file. Blocks.
 *
 * Errors: INVALID_ARGUMENT (the worker, or a record longer than etcd stores: 1.5 MiB by default), ALREADY_EXISTS, CORRUPT
 * (what is stored under this identity), UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED, CLOSED, FORKED.
 */
AXM_MUST_USE
axm_error_t *axm_membership_join(const axm_membership_t *membership,
                                 const axm_worker_t *worker);

/**
 * Lists the workers of the cluster that an AXM_FILTER_* value names. Blocks when the library has no fresh list, which
 * it usually has.
 *
 * Errors: INVALID_ARGUMENT, UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED, CLOSED, FORKED.
 */
AXM_MUST_USE
axm_error_t *axm_membership_list(const axm_membership_t *membership,
                                 int32_t filter,
                                 axm_snapshot_t **out);

/**
 * The version that a listing would have now; 0 if axm_membership_list would block or fail. Takes nanoseconds: for
 * programs that keep something of their own up to date with the list.
 */
uint64_t axm_membership_version(const axm_membership_t *membership);

/**
 * Waits until the library has a list of the cluster with a greater version than the given one (0: any), and hands it out.
 * That may be of any age, in each read mode: axm_snapshot_age_ms says it. When the time is over first, *out is NULL. Waits
 * without limit if timeout_ms is negative. Blocks, also while etcd does not answer: axm_membership_status says that.
 *
 * Errors: INVALID_ARGUMENT, CLOSED, FORKED.
 */
AXM_MUST_USE
axm_error_t *axm_membership_wait_for_change(const axm_membership_t *membership,
                                            int32_t filter,
                                            uint64_t version,
                                            int64_t timeout_ms,
                                            axm_snapshot_t **out);

/**
 * The table of all workers that "alluxio info nodes" prints. Freed with axm_string_free. Blocks as
 * axm_membership_list does.
 *
 * Errors: those of axm_membership_list.
 */
AXM_MUST_USE axm_error_t *axm_membership_show(const axm_membership_t *membership, char **out);

/**
 * Removes a lost worker, such as "worker-<uuid>", from the cluster. Succeeds and does nothing where there is nothing to
 * remove a worker from: in a STATIC and in a SERVICE_REGISTRY cluster. Blocks.
 *
 * Errors: INVALID_ARGUMENT (a live or an unknown worker, or no identity), UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED,
 * CLOSED, FORKED.
 */
AXM_MUST_USE
axm_error_t *axm_membership_remove(const axm_membership_t *membership,
                                   const char *identity);

/**
 * Ends the registration of one worker that this process registered; it is listed as lost at once. Success if there is
 * none. Blocks.
 *
 * Errors: INVALID_ARGUMENT (no identity), UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED (then its lease ends on its
 * own), CLOSED, FORKED.
 */
AXM_MUST_USE
axm_error_t *axm_membership_stop_heartbeat(const axm_membership_t *membership,
                                           const char *identity);

/**
 * Ends the registration of every worker that joined through this membership; they are listed as lost at once. Blocks.
 *
 * Errors: UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED (then a lease ends on its own), CLOSED, FORKED;
 * INVALID_ARGUMENT for NULL.
 */
AXM_MUST_USE
axm_error_t *axm_membership_leave(const axm_membership_t *membership);

/**
 * Leaves and closes. Calls that are running end soon, with AXM_ERROR_CLOSED (which do not, "Blocking" says above), as do
 * all later calls but this one, which succeeds again. Still to be freed; until then the library follows the cluster.
 * Closed even if leaving fails, in which case the lease of a worker ends on its own. Blocks.
 *
 * Errors: UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED (closed all the same); CLOSED (after axm_shutdown), FORKED;
 * INVALID_ARGUMENT for NULL.
 */
AXM_MUST_USE
axm_error_t *axm_membership_close(const axm_membership_t *membership);

/**
 * Closes a membership that is not closed, and frees it; blocks in the first case, and loses the error. Snapshots stay.
 */
void axm_membership_free(axm_membership_t *membership);

/**
 * Frees a text that a function handed out through a char ** out-parameter.
 */
void axm_string_free(char *text);

/**
 * Subscribes to the changes of the cluster. The callback first gets AXM_EVENT_ADDED for each listed worker, then
 * each change. Changes that come faster than the callback takes them may be reported as one.
 *
 * The callback runs on a thread of the subscription's own, one call at a time, and may use the library as any thread
 * may, close the membership included. It ends, without a report, when the membership is closed; while etcd does not
 * answer, nothing changes, and axm_membership_status says so. The user data must live until axm_subscription_free has returned.
 *
 * Errors: INVALID_ARGUMENT, CLOSED, FORKED, RESOURCE_EXHAUSTED (the thread cannot be started).
 */
AXM_MUST_USE
axm_error_t *axm_membership_subscribe(const axm_membership_t *membership,
                                      axm_event_callback_t callback,
                                      void *user_data,
                                      axm_subscription_t **out);

/**
 * Ends a subscription and frees it. Blocks until a running call of the callback has returned; after that, there is none.
 * From inside the callback itself it does not wait: the running call is then the last one. Nor does it from the log
 * callback, where the running call may end later.
 */
void axm_subscription_free(axm_subscription_t *subscription);

/**
 * How the membership is doing, as far as this process knows without asking anybody. Does not block, also while another
 * call changes a registration.
 *
 * Errors: INVALID_ARGUMENT, CLOSED, FORKED.
 */
AXM_MUST_USE
axm_error_t *axm_membership_status(const axm_membership_t *membership,
                                   axm_status_t **out);

/**
 * Frees a status.
 */
void axm_status_free(axm_status_t *status);

/**
 * The version of the list in memory, which counts its changes; 0 before the first listing.
 */
uint64_t axm_status_version(const axm_status_t *status);

/**
 * For how long the list in memory has not been compared with etcd, in milliseconds; -1 before the first listing.
 */
int64_t axm_status_view_age_ms(const axm_status_t *status);

/**
 * Why the list in memory cannot be brought up to date at present; NULL if it can.
 */
const char *axm_status_view_error(const axm_status_t *status);

/**
 * How often all workers were listed, since the process first listed the cluster: once at first, and whenever changes may
 * have been missed.
 */
uint64_t axm_status_listings(const axm_status_t *status);

/**
 * How often etcd opened a watch: once after each listing, and whenever the connection of a watch was lost.
 */
uint64_t axm_status_watches(const axm_status_t *status);

/**
 * How often a comparison of the list in memory with etcd found nothing missing.
 */
uint64_t axm_status_checks(const axm_status_t *status);

/**
 * How often such a comparison found changes that the watch had not brought yet. Some are normal: the changes are on
 * their way. What does not come within seconds is listed anew.
 */
uint64_t axm_status_checks_behind(const axm_status_t *status);

/**
 * How often etcd did not answer such a comparison.
 */
uint64_t axm_status_checks_failed(const axm_status_t *status);

/**
 * How many listings showed that etcd had lost data: it was wiped, or restored from a backup.
 */
uint64_t axm_status_other_histories(const axm_status_t *status);

/**
 * The number of etcd's endpoints in the configuration; 0 if the workers come from a hosts file.
 */
size_t axm_status_endpoint_count(const axm_status_t *status);

/**
 * "http://host:port", "https://host:port" with TLS; NULL if the index is not below axm_status_endpoint_count.
 */
const char *axm_status_endpoint_url(const axm_status_t *status,
                                    size_t index);

/**
 * Whether the endpoint is used. One that did not answer is quarantined until it answers again. One that was never
 * asked counts as healthy.
 */
bool axm_status_endpoint_is_healthy(const axm_status_t *status,
                                    size_t index);

/**
 * The number of requests that the endpoint answered.
 */
uint64_t axm_status_endpoint_answered(const axm_status_t *status, size_t index);

/**
 * The number of requests to the endpoint that failed.
 */
uint64_t axm_status_endpoint_failed(const axm_status_t *status, size_t index);

/**
 * Why the last of these failed; NULL if none has.
 *
 * While the endpoint is quarantined, this is the reason of that.
 */
const char *axm_status_endpoint_last_error(const axm_status_t *status, size_t index);

/**
 * The number of workers of this cluster that the process keeps registered, through this membership or another; 0 for a
 * STATIC cluster.
 */
size_t axm_status_registration_count(const axm_status_t *status);

/**
 * Whose registration it is; NULL if the index is not below axm_status_registration_count.
 */
const char *axm_status_registration_identity(const axm_status_t *status, size_t index);

/**
 * One of the AXM_REGISTRATION_* values.
 */
int32_t axm_status_registration_state(const axm_status_t *status, size_t index);

/**
 * The id of the registration's lease in etcd; 0 while there is none.
 */
int64_t axm_status_registration_lease(const axm_status_t *status, size_t index);

/**
 * How long that lease lasts unless it is renewed, in milliseconds.
 */
int64_t axm_status_registration_lease_left_ms(const axm_status_t *status, size_t index);

/**
 * Whether another process has registered the same identity: then its record is the live one, and this process writes its
 * own again when that one is gone. False if the index is not below axm_status_registration_count.
 */
bool axm_status_registration_is_displaced(const axm_status_t *status,
                                          size_t index);

/**
 * How many leases the registration has had: more than one if it was lost in between.
 */
uint64_t axm_status_registration_leases(const axm_status_t *status, size_t index);

/**
 * Reports messages of this level and of more important ones to a callback, for the whole process. NULL ends that. Without
 * a callback the library logs nothing. May be called before a fork, and after axm_shutdown.
 *
 * The callback is called on any thread, and on several at a time. It must return soon, since the library waits for it,
 * and should not call the library: functions that use a membership fail with AXM_ERROR_INVALID_ARGUMENT there, as do this
 * one and axm_shutdown; axm_membership_free closes in the background, and axm_subscription_free does not wait for a
 * running call. Blocks until calls of the callback that was set before have returned; after that, there is none.
 *
 * Errors: INVALID_ARGUMENT (level, or inside the callback), FORKED, ALREADY_EXISTS (another logger in this process has the
 * messages already: programs in Rust and JVMs).
 */
AXM_MUST_USE
axm_error_t *axm_log_set(axm_log_callback_t callback,
                         void *user_data,
                         int32_t level);

/**
 * Ends the library before the process ends: ends every registration, then every thread but those of subscriptions, which
 * end by themselves. Waits for at most timeout_ms, and some tenths of a second for the threads. Calls that are running end
 * with AXM_ERROR_CLOSED, as do later ones; there is no way back. What was opened must still be freed. Does nothing if no
 * membership was ever opened, and if the library was shut down already. Not from the log callback. Blocks.
 *
 * Errors: UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED (a lease could not be revoked in time; the library has ended all
 * the same), UNAVAILABLE also if another thread is shutting down for longer than timeout_ms; INVALID_ARGUMENT, FORKED.
 */
AXM_MUST_USE
axm_error_t *axm_shutdown(int64_t timeout_ms);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ALLUXIO_MEMBERSHIP_H */
