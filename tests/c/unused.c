/*
 * The thread of an unused library ends after a while. After axm_shutdown, thread and connections
 * end at once.
 * Usage: unused HOSTS_FILE ENDPOINT
 */
#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>

/* Returns the number of entries in a folder. */
static int entries(const char *folder)
{
    int count = 0;
    DIR *directory = opendir(folder);
    CHECK(directory != NULL);
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        count += entry->d_name[0] != '.';
    }
    CHECK(closedir(directory) == 0);
    return count;
}

static int threads(void)
{
    return entries("/proc/self/task");
}

static int descriptors(void)
{
    return entries("/proc/self/fd");
}

static void list_and_free(axm_config_t *config)
{
    axm_membership_t *membership = open_and_free(config);
    axm_snapshot_t *snapshot = NULL;
    OK(axm_membership_list(membership, AXM_FILTER_ALL, &snapshot));
    axm_snapshot_release(snapshot);
    CHECK(threads() > 1);
    axm_membership_free(membership);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    const int threads_before = threads(), descriptors_before = descriptors();
    CHECK(threads_before == 1);
    for (int i = 0; i < 2; i++) {
        list_and_free(static_config(argv[1]));
        AWAIT(threads() == threads_before && descriptors() == descriptors_before);
    }

    /* An open membership keeps the thread, whatever else is closed. */
    axm_membership_t *open = open_and_free(etcd_config(argv[2]));
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = "worker-00000000-0000-4000-8000-000000000001";
    worker.host = "host";
    OK(axm_membership_join(open, &worker, NULL));
    list_and_free(static_config(argv[1]));
    CHECK(threads() > threads_before);
    axm_membership_free(open);
    /* The cluster lingers with its connections, and then ends. */
    CHECK(threads() > threads_before && descriptors() > descriptors_before);
    AWAIT(threads() == threads_before && descriptors() == descriptors_before);

    /* Another cluster lingers until the library is shut down. */
    list_and_free(etcd_config(argv[2]));
    CHECK(threads() > threads_before && descriptors() > descriptors_before);
    OK(axm_shutdown(10000));
    CHECK(descriptors() == descriptors_before);
    /* The kernel shows a thread for a moment after it was joined. */
    AWAIT(threads() == threads_before);
    return 0;
}
