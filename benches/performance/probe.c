/*
 * A new process that lists workers as `make bench` asks it to; times are in nanoseconds.
 *
 *   probe ENDPOINT first COUNT      lists once, checks the number of workers, prints the time
 *                                   since the start of main
 *   probe ENDPOINT unchanged CALLS  lists once, then so often again, prints the time of one list
 *                                   and its release
 *   probe ENDPOINT idle             lists once, prints "idle", and waits for the end of its input
 */
#include <alluxio_membership.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t) time.tv_sec * 1000000000 + time.tv_nsec;
}

static void check(axm_error_t *error)
{
    if (error != NULL) {
        fprintf(stderr, "probe: %s\n", axm_error_message(error));
        exit(EXIT_FAILURE);
    }
}

static size_t list(const axm_membership_t *membership)
{
    axm_snapshot_t *snapshot;
    check(axm_membership_list(membership, AXM_FILTER_ALL, &snapshot));
    size_t count = axm_snapshot_count(snapshot);
    axm_snapshot_release(snapshot);
    return count;
}

int main(int argc, char **argv)
{
    int64_t start = now();
    if (argc < 3) {
        return 2;
    }
    const char *command = argv[2];
    unsigned long number = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;

    axm_config_t *config = axm_config_new();
    check(axm_config_set(config, "alluxio.worker.membership.manager.type", "ETCD"));
    check(axm_config_set(config, "alluxio.etcd.endpoints", argv[1]));
    check(axm_config_set(config, "alluxio.membership.native.operation.timeout", "60s"));
    axm_membership_t *membership;
    check(axm_membership_open(config, &membership));
    axm_config_free(config);
    size_t count = list(membership);

    if (strcmp(command, "first") == 0) {
        printf("%" PRId64 "\n", now() - start);
        if (count != number) {
            fprintf(stderr, "probe: %zu workers instead of %lu\n", count, number);
            return EXIT_FAILURE;
        }
    } else if (strcmp(command, "unchanged") == 0) {
        start = now();
        for (unsigned long call = 0; call < number; call++) {
            list(membership);
        }
        printf("%.2f\n", (double) (now() - start) / (double) number);
    } else if (strcmp(command, "idle") == 0) {
        puts("idle");
        fflush(stdout);
        while (getchar() != EOF) {
        }
    } else {
        return 2;
    }
    check(axm_membership_close(membership));
    axm_membership_free(membership);
    return EXIT_SUCCESS;
}
