#include "tensor/lost_pages.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>

namespace fire {

/// A watched range. Slots are used again and never freed: the handler may be reading any of them.
struct Slot {
  std::atomic<uintptr_t> begin{0}, end{0};  // begin 0: free
  std::atomic<bool> lost{false};
  Slot* next = nullptr;
};

namespace {

std::atomic<Slot*> slots{nullptr};
std::mutex registration;
uintptr_t page_size;
struct sigaction before;  // whoever handled the signal when the first map was made

/// Runs inside a signal: system calls and atomics only.
void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  const uintptr_t at = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Slot* slot = slots.load(std::memory_order_acquire); slot; slot = slot->next) {
    const uintptr_t begin = slot->begin.load(std::memory_order_acquire), end = slot->end.load();
    if (begin == 0 || at < begin || at >= end) continue;
    // Both of one range, not of two that used the slot one after the other.
    if (slot->begin.load(std::memory_order_acquire) != begin) continue;
    // Before another thread can read zeros and find nothing lost.
    slot->lost.store(true);
    // What follows in the file is gone too, or will be an error anyway.
    const uintptr_t page = at / page_size * page_size;
    void* zeros =
        ::mmap(reinterpret_cast<void*>(page), end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (zeros == MAP_FAILED) break;
    errno = saved;
    return;
  }
  errno = saved;
  if (before.sa_flags & SA_SIGINFO) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  } else {
    ::sigaction(signal, &before, nullptr);  // the access comes again and meets what there was without us
  }
}

void install() {
  page_size = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  struct sigaction ours {};
  ours.sa_sigaction = on_bus_error;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigaction(SIGBUS, &ours, &before);
}

}  // namespace

LostPages::LostPages(const std::byte* data, size_t size) {
  static std::once_flag once;
  std::call_once(once, install);
  std::lock_guard lock(registration);
  slot_ = slots.load();
  while (slot_ && slot_->begin.load() != 0) slot_ = slot_->next;
  if (!slot_) {
    slot_ = new Slot;
    slot_->next = slots.load();
    slots.store(slot_, std::memory_order_release);
  }
  slot_->lost.store(false);
  slot_->end.store(reinterpret_cast<uintptr_t>(data) + size);
  slot_->begin.store(reinterpret_cast<uintptr_t>(data), std::memory_order_release);
}

LostPages::~LostPages() {
  std::lock_guard lock(registration);
  slot_->begin.store(0, std::memory_order_release);
}

bool LostPages::any() const { return slot_->lost.load(); }

}  // namespace fire
