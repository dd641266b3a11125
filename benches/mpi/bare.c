/* bare: what tasks.c is held against where bytes count: MPI calls alone, without any pool.
 *
 *     mpirun -n 2 bare ROW COUNT: prints one number
 *
 * round-trip      nanoseconds for four bytes there and back, the median of COUNT
 * megabytes       nanoseconds for each of COUNT messages of 1 MiB by MPI_Send and MPI_Recv, until the last one has been answered
 * megabytes-two   the same by MPI_Isend and MPI_Irecv, of which two are under way at any time, as they are with tine; received into three
 *                 buffers in turn, for a task's bytes stay for its worker
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEGABYTE = 1 << 20, BUFFERS = 3 };

static char buffers[BUFFERS][MEGABYTE];

static void answer(void)
{
    MPI_Send(buffers[0], 4, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
}

static void await(void)
{
    MPI_Recv(buffers[0], 4, MPI_BYTE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double round_trip(int rank, int count)
{
    double *took = malloc((size_t)count * sizeof *took);
    if (!took)
        exit(1);
    for (int i = 0; i < count; i++) {
        double began = MPI_Wtime();
        if (rank == 0) {
            MPI_Send(buffers[0], 4, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
            await();
        } else {
            MPI_Recv(buffers[0], 4, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            answer();
        }
        took[i] = MPI_Wtime() - began;
    }
    qsort(took, (size_t)count, sizeof *took, compare);
    double median = took[count / 2];
    free(took);
    return median * 1e9;
}

static double megabytes(int rank, int count)
{
    double began = MPI_Wtime();
    for (int i = 0; i < count; i++) {
        if (rank == 0)
            MPI_Send(buffers[0], MEGABYTE, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
        else
            MPI_Recv(buffers[0], MEGABYTE, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    if (rank == 0)
        await();
    else
        answer();
    return (MPI_Wtime() - began) / count * 1e9;
}

static double megabytes_two(int rank, int count)
{
    MPI_Request requests[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
    double began = MPI_Wtime();
    for (int i = 0; i < count; i++) {
        MPI_Wait(&requests[i % 2], MPI_STATUS_IGNORE);
        if (rank == 0)
            MPI_Isend(buffers[0], MEGABYTE, MPI_BYTE, 1, 0, MPI_COMM_WORLD, &requests[i % 2]);
        else
            MPI_Irecv(buffers[i % BUFFERS], MEGABYTE, MPI_BYTE, 0, 0, MPI_COMM_WORLD, &requests[i % 2]);
    }
    for (int i = 0; i < 2; i++)
        MPI_Wait(&requests[i], MPI_STATUS_IGNORE);
    if (rank == 0)
        await();
    else
        answer();
    return (MPI_Wtime() - began) / count * 1e9;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        double (*measure)(int, int);
    } rows[] = {{"round-trip", round_trip}, {"megabytes", megabytes}, {"megabytes-two", megabytes_two}};
    int rank;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (argc != 3)
        MPI_Abort(MPI_COMM_WORLD, 2);
    int count = atoi(argv[2]);
    memset(buffers, 1, sizeof buffers);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(argv[1], rows[i].name))
            continue;
        rows[i].measure(rank, count / 10 + 1);
        double took = rows[i].measure(rank, count);
        if (rank == 0)
            printf("%.0f\n", took);
    }
    MPI_Finalize();
    return 0;
}
