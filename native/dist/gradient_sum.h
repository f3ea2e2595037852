// The gradient of one optimizer step, added up over the ranks of a group while backward still runs.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "dist/process_group.h"

namespace fire {

/// A part of the flat gradient that is summed as a whole: the elements [begin, end), of the layers from `layer` on up
/// to the bucket before.
struct Bucket {
  int64_t layer, begin, end;
};

/// Cuts a gradient into buckets of whole layers, from its end: in the order in which backward has them.
/// `layer_begin[i]` is the first element of layer i. Each bucket but the last has at least `bytes`.
std::vector<Bucket> cut_buckets(std::span<const int64_t> layer_begin, int64_t size, size_t bytes);

/// What a bucket has at least: FIRE_BUCKET_BYTES, or 64 MiB. Large enough that a sum runs at the speed of the wire,
/// small enough that there are several to hide behind backward. The same on every rank.
size_t bucket_bytes();

class GradientSum {
 public:
  /// `gradient` [parameters] f32 must not go before this object. `end` is that of `group`.
  GradientSum(std::unique_ptr<ProcessGroup> group, std::shared_ptr<GroupEnd> end, Tensor gradient,
              std::vector<Bucket> buckets)
      : group_(std::move(group)), end_(std::move(end)), gradient_(gradient), buckets_(std::move(buckets)) {}

  const ProcessGroup& group() const { return *group_; }
  /// Backward is done with this layer and those above: begins to sum the buckets that lie there.
  void layer_done(int64_t layer);
  /// Begins what has not begun, waits for all, and is ready for the next step. Returns the seconds of `join`.
  double finish(Cancel cancel = {});
  /// Throws where nothing may be added to the gradient: the group has ended, or sums of this step have begun.
  void require_whole() const;
  /// Throws where the gradient may not be cleared: sums of this step have begun, and the group has not ended.
  void require_settled() const;
  /// This rank cannot finish the step. If sums have begun the others could not either: then the group ends, and true
  /// says that the gradient is worth nothing.
  bool give_up(const std::string& reason) noexcept;
  /// See ProcessGroup: where it is false, the gradient must never be freed.
  bool leave() noexcept { return group_->leave(); }

 private:
  void begin(size_t bucket);

  std::unique_ptr<ProcessGroup> group_;
  std::shared_ptr<GroupEnd> end_;
  Tensor gradient_;
  std::vector<Bucket> buckets_;
  size_t begun_ = 0;  // buckets of this step
};

}  // namespace fire
