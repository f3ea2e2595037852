// Files: whole reads, read-only maps, and writes that are either complete or absent.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/lost_pages.h"

namespace fire {

/// The file's bytes. Throws ERR_FIRE_IO, also when it is larger than `max_bytes` or no regular file (a named pipe would
/// never end), and ERR_FIRE_CHECKPOINT when it is a Git LFS pointer.
std::string read_file(const std::string& path, size_t max_bytes);

/// Closes what `open` gave.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

/// A file mapped read-only for the life of the object; pages are loaded on first touch and shared with other processes.
/// Throws as read_file does.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }

  /// Throws ERR_FIRE_IO when the file was written to or cut short since it was mapped: what was read since then may be
  /// of neither version. A file that another took the place of stays as it was.
  void require_unchanged() const;

 private:
  struct Version;

  std::string path_;
  Descriptor fd_;
  std::unique_ptr<const Version> version_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::optional<LostPages> lost_;
  /// For good: copies made of what was read meanwhile (packed weights) stay wrong when the file becomes what it was.
  mutable bool changed_ = false;
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
  /// Without `Sync::yes` a power cut may leave an empty or partial file.
  enum class Sync : bool { no, yes };
  void commit(Sync sync = Sync::yes);

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
