/*
 * Loads the library at run time, and calls dlclose, which has no effect.
 * Usage: unload LIBRARY HOSTS_FILE
 */
#define _POSIX_C_SOURCE 200809L
#include <alluxio_membership.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

/* Returns a function of the library. POSIX allows this conversion. */
#define LOAD(library, name) \
    do { \
        *(void **)&name = dlsym(library, "axm_" #name); \
        CHECK(name != NULL); \
    } while (0)

static uint32_t (*abi_version)(void);
static axm_config_t *(*config_new)(void);
static axm_error_t *(*config_set)(axm_config_t *, const char *, const char *);
static void (*config_free)(axm_config_t *);
static axm_error_t *(*membership_open)(const axm_config_t *, axm_membership_t **);
static axm_error_t *(*membership_list)(const axm_membership_t *, axm_filter_t, axm_snapshot_t **);
static void (*membership_free)(axm_membership_t *);
static size_t (*snapshot_count)(const axm_snapshot_t *);
static void (*snapshot_release)(axm_snapshot_t *);

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    axm_membership_t *membership = NULL;
    for (int i = 0; i < 3; i++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        CHECK(library != NULL);
        LOAD(library, abi_version);
        LOAD(library, config_new);
        LOAD(library, config_set);
        LOAD(library, config_free);
        LOAD(library, membership_open);
        LOAD(library, membership_list);
        LOAD(library, membership_free);
        LOAD(library, snapshot_count);
        LOAD(library, snapshot_release);
        CHECK(abi_version() == AXM_ABI_VERSION);

        if (i == 0) {
            axm_config_t *config = config_new();
            CHECK(config_set(config, "alluxio.worker.membership.manager.type", "STATIC") == NULL);
            CHECK(config_set(config, "alluxio.worker.static.membership.manager.config.file",
                             argv[2]) ==
                  NULL);
            CHECK(membership_open(config, &membership) == NULL);
            config_free(config);
        }
        CHECK(dlclose(library) == 0);

        axm_snapshot_t *snapshot = NULL;
        CHECK(membership_list(membership, AXM_FILTER_ALL, &snapshot) == NULL);
        CHECK(snapshot_count(snapshot) == 2);
        snapshot_release(snapshot);
    }
    membership_free(membership);
    return 0;
}
