// The CLIP vision transformer with LLaVA's projector behind it: patches, a class token and learned positions, pre-norm
// blocks with full attention, the class token dropped, two linears with a GELU between them to the decoder's width.
// Source: transformers, models/clip and models/llava.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "model/vision.h"
#include "tensor/json.h"

namespace fire {

/// CLIPImageProcessor, with LLaVA's padding in front of it where the checkpoint asks for that.
struct ClipImage {
  bool pad_to_square;
  int64_t shortest_edge, crop;
  std::array<float, 3> mean, std;

  /// From a parsed preprocessor_config.json; `image_size` is the vision config's.
  static ClipImage read(const Json& file, int64_t image_size, bool pad_to_square);
};

struct ClipConfig {
  int64_t hidden_size, depth, heads, intermediate_size, image_size, patch_size;
  float layer_norm_eps;
  /// Blocks that run: the features are the input of the block after them.
  int64_t blocks_used;
  int64_t out_hidden_size;
  ClipImage image;

  int64_t side() const { return image_size / patch_size; }  // in patches, which are tokens
  PatchRows rows() const { return {patch_size, 1, 1, image.mean, image.std}; }

  /// The tower's part of a config.json. `select_layer` counts hidden states as transformers does (0 is the input of the
  /// first block, negative from the end). `image` is left for the caller.
  static ClipConfig read(const Json& vision, const Json& select_layer, int64_t out_hidden_size);
};

/// Where the tensors are: the first prefix that the checkpoint has.
struct ClipNames {
  std::vector<std::string> towers;
  std::vector<std::array<std::string, 2>> projectors;  // first and second linear
};

std::shared_ptr<const VisionSpec> make_clip_spec(const ClipConfig& config, const ClipNames& names);

}  // namespace fire
