// A Qwen3-VL of any size with random weights, which cost what real ones cost. They are in memory only, and not even
// there as many: a checkpoint of 9 GB is windows into 1 GB of noise.
#pragma once

#include "bench.h"
#include "tensor/safetensors.h"

namespace fire::bench {

class RandomModel {
 public:
  /// Throws ERR_FIRE_INVALID_ARGUMENT for another family. Its images have `shapes.image_tokens` tokens wherever they
  /// have as many pixels or more, and are square.
  explicit RandomModel(const Shapes& shapes);
  ~RandomModel();
  RandomModel(const RandomModel&) = delete;
  RandomModel& operator=(const RandomModel&) = delete;

  /// config.json and preprocessor_config.json, as long as this lives.
  const std::string& folder() const { return folder_; }
  /// Views of what this holds.
  SafeTensors weights() const { return SafeTensors::of(tensors_, folder_); }

 private:
  void matrix(const std::string& name, std::initializer_list<int64_t> dims);
  void norm(const std::string& name, int64_t width);
  void linear(const std::string& name, int64_t out, int64_t in);
  void layer_norm(const std::string& name, int64_t width);
  void text(const Shapes& s);
  void vision(const Shapes& s);
  void merger(const std::string& name, int64_t norm_width, const Shapes& s);

  std::string folder_;
  std::vector<bf16> noise_, ones_;
  std::vector<NamedTensor> tensors_;
};

}  // namespace fire::bench
