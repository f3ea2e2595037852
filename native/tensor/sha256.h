// SHA-256 (FIPS 180-4): names for content.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace fire {

class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;

  void add(std::span<const std::byte> bytes);
  /// Of all that was added. The object is used up.
  Digest digest();

 private:
  void add_blocks(const uint8_t* blocks, size_t count);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> block_{};
  size_t used_ = 0;  // bytes of block_
  uint64_t bytes_ = 0;
};

/// 64 lower-case digits.
std::string hex(const Sha256::Digest& digest);

}  // namespace fire
