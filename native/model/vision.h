// The vision side of a backbone behind two interfaces: what its config says (VisionSpec) and the frozen tower with its
// projector (VisionTower). The decoder sees nothing of either but ImageFeatures.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/claims.h"
#include "model/device_tensor.h"
#include "model/image.h"
#include "model/positions.h"

namespace fire {

/// Called with the name of an intermediate and its value while it lives; for verification.
using Observer = std::function<void(const std::string& name, const Tensor& value)>;

inline void observe(const Observer* observer, const std::string& name, const Tensor& value) {
  if (observer) (*observer)(name, value);
}

/// What the decoder sees of one image: `merged` [tokens, hidden] goes over the placeholders of the embedding,
/// deepstack[j] is added to the same rows after decoder layer j. One buffer owned by this object.
class ImageFeatures {
 public:
  ImageFeatures(Ops& ops, TokenGrid grid, int64_t hidden, size_t levels);

  TokenGrid grid;
  Tensor merged;
  std::vector<Tensor> deepstack;

  int64_t tokens() const { return grid.tokens(); }
  /// All of it, [1 + levels, tokens, hidden].
  const Tensor& all() const { return storage_.view(); }

 private:
  DeviceTensor storage_;
};

/// Frozen: forward only.
class VisionTower {
 public:
  virtual ~VisionTower() = default;
  /// One image; images never attend to each other. `patches` are those of the spec that loaded the tower.
  virtual std::unique_ptr<ImageFeatures> encode(const Patches& patches, Arena& arena,
                                                const Observer* observer = nullptr) const = 0;
};

class VisionSpec {
 public:
  virtual ~VisionSpec() = default;
  /// What the tower is shown of an image. Throws ERR_FIRE_UNSUPPORTED for one that the reference refuses.
  virtual View view(const Rgb& image) const = 0;
  /// 8-bit RGB to the rows that the tower eats, exactly as the reference image processor does it on its Pillow path.
  /// Throws ERR_FIRE_UNSUPPORTED for an image that the reference refuses.
  virtual Patches preprocess(const Rgb& image) const = 0;
  /// Placeholder tokens that an image of this size takes in a prompt, as rows and columns.
  virtual TokenGrid token_grid(Size image) const = 0;
  /// An image that takes so many tokens, without its pixels: for plans.
  virtual Patches blank(int64_t tokens) const = 0;
  /// Floats of one patch, and patches behind one placeholder token.
  virtual int64_t patch_length() const = 0;
  virtual int64_t patches_per_token() const { return 1; }
  /// How many decoder layers get features added.
  virtual size_t deepstack_levels() const { return 0; }
  /// Claims the tower's tensors. The tower keeps what it needs of this object and `ops`.
  virtual std::unique_ptr<VisionTower> load(Claims& claims, Ops& ops) const = 0;
};

}  // namespace fire
