/* The little of MPI that sums need, behind an interface with a fixed ABI: MPI has none, so this library is built where
 * mpicc is, and found at run time (native/dist/mpi.cpp). In C, so that nothing but libmpi stands behind it. One thread
 * at a time calls it. Functions return 0, or MPI's error code, which `fire_mpi_error` puts into words. */
#ifndef FIRE_MPI_H
#define FIRE_MPI_H

#ifdef __cplusplus
extern "C" {
#endif

/* Of this interface. */
#define FIRE_MPI_ABI 1

#define FIRE_MPI_EXPORT __attribute__((visibility("default")))

FIRE_MPI_EXPORT int fire_mpi_abi(void);
/* "Open MPI v4.1.4, ...": may be asked before the start. */
FIRE_MPI_EXPORT const char* fire_mpi_version(void);
FIRE_MPI_EXPORT const char* fire_mpi_error(int code);

/* MPI_Init_thread, once a process, whatever comes of it; waits for the processes that mpirun started. From then on the
 * end of the process, where it is a good one (nothing abandoned and, where the C library tells it, exit status 0),
 * waits for MPI_Finalize, but not for longer than some seconds. */
FIRE_MPI_EXPORT int fire_mpi_start(int* rank, int* size);

/* A communicator of all, apart from those before; begun at once, there when `fire_mpi_test` of the request says so. */
FIRE_MPI_EXPORT int fire_mpi_join(void** communicator, void** request);
/* values[count] += those of the other ranks, in place; begun at once. */
FIRE_MPI_EXPORT int fire_mpi_sum(void* communicator, float* values, int count, void** request);
/* Goes on with all that has begun. `done` is 1 when the request is done, which frees it. */
FIRE_MPI_EXPORT int fire_mpi_test(void* request, int* done);
/* Nothing is under way on it. Every rank calls it. */
FIRE_MPI_EXPORT int fire_mpi_leave(void* communicator);
/* What is under way will never be done: this process does not call MPI again, not even at its end. */
FIRE_MPI_EXPORT void fire_mpi_abandon(void);

#ifdef __cplusplus
}
#endif

#endif
