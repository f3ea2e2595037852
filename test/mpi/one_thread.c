/* Before libmpi in the order of symbols: an MPI that was built without threads. */
#include <mpi.h>

int MPI_Init_thread(int* count, char*** arguments, int required, int* provided) {
  const int code = PMPI_Init_thread(count, arguments, required, provided);
  *provided = MPI_THREAD_FUNNELED;
  return code;
}
