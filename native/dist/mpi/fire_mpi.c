#define _GNU_SOURCE /* on_exit */
#include "fire_mpi.h"

#include <mpi.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* How long the end of a process waits for the other ranks. */
enum { finalize_seconds = 10 };

static int started, abandoned, exit_status;

int fire_mpi_abi(void) { return FIRE_MPI_ABI; }

const char* fire_mpi_version(void) {
  static char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "MPI";
  return text;
}

const char* fire_mpi_error(int code) {
  static char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return "unknown error";
  return text;
}

static void* leave_anyway(void* nothing) {
  (void)nothing;
  sleep(finalize_seconds);
  _exit(exit_status);
}

/* Without it mpirun takes the end of this process for a failure. With it a rank that ended badly would be waited for.
 */
static void at_exit(int status, void* nothing) {
  (void)nothing;
  pthread_t watchdog;
  if (abandoned || status != 0) return;
  exit_status = status;
  if (pthread_create(&watchdog, NULL, leave_anyway, NULL) != 0) return;
  MPI_Finalize();
}

int fire_mpi_start(int* rank, int* size) {
  if (!started) {
    int provided = 0;
    const int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided);
    if (code != MPI_SUCCESS) return code;
    if (provided < MPI_THREAD_SERIALIZED) return MPI_ERR_OTHER;
    started = 1;
    on_exit(at_exit, NULL);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  }
  MPI_Comm_rank(MPI_COMM_WORLD, rank);
  return MPI_Comm_size(MPI_COMM_WORLD, size);
}

int fire_mpi_join(void** communicator, void** request) {
  MPI_Comm* made = malloc(sizeof *made);
  MPI_Request* waiting = malloc(sizeof *waiting);
  *communicator = made;
  *request = waiting;
  if (made == NULL || waiting == NULL) return MPI_ERR_NO_MEM;
  return MPI_Comm_idup(MPI_COMM_WORLD, made, waiting);
}

int fire_mpi_sum(void* communicator, float* values, int count, void** request) {
  MPI_Request* waiting = malloc(sizeof *waiting);
  *request = waiting;
  if (waiting == NULL) return MPI_ERR_NO_MEM;
  return MPI_Iallreduce(MPI_IN_PLACE, values, count, MPI_FLOAT, MPI_SUM, *(MPI_Comm*)communicator, waiting);
}

int fire_mpi_test(void* request, int* done) {
  const int code = MPI_Test(request, done, MPI_STATUS_IGNORE);
  if (code == MPI_SUCCESS && *done) free(request);
  return code;
}

int fire_mpi_leave(void* communicator) {
  const int code = MPI_Comm_free(communicator);
  free(communicator);
  return code;
}

void fire_mpi_abandon(void) { abandoned = 1; }
