// The vision side of a backbone behind two interfaces: what its config says (VisionSpec) and the frozen tower with its
// projector (VisionTower). The decoder sees nothing of either but ImageFeatures.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/claims.h"
#include "model/feature_pool.h"
#include "model/patch_rows.h"
#include "model/positions.h"

namespace fire {

/// Called with the name of an intermediate and its value while it lives; for verification.
using Observer = std::function<void(const std::string& name, const Tensor& value)>;

inline void observe(const Observer* observer, const std::string& name, const Tensor& value) {
  if (observer) (*observer)(name, value);
}

/// What the decoder sees of one image: `merged` [tokens, hidden] goes over the placeholders of the embedding,
/// deepstack[j] is added to the same rows after decoder layer j. In `pool`, which must outlive this object and may
/// move it when another image comes; its values are undefined at first.
class ImageFeatures {
 public:
  ImageFeatures(FeaturePool& pool, DType type, TokenGrid grid, int64_t hidden, size_t levels);
  ~ImageFeatures();
  ImageFeatures(const ImageFeatures&) = delete;
  ImageFeatures& operator=(const ImageFeatures&) = delete;

  TokenGrid grid;
  /// What dropout knows the image by: equal for equal pixels, in every process; 0 = nobody said.
  uint64_t content = 0;
  Tensor merged;
  std::vector<Tensor> deepstack;

  int64_t tokens() const { return grid.tokens(); }
  /// All of it, [1 + levels, tokens, hidden].
  const Tensor& all() const { return all_; }

 private:
  void place(void* data);

  FeaturePool& pool_;
  Tensor all_;
};

inline std::vector<int64_t> patch_counts(std::span<const Patches* const> images) {
  std::vector<int64_t> counts;
  for (const Patches* image : images) counts.push_back(image->count());
  return counts;
}

/// Cuts images, by their patches and in their order, into batches of at most `most` patches; an image that has more is
/// a batch by itself. Returns where each batch ends.
std::vector<size_t> tower_batches(std::span<const int64_t> patches, int64_t most);

/// The rows of `all` [tokens of all, ..], one image behind the other, to `part` of the features of each.
template <class Part>
void share_rows(Ops& ops, const Tensor& all, std::span<ImageFeatures* const> features, Part part) {
  int64_t begin = 0;
  for (ImageFeatures* each : features) {
    ops.copy(all.slice(begin, begin + each->tokens()), part(*each));
    begin += each->tokens();
  }
}

/// Frozen: forward only.
class VisionTower {
 public:
  virtual ~VisionTower() = default;
  /// Fills features[i] from images[i], which are of the spec that loaded the tower. Images never attend to each other,
  /// and each gets the bits that it gets alone. An observer sees one image.
  virtual void encode(std::span<const Patches* const> images, std::span<ImageFeatures* const> features, Arena& arena,
                      const Observer* observer = nullptr) const = 0;
};

class VisionSpec {
 public:
  virtual ~VisionSpec() = default;
  /// What the tower is shown of an image, exactly as the reference image processor makes it on its Pillow path. Throws
  /// ERR_FIRE_UNSUPPORTED for an image that the reference refuses.
  virtual View view(const Rgb& image, const Spread& spread) const = 0;
  /// Names all that `view` and the grid of its patches depend on beside the image. Two specs with one name make the
  /// same of every image.
  virtual std::string preprocessing() const = 0;
  /// How what is shown becomes what is computed with.
  virtual PatchRows rows() const = 0;
  Patches preprocess(const Rgb& image, const Spread& spread) const {
    return patches_of(view(image, spread), rows().side());
  }
  /// Placeholder tokens that an image of this size takes in a prompt, as rows and columns.
  virtual TokenGrid token_grid(Size image) const = 0;
  /// An image that takes so many tokens, without its pixels: for plans.
  virtual Patches blank(int64_t tokens) const = 0;
  /// Patches along each side of a placeholder token.
  virtual int64_t merge() const { return 1; }
  TokenGrid grid_of(const Patches& patches) const { return {patches.grid_h / merge(), patches.grid_w / merge()}; }
  /// How many decoder layers get features added.
  virtual size_t deepstack_levels() const { return 0; }
  /// Claims the tower's tensors. The tower keeps what it needs of this object and `ops`.
  virtual std::unique_ptr<VisionTower> load(Claims& claims, Ops& ops) const = 0;
};

}  // namespace fire
