#define _GNU_SOURCE /* on_exit */
#include "fire_mpi.h"

#include <mpi.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* How long the end of a process waits for the other ranks. */
enum { finalize_seconds = 10 };

/* Beside MPI's own codes, which are not negative. */
enum { too_few_threads = -1, no_thread = -2 };

static int abandoned;

/* MPI wants to be finalized by the thread that initialized it, and neither the thread of an engine nor the one that ends
 * the process need be that: so it has a thread of its own. What it shares: */
static struct {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  enum phase { nothing, starting, running, ending, ended } phase;
  int code; /* of the start */
} life = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

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
  if (code == too_few_threads) return "this MPI was built without threads (MPI_THREAD_SERIALIZED)";
  if (code == no_thread) return "the system gives no thread";
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return "unknown error";
  return text;
}

static void enter(enum phase phase) {
  pthread_mutex_lock(&life.mutex);
  life.phase = phase;
  pthread_cond_broadcast(&life.changed);
  pthread_mutex_unlock(&life.mutex);
}

static void* live(void* unused) {
  int provided = 0;
  (void)unused;
  life.code = MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided);
  if (life.code != MPI_SUCCESS) {
    enter(ended);
    return NULL;
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (provided < MPI_THREAD_SERIALIZED) life.code = too_few_threads;
  enter(running);
  pthread_mutex_lock(&life.mutex);
  while (life.phase == running) pthread_cond_wait(&life.changed, &life.mutex);
  pthread_mutex_unlock(&life.mutex);
  MPI_Finalize();
  enter(ended);
  return NULL;
}

/* Without it mpirun takes the end of this process for a failure. */
static void finalize(void) {
  struct timespec until;
  if (abandoned) return;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += finalize_seconds;
  enter(ending);
  pthread_mutex_lock(&life.mutex);
  while (life.phase != ended && pthread_cond_timedwait(&life.changed, &life.mutex, &until) == 0) continue;
  pthread_mutex_unlock(&life.mutex);
}

/* A rank that ends badly does not wait for the others, where the C library tells (glibc). */
#if FIRE_HAS_ON_EXIT
static void at_exit(int status, void* unused) {
  (void)unused;
  if (status == 0) finalize();
}
static int register_exit(void) { return on_exit(at_exit, NULL); }
#else
static int register_exit(void) { return atexit(finalize); }
#endif

/* Once, whatever comes of it: MPI cannot be initialized again. */
static int start(void) {
  pthread_t thread;
  if (life.phase != nothing) return life.code;
  life.phase = starting;
  if (pthread_create(&thread, NULL, live, NULL) != 0) {
    life.phase = nothing;
    return no_thread;
  }
  pthread_detach(thread);
  pthread_mutex_lock(&life.mutex);
  while (life.phase == starting) pthread_cond_wait(&life.changed, &life.mutex);
  pthread_mutex_unlock(&life.mutex);
  if (life.phase == running) register_exit();
  return life.code;
}

int fire_mpi_start(int* rank, int* size) {
  const int code = start();
  if (code != MPI_SUCCESS) return code;
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
