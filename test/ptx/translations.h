// Kernels as nvcc compiled them, in the place of their sources (test/simt/README.md).
#pragma once

#include <cstddef>

namespace fire::ptx {

/// A kernel's body, or a function's. `parameters` are the addresses of the values that the launch was given, in order.
using Body = void (*)(const void* const* parameters, void* const* results);

struct Translation {
  const char* name;  // mangled
  Body body;
};

/// Makes a table known, when the program starts.
struct Translations {
  template <size_t N>
  explicit Translations(const Translation (&table)[N]) {
    add(table, N);
  }
  static void add(const Translation* table, size_t count);
};

}  // namespace fire::ptx
