/* The header alone, twice, as C90, C99, C11 and C++11; and the layout that programs were compiled
 * with. */
#include <alluxio_membership.h>
#include <alluxio_membership.h>

#include <stdio.h>
#include <string.h>

/* An array of this size exists only if the condition holds. */
#define ASSERT(name, condition) typedef char name[(condition) ? 1 : -1]

ASSERT(worker_size, sizeof(axm_worker_t) == sizeof(size_t) + 4 * sizeof(char *)
       + 6 * sizeof(int32_t));
ASSERT(worker_size_first, offsetof(axm_worker_t, struct_size) == 0);
ASSERT(worker_identity, offsetof(axm_worker_t, identity) == sizeof(size_t));
ASSERT(worker_host, offsetof(axm_worker_t, host) == sizeof(size_t) + sizeof(char *));
ASSERT(worker_container_host,
       offsetof(axm_worker_t, container_host) == sizeof(size_t) + 2 * sizeof(char *));
ASSERT(worker_domain_socket_path,
       offsetof(axm_worker_t, domain_socket_path) == sizeof(size_t) + 3 * sizeof(char *));
#define PORT(number) (sizeof(size_t) + 4 * sizeof(char *) + (number) * sizeof(int32_t))
ASSERT(worker_rpc_port, offsetof(axm_worker_t, rpc_port) == PORT(0));
ASSERT(worker_data_port, offsetof(axm_worker_t, data_port) == PORT(1));
ASSERT(worker_secure_rpc_port, offsetof(axm_worker_t, secure_rpc_port) == PORT(2));
ASSERT(worker_netty_data_port, offsetof(axm_worker_t, netty_data_port) == PORT(3));
ASSERT(worker_web_port, offsetof(axm_worker_t, web_port) == PORT(4));
ASSERT(worker_http_server_port, offsetof(axm_worker_t, http_server_port) == PORT(5));

ASSERT(join_options_size, sizeof(axm_join_options_t) == 2 * sizeof(size_t));
ASSERT(join_options_k8s, offsetof(axm_join_options_t, k8s) == sizeof(size_t));
ASSERT(counters_size, sizeof(axm_counters_t) == sizeof(size_t) + 13 * sizeof(uint64_t));
ASSERT(counters_listings, offsetof(axm_counters_t, listings) == sizeof(size_t));
ASSERT(counters_lease_left, offsetof(axm_counters_t, lease_left_ms) == sizeof(size_t)
       + 12 * sizeof(uint64_t));

ASSERT(errors, AXM_OK == 0 && AXM_ERROR_INVALID_ARGUMENT == 1 && AXM_ERROR_INVALID_CONFIG == 2 &&
                   AXM_ERROR_MISSING_CONFIG == 3 && AXM_ERROR_NOT_FOUND == 4 &&
                   AXM_ERROR_ALREADY_EXISTS == 5 && AXM_ERROR_CORRUPT == 6 &&
                       AXM_ERROR_UNAVAILABLE == 7 &&
                   AXM_ERROR_UNAUTHENTICATED == 8 && AXM_ERROR_PERMISSION_DENIED == 9 &&
                   AXM_ERROR_IO == 10 && AXM_ERROR_CLOSED == 11 && AXM_ERROR_FORKED == 12 &&
                   AXM_ERROR_INTERNAL == 13 && AXM_ERROR_RESOURCE_EXHAUSTED == 14);
ASSERT(filters, AXM_FILTER_ALL == 0 && AXM_FILTER_LIVE == 1 && AXM_FILTER_LOST == 2);
ASSERT(states, AXM_STATE_LIVE == 1 && AXM_STATE_LOST == 2);
ASSERT(changes, AXM_CHANGE_ADDED == 1 && AXM_CHANGE_REMOVED == 2 && AXM_CHANGE_LIVE == 3 &&
                   AXM_CHANGE_LOST == 4 && AXM_CHANGE_MOVED == 5);
ASSERT(registrations, AXM_REGISTRATION_JOINING == 1 && AXM_REGISTRATION_REGISTERED == 2 &&
                          AXM_REGISTRATION_SUSPECT == 3 && AXM_REGISTRATION_LOST == 4 &&
                          AXM_REGISTRATION_REJOINING == 5 && AXM_REGISTRATION_LEFT == 6);
ASSERT(k8s, AXM_K8S_AS_CONFIGURED == 0 && AXM_K8S_NO == 1 && AXM_K8S_YES == 2);
ASSERT(numbers, sizeof(axm_filter_t) == 4 && sizeof(axm_error_kind_t) == 4);
ASSERT(levels, AXM_LOG_OFF == 0 && AXM_LOG_ERROR == 1 && AXM_LOG_WARN == 2 && AXM_LOG_INFO == 3 &&
                   AXM_LOG_DEBUG == 4 && AXM_LOG_TRACE == 5);

int main(void)
{
    axm_worker_t worker = AXM_WORKER_INIT;
    axm_join_options_t options = AXM_JOIN_OPTIONS_INIT;
    axm_counters_t counters = AXM_COUNTERS_INIT;
    const char *version = axm_version();
    char numbers[64];
    sprintf(numbers, "%d.%d.%d", AXM_VERSION_MAJOR, AXM_VERSION_MINOR, AXM_VERSION_PATCH);
    return worker.struct_size == sizeof worker && options.struct_size == sizeof options &&
                   counters.struct_size == sizeof counters &&
                   axm_abi_version() == AXM_ABI_VERSION && strcmp(version, numbers) == 0 &&
                   strcmp(version, AXM_VERSION_STRING) == 0
               ? 0
               : 1;
}
