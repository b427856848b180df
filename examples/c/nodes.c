/*
 * Lists the workers of an Alluxio cluster, in the format of "alluxio info nodes".
 *
 *   cc nodes.c $(pkg-config --cflags --libs alluxio-membership) -o nodes
 *   ./nodes -c /opt/alluxio/conf/alluxio-site.properties --live
 *   ./nodes -D alluxio.worker.membership.manager.type=ETCD \
 *     -D alluxio.etcd.endpoints=http://localhost:2379
 */
#include <alluxio_membership.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2 };

static void usage(FILE *stream)
{
    fputs("Usage: nodes [-c site.properties] [-D key=value]... [--live | --lost | --all]\n"
          "Exit status: 0 listed, 1 failed, 2 wrong usage.\n",
          stream);
}

/* Prints and frees an error. Returns whether there was one. */
static bool failed(axm_error_t *error)
{
    if (error == NULL) {
        return false;
    }
    fprintf(stderr, "nodes: %s%s\n", axm_error_message(error),
            axm_error_is_retryable(error) ? " (it may work later)" : "");
    axm_error_free(error);
    return true;
}

/* Sets the property in "key=value". Returns false for other texts. */
static bool set_property(axm_config_t *config, const char *property)
{
    const char *equals = strchr(property, '=');
    if (equals == NULL || equals == property) {
        fprintf(stderr, "nodes: -D %s: expected key=value\n", property);
        return false;
    }
    size_t length = (size_t)(equals - property);
    char *key = malloc(length + 1);
    if (key == NULL) {
        perror("nodes");
        return false;
    }
    memcpy(key, property, length);
    key[length] = '\0';
    axm_error_t *error = axm_config_set(config, key, equals + 1);
    free(key);
    return !failed(error);
}

/* Prints the whole table exactly as Alluxio prints it. */
static bool print_all(const axm_membership_t *membership)
{
    char *table;
    if (failed(axm_membership_show(membership, &table))) {
        return false;
    }
    fputs(table, stdout);
    axm_string_free(table);
    return true;
}

/* Prints the rows of some workers. */
static bool print_some(const axm_membership_t *membership, axm_filter_t filter)
{
    axm_snapshot_t *snapshot;
    if (failed(axm_membership_list(membership, filter, &snapshot))) {
        return false;
    }
    puts("WorkerId\tAddress\tStatus");
    for (size_t i = 0; i < axm_snapshot_count(snapshot); i++) {
        const axm_member_t *member = axm_snapshot_member(snapshot, i);
        const axm_worker_t *worker = axm_member_worker(member);
        printf("%s\t%s:%" PRId32 "\t%s\n", worker->identity, worker->host, worker->rpc_port,
               axm_member_state(member) == AXM_STATE_LIVE ? "ONLINE" : "OFFLINE");
    }
    axm_snapshot_release(snapshot);
    return true;
}

static bool print_nodes(const axm_config_t *config, axm_filter_t filter)
{
    axm_membership_t *membership;
    if (failed(axm_membership_open(config, &membership))) {
        return false;
    }
    bool printed = filter == AXM_FILTER_ALL ? print_all(membership)
                                            : print_some(membership, filter);
    axm_membership_free(membership);
    if (printed && (fflush(stdout) != 0 || ferror(stdout))) {
        perror("nodes: standard output");
        return false;
    }
    return printed;
}

/*
 * Reads the command line into the configuration and the filter. Returns the exit status, or -1 to
 * continue.
 */
static int parse(int argc, char **argv, axm_config_t *config, axm_filter_t *filter)
{
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i];
        const char *value = argv[i + 1]; /* NULL after the last one */
        if (strcmp(argument, "--all") == 0) {
            *filter = AXM_FILTER_ALL;
        } else if (strcmp(argument, "--live") == 0) {
            *filter = AXM_FILTER_LIVE;
        } else if (strcmp(argument, "--lost") == 0) {
            *filter = AXM_FILTER_LOST;
        } else if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            usage(stdout);
            return EXIT_SUCCESS;
        } else if (strcmp(argument, "-c") == 0 && value != NULL) {
            if (failed(axm_config_load_file(config, value))) {
                return EXIT_FAILURE;
            }
            i++;
        } else if (strcmp(argument, "-D") == 0 && value != NULL) {
            if (!set_property(config, value)) {
                return EXIT_USAGE;
            }
            i++;
        } else {
            fprintf(stderr, "nodes: cannot use argument %s\n", argument);
            usage(stderr);
            return EXIT_USAGE;
        }
    }
    return -1;
}

int main(int argc, char **argv)
{
    axm_config_t *config = axm_config_new();
    axm_filter_t filter = AXM_FILTER_ALL;
    int status = parse(argc, argv, config, &filter);
    if (status < 0) {
        status = print_nodes(config, filter) ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    axm_config_free(config);
    return status;
}
