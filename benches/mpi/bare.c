/* bare: what tasks.c is held against where bytes count: MPI_Send and MPI_Recv alone, without any pool.
 *
 *     mpirun -n 2 bare ROW COUNT: prints one number
 *
 * round-trip     nanoseconds for four bytes there and back, the median of COUNT
 * megabytes      nanoseconds for each of COUNT messages of 1 MiB, until the last one has been answered
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEGABYTE = 1 << 20 };

static char buffer[MEGABYTE];

static void answer(void)
{
    MPI_Send(buffer, 4, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
}

static void await(void)
{
    MPI_Recv(buffer, 4, MPI_BYTE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double measure(int rank, int count, int length, int each)
{
    double *took = malloc((size_t)count * sizeof *took);
    if (!took)
        exit(1);
    double began = MPI_Wtime();
    for (int i = 0; i < count; i++) {
        double before = MPI_Wtime();
        if (rank == 0)
            MPI_Send(buffer, length, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
        else
            MPI_Recv(buffer, length, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (each || i == count - 1) {
            if (rank == 0)
                await();
            else
                answer();
        }
        took[i] = MPI_Wtime() - before;
    }
    double all = (MPI_Wtime() - began) / count;
    qsort(took, (size_t)count, sizeof *took, compare);
    double median = took[count / 2];
    free(took);
    return (each ? median : all) * 1e9;
}

int main(int argc, char **argv)
{
    int rank;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (argc != 3)
        MPI_Abort(MPI_COMM_WORLD, 2);
    int count = atoi(argv[2]), small = strcmp(argv[1], "round-trip") == 0, length = small ? 4 : MEGABYTE;
    memset(buffer, 1, sizeof buffer);
    measure(rank, count / 10 + 1, length, small);
    double took = measure(rank, count, length, small);
    if (rank == 0)
        printf("%.0f\n", took);
    MPI_Finalize();
    return 0;
}
