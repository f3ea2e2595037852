#include "tensor/content_store.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "tensor/error.h"
#include "tensor/file.h"

namespace fire {
namespace {

namespace fs = std::filesystem;

/// A temporary file that is older has no writer any more.
constexpr auto longest_write = std::chrono::hours(1);

/// Bytes of the files below. Writers that were killed leave temporary ones, which go.
size_t tidy(const std::string& folder) {
  size_t bytes = 0;
  std::error_code error;
  const auto old = fs::file_time_type::clock::now() - longest_write;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;  // others may delete meanwhile
    if (!it->is_regular_file(gone)) continue;
    if (it->path().filename().string().find(".tmp-") != std::string::npos && it->last_write_time(gone) < old && !gone)
      fs::remove(it->path(), gone);
    else if (const auto size = it->file_size(gone); !gone)
      bytes += size;
  }
  return bytes;
}

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

/// Behind the bytes in each file: a file without it was cut, damaged, or belongs to another key.
Sha256::Digest seal(const ContentStore::Key& key, std::span<const std::byte> bytes) {
  Sha256 sha;
  sha.add(std::as_bytes(std::span(key)));
  sha.add(bytes);
  return sha.digest();
}

}  // namespace

ContentStore::ContentStore(const ContentStoreSpec& spec, const std::string& scope)
    : folder_(spec.folder), scope_(spec.key + '\0' + scope), max_bytes_(spec.max_bytes) {
  make_directories(folder_);
  bytes_ = tidy(folder_);
}

ContentStore::Key ContentStore::key(std::string_view kind, std::span<const std::byte> content) const {
  Sha256 sha;
  for (const std::string_view part : {std::string_view(scope_), kind}) {
    sha.add(bytes_of(part));
    sha.add(bytes_of(std::string_view("\0", 1)));
  }
  sha.add(content);
  return sha.digest();
}

std::string ContentStore::path(const Key& key) const {
  const std::string name = hex(key);
  return folder_ + "/" + name.substr(0, 2) + "/" + name;
}

std::optional<std::vector<std::byte>> ContentStore::find(const Key& key) const {
  const std::string file = path(key);
  if (!file_exists(file)) return std::nullopt;
  std::string read;
  try {
    read = read_file(file, max_bytes_);
  } catch (const Error&) {
    return std::nullopt;
  }
  constexpr size_t seal_bytes = sizeof(Sha256::Digest);
  if (read.size() < seal_bytes) return std::nullopt;
  const std::span all = bytes_of(read);
  const std::span bytes = all.first(all.size() - seal_bytes);
  const Sha256::Digest expected = seal(key, bytes);
  if (std::memcmp(expected.data(), all.last(seal_bytes).data(), seal_bytes) != 0) return std::nullopt;
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

void ContentStore::keep(const Key& key, std::span<const std::byte> bytes) {
  const Sha256::Digest end = seal(key, bytes);
  const size_t size = bytes.size() + end.size();
  if (bytes_ + size > max_bytes_) return;
  try {
    const std::string file = path(key);
    make_directories(fs::path(file).parent_path().string());
    AtomicFile out(file);
    out.write({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    out.write({reinterpret_cast<const char*>(end.data()), end.size()});
    out.commit(AtomicFile::Sync::no);  // the seal tells a file that a power cut left in pieces
    bytes_ += size;
  } catch (const Error&) {
    // A full disk, or the folder was deleted.
  }
}

}  // namespace fire
