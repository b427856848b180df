/*
 * Prints what happens to the workers of a cluster, until standard input ends.
 *
 *   cc watch.c $(pkg-config --cflags --libs alluxio-membership) -o watch
 *   ./watch /opt/alluxio/conf/alluxio-site.properties
 */
#include <alluxio_membership.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Prints and frees an error. Returns whether there was one. */
static bool failed(axm_error_t *error)
{
    if (error == NULL) {
        return false;
    }
    fprintf(stderr, "watch: %s\n", axm_error_message(error));
    axm_error_free(error);
    return true;
}

static const char *name_of(axm_change_kind_t kind)
{
    switch (kind) {
    case AXM_CHANGE_ADDED:
        return "added";
    case AXM_CHANGE_REMOVED:
        return "removed";
    case AXM_CHANGE_LIVE:
        return "live";
    case AXM_CHANGE_LOST:
        return "lost";
    case AXM_CHANGE_MOVED:
        return "moved";
    default:
        return "changed"; /* a later version of the library may know more */
    }
}

/* Runs on a thread of the library, one call at a time. */
static void changed(void *user_data, axm_change_kind_t kind, const axm_member_t *member,
                    const axm_snapshot_t *snapshot)
{
    FILE *stream = user_data;
    const axm_worker_t *worker = axm_member_worker(member);
    fprintf(stream, "%s\t%s\t%s:%" PRId32 "\t%s\tof %zu\n", name_of(kind), worker->identity,
            worker->host, worker->rpc_port,
            axm_member_state(member) == AXM_STATE_LIVE ? "ONLINE" : "OFFLINE",
            axm_snapshot_count(snapshot));
    fflush(stream);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fputs("Usage: watch SITE_PROPERTIES\n", stderr);
        return 2;
    }
    int status = EXIT_FAILURE;
    axm_membership_t *membership = NULL;
    axm_subscription_t *subscription = NULL;
    axm_config_t *config = axm_config_new();
    if (!failed(axm_config_load_file(config, argv[1])) &&
        !failed(axm_membership_open(config, &membership)) &&
        !failed(axm_membership_subscribe(membership, changed, stdout, &subscription))) {
        while (getchar() != EOF) {
        }
        status = EXIT_SUCCESS;
    }
    /* Waits for a running call. After that, the library does not use the user data. */
    axm_subscription_free(subscription);
    axm_membership_free(membership);
    axm_config_free(config);
    return status;
}
