// Files: whole reads, read-only maps, and writes that are either complete or absent.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace fire {

/// The file's bytes. Throws ERR_FIRE_IO, also when it is larger than `max_bytes`.
std::string read_file(const std::string& path, size_t max_bytes);

/// A file mapped read-only for the life of the object; pages are loaded on first touch and shared with other processes.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// A file in the making: written to a temporary name beside `path`, synced and renamed over it by `commit`. Without
/// that (a full disk, an exception) the temporary file goes away and what stood at `path` stays. Throws ERR_FIRE_IO.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::string_view bytes);
  void commit();

 private:
  std::string path_, temporary_;
  int fd_ = -1;
};

/// Writes the parts one after another, atomically.
void write_file(const std::string& path, const std::vector<std::string_view>& parts);

/// Makes the folder and its parents where they are missing. Throws ERR_FIRE_IO.
void make_directories(const std::string& path);

bool file_exists(const std::string& path);

}  // namespace fire
