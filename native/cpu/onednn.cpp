#include "cpu/onednn.h"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

namespace fire::cpu {
namespace {

/// The beginning of dnnl_version_t, the same in 2.x and 3.x.
struct Version {
  int major, minor, patch;
};

template <class F>
void find(void* library, const char* symbol, F*& function) {
  function = reinterpret_cast<F*>(dlsym(library, symbol));
}

/// Empty when `file` was loaded into `out`, else why not. A loaded library is never closed: its threads live on.
std::string load(const std::string& file, OneDnn& out) {
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* message = dlerror();
    return message ? message : file + ": cannot be opened";
  }
  const Version* (*version)() = nullptr;
  find(library, "dnnl_version", version);
  find(library, "dnnl_sgemm", out.sgemm);
  if (version == nullptr || out.sgemm == nullptr) return file + ": has no dnnl_version or no dnnl_sgemm";
  const Version* v = version();
  const std::string number = std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
  if (v->major != 2 && v->major != 3) return file + ": version " + number + " is not known, need 2.x or 3.x";
  find(library, "omp_set_num_threads", out.set_omp_threads);
  out.detail = "oneDNN " + number + " (" + file + ")";
  return {};
}

OneDnn look() {
  std::vector<std::string> files = {"libdnnl.so.3", "libdnnl.so.2"};
  const char* chosen = std::getenv("FIRE_ONEDNN_LIB");
  if (chosen != nullptr && *chosen != '\0') files = {chosen};
  std::string reasons;
  for (const std::string& file : files) {
    OneDnn found;
    const std::string reason = load(file, found);
    if (reason.empty()) {
      found.available = true;
      return found;
    }
    reasons += (reasons.empty() ? "" : "; ") + reason;
  }
  OneDnn none;
  none.detail = reasons;
  return none;
}

}  // namespace

void OneDnn::single_thread() const {
  thread_local bool done = false;
  if (done || set_omp_threads == nullptr) return;
  set_omp_threads(1);
  done = true;
}

const OneDnn& onednn() {
  static const OneDnn library = look();
  return library;
}

}  // namespace fire::cpu
