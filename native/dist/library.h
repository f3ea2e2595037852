// Libraries that are opened by name.
#pragma once

#include <dlfcn.h>

#include <string>

namespace fire {

/// The library, which is never closed, or nullptr and in `reason` what the loader says.
inline void* open_library(const std::string& file, int flags, std::string& reason) {
  void* const library = dlopen(file.c_str(), flags);
  if (library != nullptr) return library;
  const char* const message = dlerror();
  reason = message ? message : file + ": cannot be opened";
  return nullptr;
}

/// False where the library has no such function.
template <class F>
bool find_function(void* library, const char* symbol, F*& function) {
  function = reinterpret_cast<F*>(dlsym(library, symbol));
  return function != nullptr;
}

}  // namespace fire
