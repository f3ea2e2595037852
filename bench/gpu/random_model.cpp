#include "random_model.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>

#include "tensor/file.h"

namespace fire::bench {
namespace {

constexpr int64_t patch = 16, merge = 2, positions = 2304, patch_length = 3 * 2 * patch * patch;
/// Windows into the noise begin at so many places, so that no two neighbours are equal.
constexpr size_t places = 4096;

std::string text_of(int64_t value) { return std::to_string(value); }

/// After which blocks features are taken for the first decoder layers: evenly apart, as published.
std::string deepstack_indexes(const Shapes& s) {
  const int64_t levels = s.vision_mergers - 1;
  std::string list;
  for (int64_t i = 1; i <= levels; ++i) list += (i > 1 ? ", " : "") + text_of(i * s.vision_blocks / (levels + 1) - 1);
  return "[" + list + "]";
}

std::string rotary_sections(const Shapes& s) {
  const int64_t half = s.head_dim / 2, side = 5 * half / 16;
  return "[" + text_of(half - 2 * side) + ", " + text_of(side) + ", " + text_of(side) + "]";
}

std::string config_json(const Shapes& s) {
  return R"({"architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "image_token_id": )" +
         text_of(s.vocab - 5) + R"(, "video_token_id": )" + text_of(s.vocab - 4) + R"(, "vision_start_token_id": )" +
         text_of(s.vocab - 3) + R"(, "vision_end_token_id": )" + text_of(s.vocab - 2) +
         R"(, "tie_word_embeddings": true, "text_config": {"model_type": "qwen3_vl_text", "attention_bias": false, )"
         R"("attention_dropout": 0.0, "hidden_act": "silu", "rms_norm_eps": 1e-06, "rope_theta": 5000000, )"
         R"("max_position_embeddings": 262144, "tie_word_embeddings": true, "eos_token_id": )" +
         text_of(s.vocab - 1) + R"(, "head_dim": )" + text_of(s.head_dim) + R"(, "hidden_size": )" + text_of(s.hidden) +
         R"(, "intermediate_size": )" + text_of(s.intermediate) + R"(, "num_attention_heads": )" + text_of(s.heads) +
         R"(, "num_hidden_layers": )" + text_of(s.layers) + R"(, "num_key_value_heads": )" + text_of(s.kv_heads) +
         R"(, "vocab_size": )" + text_of(s.vocab) +
         R"(, "rope_scaling": {"mrope_interleaved": true, "rope_type": "default", "mrope_section": )" +
         rotary_sections(s) +
         R"(}}, "vision_config": {"model_type": "qwen3_vl", "hidden_act": "gelu_pytorch_tanh", "in_channels": 3, )"
         R"("temporal_patch_size": 2, "patch_size": )" +
         text_of(patch) + R"(, "spatial_merge_size": )" + text_of(merge) + R"(, "deepstack_visual_indexes": )" +
         deepstack_indexes(s) + R"(, "depth": )" + text_of(s.vision_blocks) + R"(, "hidden_size": )" +
         text_of(s.vision_hidden) + R"(, "intermediate_size": )" + text_of(s.vision_intermediate) +
         R"(, "num_heads": )" + text_of(s.vision_heads) + R"(, "num_position_embeddings": )" + text_of(positions) +
         R"(, "out_hidden_size": )" + text_of(s.hidden) + "}}\n";
}

/// With a limit that makes every larger square image one of `image_tokens`.
std::string preprocessor_json(const Shapes& s) {
  const int64_t side = static_cast<int64_t>(std::sqrt(static_cast<double>(s.image_tokens))), step = patch * merge;
  if (side * side != s.image_tokens)
    throw Error(Code::invalid_argument, s.model + ": " + text_of(s.image_tokens) + " image tokens are no square");
  const int64_t limit = (side * step + step / 2) * (side * step + step / 2);
  return R"({"image_processor_type": "Qwen2VLImageProcessorFast", "patch_size": 16, "temporal_patch_size": 2, )"
         R"("merge_size": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], )"
         R"("size": {"shortest_edge": 4096, "longest_edge": )" +
         text_of(limit) + "}}\n";
}

std::string make_folder() {
  std::string path = (std::filesystem::temp_directory_path() / "fire-bench-XXXXXX").string();
  if (mkdtemp(path.data()) == nullptr) throw Error(Code::io, "cannot make " + path);
  return path;
}

}  // namespace

