#include "tensor/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

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

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

size_t size_of_open_file(int fd, const std::string& path) {
  struct stat info;
  if (::fstat(fd, &info) != 0) fail("inspect", path);
  if (!S_ISREG(info.st_mode)) throw Error(Code::io, path + " is not a regular file").with("path", path);
  return static_cast<size_t>(info.st_size);
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
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) fail("open", path);
  const size_t size = size_of_open_file(fd.get(), path);
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
  return bytes;
}

MappedFile::MappedFile(const std::string& path) {
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) fail("open", path);
  size_ = size_of_open_file(fd.get(), path);
  if (size_ == 0) return;
  void* p = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (p == MAP_FAILED) fail("map", path);
  data_ = static_cast<const std::byte*>(p);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
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

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) fail("sync", temporary_);
  // close() reports delayed write errors.
  if (::close(std::exchange(fd_, -1)) != 0) fail("close", temporary_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename over", path_);
  temporary_.clear();
  // The rename itself must survive a power cut: sync the directory. Some file systems refuse; that is not an error.
  const std::string parent = std::filesystem::path(path_).parent_path().string();
  Descriptor dir(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
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
