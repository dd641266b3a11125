/* Faults of MPI's, for libtine-mpi: what is defined here comes before the MPI library's own, in a libtine-mpi that this file is linked into. A test sets
 * them in rank 0.
 */
#include <mpi.h>

#ifdef __cplusplus
#define SHARED extern "C"
#else
#define SHARED
#endif

/* To look for anybody's messages fails. */
SHARED volatile int tine_fault_any;
/* To look for this rank's messages fails. */
SHARED volatile int tine_fault_of;
/* A message of this rank's has no length. */
SHARED volatile int tine_fault_count;

int MPI_Improbe(int source, int tag, MPI_Comm comm, int *flag, MPI_Message *message, MPI_Status *status)
{
    if (source == MPI_ANY_SOURCE ? tine_fault_any : source > 0 && source == tine_fault_of)
        return MPI_ERR_OTHER;
    return PMPI_Improbe(source, tag, comm, flag, message, status);
}

int MPI_Get_count(const MPI_Status *status, MPI_Datatype datatype, int *count)
{
    int rc = PMPI_Get_count(status, datatype, count);
    if (status->MPI_SOURCE > 0 && status->MPI_SOURCE == tine_fault_count)
        *count = MPI_UNDEFINED;
    return rc;
}
