#include "simt/fiber.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#if SIMT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if SIMT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace fire::simt {

unsigned char* map_memory(size_t bytes) {
  constexpr int access = PROT_READ | PROT_WRITE, kind = MAP_PRIVATE | MAP_ANONYMOUS;
#if SIMT_TSAN
  const long mapped = syscall(SYS_mmap, nullptr, bytes, access, kind, -1, 0);
  void* const memory = mapped == -1 ? MAP_FAILED : reinterpret_cast<void*>(mapped);
#else
  void* const memory = mmap(nullptr, bytes, access, kind, -1, 0);
#endif
  if (memory == MAP_FAILED) {
    std::fprintf(stderr, "simt: no memory for the emulated threads\n");
    std::abort();  // may be on the stack of such a thread, where nothing can be thrown
  }
  return static_cast<unsigned char*>(memory);
}

namespace {

constexpr size_t kStackBytes = size_t{SIMT_ASAN || SIMT_TSAN ? 256 : 64} << 10;
constexpr size_t kGuardBytes = 4096;

unsigned char* map_stack() {
  unsigned char* const memory = map_memory(kGuardBytes + kStackBytes);
  mprotect(memory, kGuardBytes, PROT_NONE);
  return memory + kGuardBytes;
}

/// The stack exists and nothing remains of the fiber's past.
SIMT_UNSEEN void clear(Fiber& fiber) {
  if (!fiber.stack) {
    fiber.stack = map_stack();
    fiber.stack_bytes = kStackBytes;
  }
#if SIMT_ASAN
  __asan_unpoison_memory_region(fiber.stack, fiber.stack_bytes);
  fiber.fake_stack = nullptr;
#endif
#if SIMT_TSAN
  if (fiber.identity) __tsan_destroy_fiber(fiber.identity);
  fiber.identity = __tsan_create_fiber(0);
#endif
}

}  // namespace

#ifdef FIRE_SIMT_UCONTEXT

void prepare_fiber(Fiber& fiber, unsigned, void (*entry)()) {
  clear(fiber);
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = fiber.stack_bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
}

SIMT_UNSEEN static void swap(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }

#else

// Saves what a called function must keep (the ABI's six registers) and takes over the other stack. The `ret` is
// predicted well because the fibers of a block mostly wait at the same line.
asm(R"(
.text
.p2align 4
.globl fire_simt_swap
.hidden fire_simt_swap
.type fire_simt_swap, @function
fire_simt_swap:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fire_simt_swap, . - fire_simt_swap
)");
extern "C" void fire_simt_swap(void** save, void* take);

SIMT_UNSEEN void prepare_fiber(Fiber& fiber, unsigned number, void (*entry)()) {
  clear(fiber);
  // Tops of stacks at different distances from the page: else all of them compete for the same few cache sets.
  void** top = reinterpret_cast<void**>(fiber.stack + fiber.stack_bytes - number % 61 * 128);
  *--top = nullptr;  // the return address of `entry`: 8 bytes off a multiple of 16, as after a call
  *--top = reinterpret_cast<void*>(entry);  // where `ret` goes
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
}

SIMT_UNSEEN static void swap(Fiber& from, Fiber& to) { fire_simt_swap(&from.stack_pointer, to.stack_pointer); }

#endif

#if SIMT_ASAN
// The stack of a host thread is learned at the first switch away from it.
static Fiber* unknown_stack = nullptr;

SIMT_UNSEEN static void arrive(void* fake_stack) {
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(fake_stack, &bottom, &bytes);
  if (!unknown_stack) return;
  unknown_stack->stack = static_cast<unsigned char*>(const_cast<void*>(bottom));
  unknown_stack->stack_bytes = bytes;
  unknown_stack = nullptr;
}
#endif

SIMT_UNSEEN void switch_fiber(Fiber& from, Fiber& to) {
#if SIMT_ASAN
  if (!from.stack) unknown_stack = &from;
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
#if SIMT_TSAN
  __tsan_switch_to_fiber(to.identity, __tsan_switch_to_fiber_no_sync);
#endif
  swap(from, to);
#if SIMT_ASAN
  arrive(from.fake_stack);
#endif
}

SIMT_UNSEEN void enter_fiber() {
#if SIMT_ASAN
  arrive(nullptr);
#endif
}

}  // namespace fire::simt
