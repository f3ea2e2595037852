#include "tensor/exchange.h"

#include <fcntl.h>
#include <stdio.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cerrno>
#include <cstring>

#include "tensor/error.h"

namespace fire {
namespace {

int exchange_names(const char* first, const char* second) {
#if defined(__linux__) && defined(SYS_renameat2)
  // The call itself: libc has a name for it only since glibc 2.28, and its flag stands in a header of the kernel.
  constexpr unsigned rename_exchange = 2;
  return static_cast<int>(::syscall(SYS_renameat2, AT_FDCWD, first, AT_FDCWD, second, rename_exchange));
#elif defined(__APPLE__)
  return ::renamex_np(first, second, RENAME_SWAP);
#else
  (void)first, (void)second;
  errno = ENOSYS;
  return -1;
#endif
}

}  // namespace

bool exchange(const std::string& first, const std::string& second) {
  if (exchange_names(first.c_str(), second.c_str()) == 0) return true;
  if (errno == ENOSYS || errno == EINVAL || errno == ENOTSUP) return false;
  const int error = errno;
  throw Error(Code::io, "cannot exchange " + first + " and " + second + ": " + std::strerror(error))
      .with("path", second)
      .with("errno", std::to_string(error));
}

}  // namespace fire
