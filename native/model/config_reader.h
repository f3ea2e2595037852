// What the families share when they read a config.json: a value that the engine does not implement is refused by name,
// a value that makes no sense is named with its rule, and nothing is guessed.
#pragma once

#include <array>
#include <string>

#include "tensor/json.h"

namespace fire::config {

/// Throws ERR_FIRE_UNSUPPORTED: "<path> is <have>; this engine implements <want>".
[[noreturn]] void unsupported(const Json& value, const std::string& have, const std::string& want);

/// The key, if it is there and not null, must have this value.
void require_text(const Json& parent, const char* key, const std::string& want);
void require_flag(const Json& parent, const char* key, bool want);
void require_number(const Json& parent, const char* key, double want);
/// The key must be absent or null.
void require_unset(const Json& parent, const char* key);

/// A whole number in [1, most]. Widths stay far below what would overflow a product of three of them.
constexpr int64_t max_width = int64_t{1} << 18, max_layers = 4096, max_rows = int64_t{1} << 24;
int64_t positive(const Json& parent, const char* key, int64_t most = max_width);
int64_t positive_or(const Json& parent, const char* key, int64_t fallback);
/// A number of everyday size: eps, a mean.
float small_number(const Json& value);
std::array<float, 3> three(const Json& value);

/// Throws ERR_FIRE_CHECKPOINT "<where>: <rule>" unless `ok`.
void check(bool ok, const std::string& where, const std::string& rule);

}  // namespace fire::config
