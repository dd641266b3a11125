/* libtine-mpi: tine's pools past one machine, over whatever MPI this file is compiled with:
 *
 *     mpicc -O2 -fPIC -shared tine-mpi.c -o libtine-mpi.so $(pkg-config --cflags --libs tine)
 *
 * It gives tine a table of functions that move bytes from rank to rank, when it is loaded. All else is in tine. A thread of tine's makes
 * every MPI call, MPI_Init_thread too, so MPI_THREAD_FUNNELED does; in a program that has initialised MPI itself it takes
 * MPI_THREAD_MULTIPLE.
 */
#include <errno.h>
#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <tine.h>

enum { TAG = 1 };

static MPI_Comm communicator = MPI_COMM_NULL;
static int is_ours;           /* MPI was initialised here, so it is finalised here */
static int is_host;           /* rank 0, where the program goes on */
static int is_finalizing;     /* somebody has called MPI_Finalize */
static void (*part)(void);

/* What mpirun, mpiexec and srun tell the processes that they start. */
static int started(void)
{
    static const char *const variables[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "PMI_RANK", "MPI_LOCALNRANKS"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        if (getenv(variables[i]))
            return 1;
    return 0;
}

static int refused(const char *what, int rc)
{
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    if (MPI_Error_string(rc, text, &length) != MPI_SUCCESS)
        length = 0;
    fprintf(stderr, "tine: %s: %.*s\n", what, length, text);
    return -EIO;
}

/* MPI_Finalize calls it before it does anything else, in the thread that has called MPI_Finalize. */
static int finalizes(MPI_Comm self, int key, void *value, void *extra)
{
    (void)self, (void)key, (void)value, (void)extra;
    is_finalizing = 1;
    part();
    return MPI_SUCCESS;
}

static int start(int *rank, int *ranks, void (*to_part)(void))
{
    int there = 0, over = 0, level = MPI_THREAD_SINGLE, key = MPI_KEYVAL_INVALID;
    MPI_Finalized(&over);
    if (over) {
        fputs("tine: the program has finalised MPI already\n", stderr);
        return -EPERM;
    }
    MPI_Initialized(&there);
    if (there) {
        MPI_Query_thread(&level);
    } else {
        int rc = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
        if (rc != MPI_SUCCESS)
            return refused("MPI_Init_thread", rc);
        is_ours = 1;
        if (level < MPI_THREAD_FUNNELED) {
            fputs("tine: this MPI library is for programs of one thread\n", stderr);
            return -EPERM;
        }
    }
    int rc = MPI_Comm_dup(MPI_COMM_WORLD, &communicator);
    if (rc != MPI_SUCCESS)
        return refused("MPI_Comm_dup", rc);
    /* All ranks, or none: no rank waits for one that was refused. */
    int fits = !there || level >= MPI_THREAD_MULTIPLE, all_fit = 0;
    rc = MPI_Allreduce(&fits, &all_fit, 1, MPI_INT, MPI_MIN, communicator);
    if (rc != MPI_SUCCESS)
        return refused("MPI_Allreduce", rc);
    if (!all_fit) {
        if (!fits)
            fputs("tine: the program has initialised MPI without MPI_THREAD_MULTIPLE: let tine_init come first, or ask for it\n", stderr);
        MPI_Comm_free(&communicator);
        return -EPERM;
    }
    /* What fails comes back as an error, as far as the library can go on. */
    MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN);
    MPI_Comm_rank(communicator, rank);
    MPI_Comm_size(communicator, ranks);
    is_host = *rank == 0;
    if (is_host) {
        part = to_part;
        rc = MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, finalizes, &key, NULL);
        if (rc == MPI_SUCCESS)
            rc = MPI_Comm_set_attr(MPI_COMM_SELF, key, NULL);
        if (rc != MPI_SUCCESS)
            return refused("MPI_Comm_set_attr", rc);
    }
    return there;
}

/* A message that is on its way, or that has come and is to be received. */
struct message {
    MPI_Request request;
    MPI_Message matched;
};

static int send_bytes(int rank, const void *data, size_t length, void **sending)
{
    if (length > INT_MAX)
        return -EMSGSIZE;
    struct message *message = (struct message *)malloc(sizeof *message);
    if (!message)
        return -ENOMEM;
    int rc = MPI_Isend(data, (int)length, MPI_BYTE, rank, TAG, communicator, &message->request);
    if (rc != MPI_SUCCESS) {
        free(message);
        return refused("MPI_Isend", rc);
    }
    *sending = message;
    return 0;
}

static int probe(int *rank, size_t *length, void **out)
{
    static struct message *spare; /* what is matched has a place then */
    static int told;
    int there = 0, count = 0;
    MPI_Status status;
    if (!spare && !(spare = (struct message *)malloc(sizeof *spare)))
        return -ENOMEM;
    int rc = MPI_Improbe(*rank < 0 ? MPI_ANY_SOURCE : *rank, TAG, communicator, &there, &spare->matched, &status);
    if (rc != MPI_SUCCESS) {
        /* MPI does not say whose error it was where it was to look for anybody's messages. It may go on failing. */
        return *rank < 0 && told++ > 0 ? -EIO : refused("MPI_Improbe", rc);
    }
    if (!there)
        return 0;
    *rank = status.MPI_SOURCE;
    rc = MPI_Get_count(&status, MPI_BYTE, &count);
    if (rc != MPI_SUCCESS)
        return refused("MPI_Get_count", rc);
    if (count < 0) /* MPI_UNDEFINED: not whole bytes, or more than there may be */
        return -EPROTO;
    *length = (size_t)count;
    *out = spare;
    spare = NULL;
    return 1;
}

static int receive(void *handle, void *data, size_t length, void **receiving)
{
    struct message *message = (struct message *)handle;
    int rc = MPI_Imrecv(data, (int)length, MPI_BYTE, &message->matched, &message->request);
    if (rc != MPI_SUCCESS)
        return refused("MPI_Imrecv", rc);
    *receiving = message;
    return 0;
}

static int done(void *handle)
{
    struct message *message = (struct message *)handle;
    int is_done = 0;
    int rc = MPI_Test(&message->request, &is_done, MPI_STATUS_IGNORE);
    if (rc != MPI_SUCCESS)
        return refused("MPI_Test", rc);
    if (is_done)
        free(message);
    return is_done != 0;
}

static int stop(void)
{
    MPI_Comm_free(&communicator);
    /* At rank 0 whoever has initialised MPI finalises it. At a node the program does not go on. */
    if (is_finalizing || (is_host && !is_ours))
        return 0;
    int rc = MPI_Finalize();
    return rc == MPI_SUCCESS ? 0 : refused("MPI_Finalize", rc);
}

static void abort_all(int code)
{
    int there = 0;
    MPI_Initialized(&there);
    if (there)
        MPI_Abort(MPI_COMM_WORLD, code);
    abort();
}

__attribute__((constructor)) static void register_transport(void)
{
    tine_transport transport = TINE_TRANSPORT_INIT;
    transport.version = TINE_TRANSPORT_VERSION;
    transport.name = "MPI";
    transport.started = started;
    transport.start = start;
    transport.send = send_bytes;
    transport.probe = probe;
    transport.receive = receive;
    transport.done = done;
    transport.stop = stop;
    transport.abort = abort_all;
    int rc = tine_transport_register(&transport);
    if (rc)
        fprintf(stderr, "tine: libtine-mpi cannot be used: %s\n", tine_strerror(rc));
}
