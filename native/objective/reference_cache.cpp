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
      const std::string name = store_ ? content_of_(id) : id;
      add(name.data(), name.size());
    }
  const uint32_t terms[] = {static_cast<uint32_t>(objective.scope()), static_cast<uint32_t>(objective.kl_scope()),
                            objective.reads(pair.has_corrupted())};
  add(terms, sizeof terms);
  if (!adapter_name_.empty()) add(adapter_name_.data(), adapter_name_.size());
  return key;
}

namespace {

constexpr std::string_view stored_kind = "reference";

Tensor rows_of(const Tensor& hidden, const PackedBatch& batch, size_t pair) {
  return hidden.slice(batch.pair_rows[pair], batch.pair_rows[pair + 1]);
}

}  // namespace

Tensor ReferenceCache::rows(const Context& context, std::span<const Pair> pairs, const Objective& objective,
                            const PackedBatch& batch, const Repack& repack) {
  Ops& ops = context.ops;
  Tensor all = ops.activation(context.arena, {batch.pair_rows.back(), context.config.text.hidden_size});
  computed_.clear();
  computed_rows_ = all;
  std::vector<Pair> missing;
  for (size_t p = 0; p < pairs.size(); ++p) {
    std::string key = key_of(pairs[p], objective);
    const Tensor rows = rows_of(all, batch, p);
    if (const auto it = rows_.find(key); it != rows_.end()) {
      ops.upload(it->second.data(), rows);
      ++hits_;
    } else if (const auto stored = find(key); stored && stored->size() == rows.bytes()) {
      ops.upload(stored->data(), rows);
      hold(std::move(key), *stored);
      ++hits_;
    } else {
      missing.push_back(pairs[p]);
      computed_.push_back({std::move(key), batch.pair_rows[p], batch.pair_rows[p + 1]});
    }
  }
  if (missing.empty()) return all;

  Arena::Scope scope(context.arena);
  const PackedBatch packed = missing.size() == pairs.size() ? PackedBatch() : repack(missing);
  const PackedBatch& part = missing.size() == pairs.size() ? batch : packed;
  if (part.input.read_rows.empty()) return all;
  const Tensor hidden = Decoder(context).forward(part.input, pass_, nullptr);
  for (size_t i = 0; i < missing.size(); ++i)
    ops.copy(rows_of(hidden, part, i), all.slice(computed_[i].begin, computed_[i].end));
  return all;
}

void ReferenceCache::hold(std::string key, std::span<const std::byte> rows) {
  const size_t cost = rows.size() + key.size();
  if (bytes_ + cost > max_bytes_) return;
  if (rows_.emplace(std::move(key), std::vector<std::byte>(rows.begin(), rows.end())).second) bytes_ += cost;
}

std::optional<std::vector<std::byte>> ReferenceCache::find(const std::string& key) const {
  return store_ ? store_->find(store_->key(stored_kind, std::as_bytes(std::span(key)))) : std::nullopt;
}

void ReferenceCache::remember(Ops& ops) {
  if (computed_.empty() || (bytes_ >= max_bytes_ && !store_)) return;
  std::vector<std::byte> host(computed_rows_.bytes());
  ops.download(computed_rows_, host.data());
  const size_t width = static_cast<size_t>(computed_rows_.cols()) * size_of(computed_rows_.dtype());
  for (Computed& c : computed_) {
    const auto rows =
        std::span(host).subspan(static_cast<size_t>(c.begin) * width, static_cast<size_t>(c.end - c.begin) * width);
    if (store_) store_->keep(store_->key(stored_kind, std::as_bytes(std::span(c.key))), rows);
    hold(std::move(c.key), rows);
  }
  computed_.clear();
}

}  // namespace fire
