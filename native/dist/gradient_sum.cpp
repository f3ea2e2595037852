#include "dist/gradient_sum.h"

#include "dist/environment.h"

namespace fire {

std::vector<Bucket> cut_buckets(std::span<const int64_t> layer_begin, int64_t size, size_t bytes) {
  std::vector<Bucket> buckets;
  int64_t end = size;
  for (size_t i = layer_begin.size(); i-- > 0 && end > 0;) {
    const int64_t begin = i == 0 ? 0 : layer_begin[i];
    if (begin == end || (begin > 0 && static_cast<size_t>(end - begin) * sizeof(float) < bytes)) continue;
    buckets.push_back({static_cast<int64_t>(i), begin, end});
    end = begin;
  }
  return buckets;
}

size_t bucket_bytes() { return static_cast<size_t>(number_from_environment("FIRE_BUCKET_BYTES", 1, 1e12, 64 << 20)); }

void GradientSum::layer_done(int64_t layer) {
  while (begun_ < buckets_.size() && buckets_[begun_].layer >= layer) begin(begun_);
}

double GradientSum::finish(Cancel cancel) {
  while (begun_ < buckets_.size()) begin(begun_);
  const double waited = group_->join(cancel);
  begun_ = 0;
  return waited;
}

void GradientSum::begin(size_t bucket) {
  end_->check();
  begun_ = bucket + 1;  // before: what fails may be under way
  group_->sum(gradient_.slice(buckets_[bucket].begin, buckets_[bucket].end));
}

void GradientSum::require_whole() const {
  end_->check();
  require_settled();
}

void GradientSum::require_settled() const {
  if (begun_ > 0 && !end_->asked())
    throw Error(Code::invalid_argument,
                "the gradient of this step is being added up over the ranks (`last`); only `update` can follow");
}

bool GradientSum::give_up(const std::string& reason) noexcept {
  if (begun_ == 0) return false;
  end_->ask("this rank could not finish its step: " + reason);
  leave();
  return true;
}

}  // namespace fire
