#include <cstdlib>
#include <vector>

#include "dist/library.h"
#include "dist/nccl.h"

namespace fire {
namespace {

/// 2.14 is the first of CUDA 11.8 and PyTorch 2; the prototypes are those of NCCL 2.
constexpr int least_version = 21400, next_major = 30000;

/// "2.21.5" of 22105; before 2.9 a version had two digits less.
std::string version_text(int v) {
  const int major = v >= 10000 ? v / 10000 : v / 1000, minor = v >= 10000 ? v / 100 % 100 : v / 100 % 10;
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(v % 100);
}

/// Empty when `file` was loaded into `out`, else why not.
std::string load(const std::string& file, NcclLibrary& out) {
  std::string reason;
  void* const library = open_library(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE, reason);
  if (library == nullptr) return reason;
  const bool complete = find_function(library, "ncclGetVersion", out.get_version) &&
                        find_function(library, "ncclGetUniqueId", out.get_unique_id) &&
                        find_function(library, "ncclCommInitRank", out.comm_init_rank) &&
                        find_function(library, "ncclAllReduce", out.all_reduce) &&
                        find_function(library, "ncclCommGetAsyncError", out.comm_get_async_error) &&
                        find_function(library, "ncclCommAbort", out.comm_abort) &&
                        find_function(library, "ncclCommDestroy", out.comm_destroy) &&
                        find_function(library, "ncclGetErrorString", out.get_error_string);
  if (!complete) return file + ": is not NCCL, or lacks some of its functions";
  find_function(library, "ncclGetLastError", out.get_last_error);
  int number = 0;
  if (out.get_version(&number) != NcclLibrary::success) return file + ": does not say which version it is";
  if (number < least_version || number >= next_major)
    return file + ": is NCCL " + version_text(number) + ", need " + version_text(least_version) +
           " or a later 2.x; FIRE_NCCL_LIBRARY names another file";
  out.version = version_text(number) + " (" + file + ")";
  return {};
}

NcclLibrary look() {
  std::vector<std::string> files = {"libnccl.so.2", "libnccl.so"};
  const char* const chosen = std::getenv("FIRE_NCCL_LIBRARY");
  if (chosen != nullptr && *chosen != '\0') files = {chosen};
  std::string reasons;
  for (const std::string& file : files) {
    NcclLibrary found;
    const std::string reason = load(file, found);
    if (reason.empty()) return found;
    reasons += (reasons.empty() ? "" : "; ") + reason;
  }
  NcclLibrary none;
  none.missing = reasons;
  return none;
}

}  // namespace

const NcclLibrary& nccl() {
  static const NcclLibrary library = look();
  return library;
}

}  // namespace fire
