// Maps of files that may be cut short while they are mapped: touching a page the file no longer has is SIGBUS, which
// would end the process. A handler puts zeros there and remembers it, so the reader goes on (on whatever thread it is,
// inside whatever library) and is told afterwards. The other ways are worse: jumping out of a kernel leaves its locks
// and memory behind, and a copy takes the memory of the whole checkpoint.
#pragma once

#include <cstddef>

namespace fire {

class LostPages {
 public:
  /// Watches a map until the object goes.
  LostPages(const std::byte* data, size_t size);
  ~LostPages();
  LostPages(const LostPages&) = delete;
  LostPages& operator=(const LostPages&) = delete;
  /// Whether zeros stand for a part of the file.
  bool any() const;

 private:
  struct Slot* slot_;
};

}  // namespace fire
