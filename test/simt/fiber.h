// Stacks that take turns on one host thread. The sanitizers are told about every switch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simt/machine.h"

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#else
#define SIMT_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__)
#define SIMT_TSAN 1
#else
#define SIMT_TSAN 0
#endif
#if !defined(__x86_64__) && !defined(FIRE_SIMT_UCONTEXT)
#define FIRE_SIMT_UCONTEXT
#endif
#ifdef FIRE_SIMT_UCONTEXT
#include <ucontext.h>
#endif

namespace fire::simt {

/// All zeros at the start.
struct Fiber {
  unsigned char* stack;  // lowest address
  size_t stack_bytes;
  void* fake_stack;  // ASan's
  void* identity;    // TSan's
#ifdef FIRE_SIMT_UCONTEXT
  ucontext_t context;
#else
  void* stack_pointer;
#endif
};

/// New pages of zeros. Under TSan without its knowledge: it would take the mapping for a write by whoever is running.
unsigned char* map_memory(size_t bytes);

/// Gives the fiber a stack (once) and makes it start at `entry`, whatever it was doing before. `entry` never returns.
void prepare_fiber(Fiber& fiber, unsigned number, void (*entry)());

/// Suspends `from`, which is running, and goes on with `to`.
void switch_fiber(Fiber& from, Fiber& to);

/// The first thing that a fiber's entry does.
void enter_fiber();

}  // namespace fire::simt
