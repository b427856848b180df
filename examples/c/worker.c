/*
 * Registers a worker and keeps it registered until SIGTERM or SIGINT, then leaves.
 *
 *   cc worker.c $(pkg-config --cflags --libs alluxio-membership) -pthread -o worker
 *   ./worker /opt/alluxio/conf/alluxio-site.properties \
 *     worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d host1 29999
 */
#define _POSIX_C_SOURCE 200809L
#include <alluxio_membership.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* Prints and frees an error. Returns whether there was one. */
static bool failed(axm_error_t *error)
{
    if (error == NULL) {
        return false;
    }
    fprintf(stderr, "worker: %s\n", axm_error_message(error));
    axm_error_free(error);
    return true;
}

static axm_membership_t *open_membership(const char *site_file)
{
    axm_membership_t *membership = NULL;
    axm_config_t *config = axm_config_new();
    if (!failed(axm_config_load_file(config, site_file))) {
        (void)failed(axm_membership_open(config, &membership));
    }
    axm_config_free(config);
    return membership;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fputs("Usage: worker SITE_PROPERTIES WORKER_ID HOST RPC_PORT\n", stderr);
        return 2;
    }
    /* This thread and the library's threads block the signals, so they wait for sigwait. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    axm_membership_t *membership = open_membership(argv[1]);
    if (membership == NULL) {
        return EXIT_FAILURE;
    }
    axm_worker_t worker = AXM_WORKER_INIT;
    worker.identity = argv[2];
    worker.host = argv[3];
    worker.rpc_port = atoi(argv[4]);
    int status = EXIT_FAILURE;
    if (!failed(axm_membership_join(membership, &worker, NULL))) {
        printf("registered %s\n", worker.identity);
        fflush(stdout);
        int received = 0;
        sigwait(&signals, &received);
        /* The worker is lost at once, not when its lease ends. */
        status = failed(axm_membership_close(membership)) ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    axm_membership_free(membership);
    return status;
}
