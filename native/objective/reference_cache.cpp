#include "objective/reference_cache.h"

namespace fire {

/// Everything that decides which rows are read and what they hold: tokens, masks, images, the objective's scopes and
/// inputs, and in a store the reference's adapter. The bytes themselves, not a hash of them: two pairs must never be
/// taken for each other.
std::string ReferenceCache::key_of(const Pair& pair, const Objective& objective) const {
  std::string key;
  auto add = [&key](const void* data, size_t bytes) {
    key.append(reinterpret_cast<const char*>(&bytes), sizeof bytes);
    key.append(static_cast<const char*>(data), bytes);
  };
  for (const auto* ids : {&pair.prompt, &pair.chosen, &pair.rejected}) add(ids->data(), ids->size() * sizeof(int32_t));
  for (const auto* mask : {&pair.chosen_mask, &pair.rejected_mask}) add(mask->data(), mask->size());
  for (const auto* images : {&pair.images, &pair.corrupted_images})
    for (const std::string& id : *images) {
      const std::string name = content_of_ ? content_of_(id) : id;
      add(name.data(), name.size());
    }
  const uint32_t terms[] = {static_cast<uint32_t>(objective.scope()), static_cast<uint32_t>(objective.kl_scope()),
                            objective.reads(pair.has_corrupted())};
  add(terms, sizeof terms);
  if (!adapter_name_.empty()) add(adapter_name_.data(), adapter_name_.size());
  return key;
}

namespace {

constexpr std::string_view stored_kind = "reference rows";

/// Some rows of a batch, each once, though several pairs read it.
class RowList {
 public:
  explicit RowList(std::vector<bool>& taken) : taken_(taken) {}

  /// False when the row is there already.
  bool add(int32_t row) {
    if (taken_[static_cast<size_t>(row)]) return false;
    taken_[static_cast<size_t>(row)] = true;
    rows_.push_back(row);
    return true;
  }
  const std::vector<int32_t>& rows() const { return rows_; }

 private:
  std::vector<bool>& taken_;
  std::vector<int32_t> rows_;
};

}  // namespace

Tensor ReferenceCache::rows(const Context& context, std::span<const Pair> pairs, const Objective& objective,
                            const PackedBatch& batch, const Repack& repack) {
  Ops& ops = context.ops;
  Arena& arena = context.arena;
  const Decoder decoder(context);
  const int64_t count = static_cast<int64_t>(batch.input.read_rows.size()), width = context.config.text.hidden_size;
  const size_t row_bytes = static_cast<size_t>(width) * size_of(ops.activation_type());
  computed_.clear();
  if (count == 0) return {};

  std::vector<bool> taken(static_cast<size_t>(count));
  RowList known(taken), computed(taken);
  std::vector<std::byte> known_bytes;
  std::vector<Pair> missing;
  for (size_t p = 0; p < pairs.size(); ++p) {
    std::string key = key_of(pairs[p], objective);
    const std::vector<int32_t>& rows = batch.pair_rows[p];
    const auto bytes = find(key, rows.size() * row_bytes);
    if (!bytes) {
      missing.push_back(pairs[p]);
      computed_.push_back({std::move(key), rows});
      continue;
    }
    ++hits_;
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto row = std::span(*bytes).subspan(i * row_bytes, row_bytes);
      if (known.add(rows[i])) known_bytes.insert(known_bytes.end(), row.begin(), row.end());
    }
  }
  if (known.rows().empty()) return computed_rows_ = decoder.forward(batch.input, pass_, nullptr);

  const Tensor all = computed_rows_ = ops.activation(arena, {count, width});
  Arena::Scope scope(arena);
  const auto rows_for = [&](const RowList& list) {
    return ops.activation(arena, {static_cast<int64_t>(list.rows().size()), width});
  };
  const Tensor uploaded = rows_for(known);
  ops.upload(known_bytes.data(), uploaded);
  ops.scatter_rows(uploaded, ops.upload_i32(arena, known.rows()), all);

  const PackedBatch part = repack(missing);
  std::vector<int32_t> from;  // where `part` has the rows of `computed`
  for (size_t i = 0; i < missing.size(); ++i)
    for (size_t j = 0; j < computed_[i].rows.size(); ++j)
      if (computed.add(computed_[i].rows[j])) from.push_back(part.pair_rows[i][j]);
  if (from.empty()) return all;
  const Tensor hidden = decoder.forward(part.input, pass_, nullptr), some = rows_for(computed);
  ops.gather_rows(hidden, ops.upload_i32(arena, from), some);
  ops.scatter_rows(some, ops.upload_i32(arena, computed.rows()), all);
  return all;
}

std::optional<std::vector<std::byte>> ReferenceCache::find(const std::string& key, size_t bytes) {
  if (const auto it = rows_.find(key); it != rows_.end() && it->second.size() == bytes) return it->second;
  auto stored = store_ ? store_->find(store_->key(stored_kind, std::as_bytes(std::span(key)))) : std::nullopt;
  if (!stored || stored->size() != bytes) return std::nullopt;
  hold(key, *stored);
  return stored;
}

void ReferenceCache::hold(std::string key, std::span<const std::byte> rows) {
  const size_t cost = rows.size() + key.size();
  if (bytes_ + cost > max_bytes_) return;
  if (rows_.emplace(std::move(key), std::vector<std::byte>(rows.begin(), rows.end())).second) bytes_ += cost;
}

void ReferenceCache::fetch(Ops& ops) {
  if (bytes_ >= max_bytes_ && !store_) computed_.clear();
  if (computed_.empty()) return;
  fetched_.resize(computed_rows_.bytes());
  ops.download(computed_rows_, fetched_.data());
}

void ReferenceCache::remember() {
  const size_t row_bytes = static_cast<size_t>(computed_rows_.cols()) * size_of(computed_rows_.dtype());
  for (Computed& c : computed_) {
    std::vector<std::byte> rows;
    for (const int32_t row : c.rows) {
      const auto bytes = std::span(fetched_).subspan(static_cast<size_t>(row) * row_bytes, row_bytes);
      rows.insert(rows.end(), bytes.begin(), bytes.end());
    }
    if (store_) store_->keep(store_->key(stored_kind, std::as_bytes(std::span(c.key))), rows);
    hold(std::move(c.key), rows);
  }
  computed_.clear();
}

}  // namespace fire