RandomModel::RandomModel(const Shapes& s) : folder_(make_folder()) {
  if (!s.head_norms)
    throw Error(Code::invalid_argument, "the step is timed on a Qwen3-VL, which " + s.model + " is not");
  const int64_t most =
      std::max({s.vocab * s.hidden, s.intermediate * s.hidden, s.q_width() * s.hidden, patch_length * s.vision_hidden,
                16 * s.vision_hidden * s.vision_hidden, 4 * s.vision_hidden * s.hidden,
                s.vision_intermediate * s.vision_hidden, positions * s.vision_hidden});
  noise_.resize(static_cast<size_t>(most) + places);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  // A few million draws; the rest repeats them, which no product can see and 400 million would take long.
  const size_t drawn = std::min(noise_.size(), (size_t{1} << 22) - 1);
  for (size_t i = 0; i < drawn; ++i) noise_[i] = to_bf16(normal(random));
  for (size_t i = drawn; i < noise_.size(); i += drawn)
    std::memcpy(&noise_[i], noise_.data(), std::min(drawn, noise_.size() - i) * sizeof(bf16));
  ones_.assign(static_cast<size_t>(std::max({s.hidden, s.intermediate, 4 * s.vision_hidden})), to_bf16(1));
  text(s);
  vision(s);
  write_file(folder_ + "/config.json", {config_json(s)});
  write_file(folder_ + "/preprocessor_config.json", {preprocessor_json(s)});
}

RandomModel::~RandomModel() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void RandomModel::matrix(const std::string& name, std::initializer_list<int64_t> dims) {
  tensors_.push_back({name, Tensor(noise_.data() + 64 * tensors_.size() % places, DType::bf16, dims)});
}

void RandomModel::norm(const std::string& name, int64_t width) {
  tensors_.push_back({name, Tensor(ones_.data(), DType::bf16, {width})});
}

void RandomModel::linear(const std::string& name, int64_t out, int64_t in) {
  matrix(name + ".weight", {out, in});
  matrix(name + ".bias", {out});
}

void RandomModel::layer_norm(const std::string& name, int64_t width) {
  norm(name + ".weight", width);
  matrix(name + ".bias", {width});
}

void RandomModel::text(const Shapes& s) {
  const std::string root = "model.language_model.";
  const int64_t kv = s.kv_heads * s.head_dim;
  matrix(root + "embed_tokens.weight", {s.vocab, s.hidden});
  norm(root + "norm.weight", s.hidden);
  for (int64_t i = 0; i < s.layers; ++i) {
    const std::string layer = root + "layers." + text_of(i) + ".";
    norm(layer + "input_layernorm.weight", s.hidden);
    norm(layer + "post_attention_layernorm.weight", s.hidden);
    norm(layer + "self_attn.q_norm.weight", s.head_dim);
    norm(layer + "self_attn.k_norm.weight", s.head_dim);
    matrix(layer + "self_attn.q_proj.weight", {s.q_width(), s.hidden});
    matrix(layer + "self_attn.k_proj.weight", {kv, s.hidden});
    matrix(layer + "self_attn.v_proj.weight", {kv, s.hidden});
    matrix(layer + "self_attn.o_proj.weight", {s.hidden, s.q_width()});
    matrix(layer + "mlp.gate_proj.weight", {s.intermediate, s.hidden});
    matrix(layer + "mlp.up_proj.weight", {s.intermediate, s.hidden});
    matrix(layer + "mlp.down_proj.weight", {s.hidden, s.intermediate});
  }
}

void RandomModel::vision(const Shapes& s) {
  const std::string root = "model.visual.";
  const int64_t width = s.vision_hidden;
  matrix(root + "patch_embed.proj.weight", {width, 3, 2, patch, patch});
  matrix(root + "patch_embed.proj.bias", {width});
  matrix(root + "pos_embed.weight", {positions, width});
  for (int64_t i = 0; i < s.vision_blocks; ++i) {
    const std::string block = root + "blocks." + text_of(i) + ".";
    layer_norm(block + "norm1", width);
    linear(block + "attn.qkv", 3 * width, width);
    linear(block + "attn.proj", width, width);
    layer_norm(block + "norm2", width);
    linear(block + "mlp.linear_fc1", s.vision_intermediate, width);
    linear(block + "mlp.linear_fc2", width, s.vision_intermediate);
  }
  merger(root + "merger.", width, s);
  for (int64_t i = 0; i + 1 < s.vision_mergers; ++i)
    merger(root + "deepstack_merger_list." + text_of(i) + ".", 4 * width, s);
}

void RandomModel::merger(const std::string& name, int64_t norm_width, const Shapes& s) {
  const int64_t wide = merge * merge * s.vision_hidden;
  layer_norm(name + "norm", norm_width);
  linear(name + "linear_fc1", wide, wide);
  linear(name + "linear_fc2", s.hidden, wide);
}

}  // namespace fire::bench
