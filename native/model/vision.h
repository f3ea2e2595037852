// The frozen vision tower of Qwen3-VL with its mergers: forward only (facts: Qwen3VLVisionModel).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/image.h"
#include "model/positions.h"
#include "model/weights.h"

namespace fire {

/// Called with the name of an intermediate and its value while it lives; for verification.
using Observer = std::function<void(const std::string& name, const Tensor& value)>;

/// What the decoder sees of one image: `merged` [tokens, hidden] goes over the placeholders of the embedding,
/// deepstack[j] is added to the same rows after decoder layer j. One buffer owned by this object.
class ImageFeatures {
 public:
  ImageFeatures(Ops& ops, int64_t grid_h, int64_t grid_w, int64_t tokens, int64_t hidden, size_t levels);
  ~ImageFeatures();
  ImageFeatures(const ImageFeatures&) = delete;
  ImageFeatures& operator=(const ImageFeatures&) = delete;

  int64_t grid_h, grid_w;  // in patches
  int64_t tokens;
  Tensor merged;
  std::vector<Tensor> deepstack;

 private:
  Ops& ops_;
  Tensor storage_;
};

class VisionTower {
 public:
  VisionTower(Ops& ops, const VisionConfig& config, const VisionWeights& weights)
      : ops_(ops), config_(config), weights_(weights) {}

  /// One image; images never attend to each other.
  std::unique_ptr<ImageFeatures> encode(const Patches& patches, Arena& arena, const Observer* observer = nullptr) const;

 private:
  Tensor embed_patches(const Patches& patches, Arena& arena, const Observer* observer) const;
  /// In place on x.
  void block(const VisionBlockWeights& w, Tensor x, const RotaryTable& rotary, const PreparedPlan& plan,
             Arena& arena) const;
  void merge(const MergerWeights& w, Tensor x, bool norm_after_shuffle, Tensor out, Arena& arena) const;

  Ops& ops_;
  const VisionConfig& config_;
  const VisionWeights& weights_;
};

}  // namespace fire
