/*
 * Many threads with small stacks use one membership, and main returns while some of them wait.
 * Usage: threads HOSTS_FILE
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>

enum { THREADS = 8, LISTINGS = 200 };

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SMALL_STACK (1024 * 1024) /* the sanitizer needs some of it */
#endif
#endif
#ifndef SMALL_STACK
#define SMALL_STACK (128 * 1024)
#endif

static const char *hosts_file;
/* The program does not free the membership. */
static axm_membership_t *membership;

static void *open_list_close(void *unused)
{
    (void)unused;
    axm_membership_t *own = open_and_free(static_config(hosts_file));
    for (int i = 0; i < LISTINGS; i++) {
        axm_snapshot_t *shared = NULL;
        axm_snapshot_t *snapshot = NULL;
        OK(axm_membership_list(membership, i % 2, &shared));
        OK(axm_membership_list(own, i % 2, &snapshot));
        CHECK(axm_snapshot_count(shared) == 2);
        CHECK(axm_snapshot_count(snapshot) == 2);
        CHECK(axm_membership_version(membership) == axm_snapshot_version(shared));
        axm_snapshot_release(snapshot);
        axm_snapshot_release(shared);
    }
    OK(axm_membership_close(own));
    axm_membership_free(own);
    return NULL;
}

static void *wait_for_ever(void *unused)
{
    (void)unused;
    axm_snapshot_t *snapshot = NULL;
    OK(axm_membership_wait_for_change(membership, AXM_FILTER_ALL, UINT64_MAX, -1, &snapshot));
    fputs("a STATIC cluster changed\n", stderr);
    abort();
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    hosts_file = argv[1];
    membership = open_and_free(static_config(hosts_file));

    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, SMALL_STACK) == 0);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], &attributes, open_list_close, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], &attributes, wait_for_ever, NULL) == 0);
    }
    CHECK(pthread_attr_destroy(&attributes) == 0);
    return 0;
}
