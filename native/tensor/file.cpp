#include "tensor/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "tensor/error.h"

namespace fire {
namespace {

[[noreturn]] void fail(const std::string& action, const std::string& path, int error = errno) {
  throw Error(Code::io, "cannot " + action + " " + path + ": " + std::strerror(error))
      .with("path", path)
      .with("errno", std::to_string(error));
}

std::string kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a named pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

void require_regular(const struct stat& info, const std::string& path) {
  if (!S_ISREG(info.st_mode))
    throw Error(Code::io, path + " is not a regular file but " + kind_of(info.st_mode)).with("path", path);
}

/// Looks before it opens: opening alone may block (a named pipe) or do something (a device).
int open_regular(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) fail("open", path);
  require_regular(info, path);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail("open", path);
  return fd;
}

struct stat inspect(int fd, const std::string& path) {
  struct stat info;
  if (::fstat(fd, &info) != 0) fail("inspect", path);
  require_regular(info, path);
  return info;
}

void refuse_pointer(std::string_view start, const std::string& path) {
  if (!start.starts_with("version https://git-lfs")) return;
  throw Error(Code::checkpoint, path +
                                    " is a Git LFS pointer, not the file itself; run \"git lfs pull\" in its folder, "
                                    "or download the file again")
      .with("path", path);
}

void write_all(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), std::min<size_t>(bytes.size(), size_t{1} << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write", path);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

std::string read_file(const std::string& path, size_t max_bytes) {
  const Descriptor fd(open_regular(path));
  const size_t size = static_cast<size_t>(inspect(fd.get(), path).st_size);
  if (size > max_bytes)
    throw Error(Code::io, path + " is " + std::to_string(size) + " bytes; at most " + std::to_string(max_bytes) +
                              " are expected in such a file")
        .with("path", path);
  std::string bytes(size, '\0');
  size_t at = 0;
  while (at < size) {
    const ssize_t n = ::read(fd.get(), bytes.data() + at, size - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("read", path);
    if (n == 0) break;
    at += static_cast<size_t>(n);
  }
  bytes.resize(at);
  refuse_pointer(bytes, path);
  return bytes;
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

struct MappedFile::Version {
  off_t size;
  struct timespec time;

  explicit Version(const struct stat& info) : size(info.st_size), time(info.st_mtim) {}
  bool operator==(const Version& other) const {
    return size == other.size && time.tv_sec == other.time.tv_sec && time.tv_nsec == other.time.tv_nsec;
  }
};

MappedFile::MappedFile(const std::string& path) : path_(path), fd_(open_regular(path)) {
  version_ = std::make_unique<Version>(inspect(fd_.get(), path));
  size_ = static_cast<size_t>(version_->size);
  if (size_ == 0) return;
  char start[64];
  const ssize_t n = ::pread(fd_.get(), start, sizeof start, 0);
  if (n < 0) fail("read", path);
  refuse_pointer({start, static_cast<size_t>(n)}, path);
  void* p = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd_.get(), 0);
  if (p == MAP_FAILED) fail("map", path);
  data_ = static_cast<const std::byte*>(p);
  lost_.emplace(data_, size_);
}

MappedFile::~MappedFile() {
  lost_.reset();
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::require_unchanged() const {
  const Version now(inspect(fd_.get(), path_));
  if (!changed_ && now == *version_ && !(lost_ && lost_->any())) return;
  changed_ = true;
  const std::string how = now.size == version_->size ? "was written to"
                          : now.size < version_->size
                              ? "was cut from " + std::to_string(size_) + " to " + std::to_string(now.size) + " bytes"
                              : "grew from " + std::to_string(size_) + " to " + std::to_string(now.size) + " bytes";
  throw Error(Code::checkpoint, path_ + " " + how + " while it was in use; restore the file and start again")
      .with("path", path_);
}

AtomicFile::AtomicFile(const std::string& path) : path_(path), temporary_(path + ".tmp-" + std::to_string(::getpid())) {
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) fail("create", temporary_);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) { write_all(fd_, bytes, temporary_); }

void AtomicFile::commit(Sync sync) {
  if (sync == Sync::yes && ::fsync(fd_) != 0) fail("sync", temporary_);
  // close() reports delayed write errors.
  if (::close(std::exchange(fd_, -1)) != 0) fail("close", temporary_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename over", path_);
  temporary_.clear();
  if (sync == Sync::no) return;
  // The rename itself must survive a power cut: sync the directory. Some file systems refuse; that is not an error.
  const std::string parent = std::filesystem::path(path_).parent_path().string();
  const Descriptor dir(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (dir.get() >= 0) ::fsync(dir.get());
}

void write_file(const std::string& path, const std::vector<std::string_view>& parts) {
  AtomicFile file(path);
  for (const std::string_view part : parts) file.write(part);
  file.commit();
}

void make_directories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail("create the folder", path, error.value());
}

bool file_exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

}  // namespace fire
