// One whole FiRe-MPO step on a random model of the true shapes: vision tower, reference, policy, loss, backward,
// clipping, AdamW. Weights are noise, which costs what real ones cost; nothing is cached between steps but what
// `--cached` says.
//
//   bench_step [--shape qwen3-vl-4b|tiny] [--device cuda] [--pairs 8] [--micro-batch 8] [--steps 10] [--image 512]
//              [--cached] [--checkpointing] [--folder DIR]
//
// Prints one line of JSON. The checkpoint (8.9 GB for 4B) is written to --folder once and used again.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>

#include "cuda/runtime.h"
#include "engine/engine.h"
#include "tensor/file.h"

using namespace fire;

namespace {

struct Options {
  std::string shape = "tiny", device = "cuda", folder = "bench-model";
  int64_t pairs = 8, micro_batch = 8, steps = 10, image = 512;
  bool cached = false, checkpointing = false;
};

Options parse(int argc, char** argv) {
  Options o;
  const std::map<std::string, std::string*> texts{
      {"--shape", &o.shape}, {"--device", &o.device}, {"--folder", &o.folder}};
  const std::map<std::string, int64_t*> numbers{
      {"--pairs", &o.pairs}, {"--micro-batch", &o.micro_batch}, {"--steps", &o.steps}, {"--image", &o.image}};
  const std::map<std::string, bool*> flags{{"--cached", &o.cached}, {"--checkpointing", &o.checkpointing}};
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (const auto flag = flags.find(name); flag != flags.end()) {
      *flag->second = true;
      continue;
    }
    if (++i == argc) throw Error(Code::invalid_argument, name + " needs a value");
    if (const auto text = texts.find(name); text != texts.end()) {
      *text->second = argv[i];
    } else if (const auto number = numbers.find(name); number != numbers.end()) {
      *number->second = std::strtoll(argv[i], nullptr, 10);
      if (*number->second <= 0) throw Error(Code::invalid_argument, name + " must be a positive number");
    } else {
      throw Error(Code::invalid_argument, "unknown option " + name);
    }
  }
  return o;
}

struct Shape {
  int64_t hidden, layers, heads, kv_heads, head_dim, mlp, vocab;
  int64_t vision_hidden, vision_depth, vision_heads, vision_mlp, positions;
  int64_t rank;
  std::string sections, deepstack;
};

const Shape& shape_named(const std::string& name) {
  static const std::map<std::string, Shape> shapes{
      {"qwen3-vl-4b",
       {2560, 36, 32, 8, 128, 9728, 151936, 1024, 24, 16, 4096, 2304, 128, "[24, 20, 20]", "[5, 11, 17]"}},
      {"tiny", {64, 2, 4, 2, 16, 128, 512, 32, 2, 2, 64, 64, 8, "[4, 2, 2]", "[0, 1]"}}};
  const auto it = shapes.find(name);
  if (it == shapes.end()) throw Error(Code::invalid_argument, "--shape is qwen3-vl-4b or tiny, not " + name);
  return it->second;
}

std::string config_json(const Shape& s) {
  const auto n = [](int64_t value) { return std::to_string(value); };
  return "{\"architectures\": [\"Qwen3VLForConditionalGeneration\"], \"model_type\": \"qwen3_vl\", "
         "\"image_token_id\": " +
         n(s.vocab - 5) + ", \"video_token_id\": " + n(s.vocab - 4) + ", \"vision_start_token_id\": " + n(s.vocab - 3) +
         ", \"vision_end_token_id\": " + n(s.vocab - 2) +
         ", \"tie_word_embeddings\": true, \"text_config\": {\"model_type\": \"qwen3_vl_text\", \"attention_bias\": "
         "false, "
         "\"attention_dropout\": 0.0, \"eos_token_id\": " +
         n(s.vocab - 1) + ", \"hidden_act\": \"silu\", \"head_dim\": " + n(s.head_dim) +
         ", \"hidden_size\": " + n(s.hidden) + ", \"intermediate_size\": " + n(s.mlp) +
         ", \"num_attention_heads\": " + n(s.heads) + ", \"num_hidden_layers\": " + n(s.layers) +
         ", \"num_key_value_heads\": " + n(s.kv_heads) + ", \"vocab_size\": " + n(s.vocab) +
         ", \"rms_norm_eps\": 1e-06, \"max_position_embeddings\": 262144, \"rope_scaling\": {\"mrope_interleaved\": "
         "true, "
         "\"mrope_section\": " +
         s.sections +
         ", \"rope_type\": \"default\"}, \"rope_theta\": 5000000, \"tie_word_embeddings\": true}, \"vision_config\": "
         "{\"model_type\": \"qwen3_vl\", \"hidden_act\": \"gelu_pytorch_tanh\", \"in_channels\": 3, "
         "\"deepstack_visual_indexes\": " +
         s.deepstack + ", \"depth\": " + n(s.vision_depth) + ", \"hidden_size\": " + n(s.vision_hidden) +
         ", \"intermediate_size\": " + n(s.vision_mlp) + ", \"num_heads\": " + n(s.vision_heads) +
         ", \"num_position_embeddings\": " + n(s.positions) + ", \"out_hidden_size\": " + n(s.hidden) +
         ", \"patch_size\": 16, \"spatial_merge_size\": 2, \"temporal_patch_size\": 2}}\n";
}

/// A bf16 checkpoint. Every matrix is a window into one buffer of noise, so making 9 GB takes no 9 GB.
class RandomCheckpoint {
 public:
  explicit RandomCheckpoint(const Shape& s)
      : noise_(static_cast<size_t>(std::max({s.vocab * s.hidden, s.mlp * s.hidden, s.heads * s.head_dim * s.hidden,
                                             patch_length * s.vision_hidden, 16 * s.vision_hidden * s.vision_hidden,
                                             s.vision_mlp * s.vision_hidden, s.positions * s.vision_hidden})) +
               4096) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 0.02f);
    for (bf16& x : noise_) x = to_bf16(normal(random));
    ones_.assign(static_cast<size_t>(std::max({s.hidden, s.mlp, 4 * s.vision_hidden})), to_bf16(1));
    text(s);
    vision(s);
  }
  const std::vector<NamedTensor>& tensors() const { return tensors_; }

 private:
  static constexpr int64_t patch_length = 3 * 2 * 16 * 16;

  void matrix(const std::string& name, std::initializer_list<int64_t> dims) {
    // Another window for each, so that no two are equal.
    tensors_.push_back({name, Tensor(noise_.data() + tensors_.size() % 4096, DType::bf16, dims)});
  }
  void norm(const std::string& name, int64_t width) {
    tensors_.push_back({name, Tensor(ones_.data(), DType::bf16, {width})});
  }
  void linear(const std::string& name, int64_t out, int64_t in) {
    matrix(name + ".weight", {out, in});
    matrix(name + ".bias", {out});
  }
  void layer_norm(const std::string& name, int64_t width) {
    norm(name + ".weight", width);
    matrix(name + ".bias", {width});
  }
  void text(const Shape& s) {
    const std::string root = "model.language_model.";
    matrix(root + "embed_tokens.weight", {s.vocab, s.hidden});
    norm(root + "norm.weight", s.hidden);
    for (int64_t i = 0; i < s.layers; ++i) {
      const std::string layer = root + "layers." + std::to_string(i) + ".";
      norm(layer + "input_layernorm.weight", s.hidden);
      norm(layer + "post_attention_layernorm.weight", s.hidden);
      norm(layer + "self_attn.q_norm.weight", s.head_dim);
      norm(layer + "self_attn.k_norm.weight", s.head_dim);
      matrix(layer + "self_attn.q_proj.weight", {s.heads * s.head_dim, s.hidden});
      matrix(layer + "self_attn.k_proj.weight", {s.kv_heads * s.head_dim, s.hidden});
      matrix(layer + "self_attn.v_proj.weight", {s.kv_heads * s.head_dim, s.hidden});
      matrix(layer + "self_attn.o_proj.weight", {s.hidden, s.heads * s.head_dim});
      matrix(layer + "mlp.gate_proj.weight", {s.mlp, s.hidden});
      matrix(layer + "mlp.up_proj.weight", {s.mlp, s.hidden});
      matrix(layer + "mlp.down_proj.weight", {s.hidden, s.mlp});
    }
  }
  void vision(const Shape& s) {
    const std::string root = "model.visual.";
    const int64_t width = s.vision_hidden;
    matrix(root + "patch_embed.proj.weight", {width, 3, 2, 16, 16});
    matrix(root + "patch_embed.proj.bias", {width});
    matrix(root + "pos_embed.weight", {s.positions, width});
    for (int64_t i = 0; i < s.vision_depth; ++i) {
      const std::string block = root + "blocks." + std::to_string(i) + ".";
      layer_norm(block + "norm1", width);
      linear(block + "attn.qkv", 3 * width, width);
      linear(block + "attn.proj", width, width);
      layer_norm(block + "norm2", width);
      linear(block + "mlp.linear_fc1", s.vision_mlp, width);
      linear(block + "mlp.linear_fc2", width, s.vision_mlp);
    }
    merger(root + "merger.", width, s);
    const int64_t levels = 1 + std::count(s.deepstack.begin(), s.deepstack.end(), ',');
    for (int64_t j = 0; j < levels; ++j)
      merger(root + "deepstack_merger_list." + std::to_string(j) + ".", 4 * width, s);
  }
  void merger(const std::string& name, int64_t norm_width, const Shape& s) {
    layer_norm(name + "norm", norm_width);
    linear(name + "linear_fc1", 4 * s.vision_hidden, 4 * s.vision_hidden);
    linear(name + "linear_fc2", s.hidden, 4 * s.vision_hidden);
  }

  std::vector<bf16> noise_, ones_;
  std::vector<NamedTensor> tensors_;
};

void write_model(const Options& o) {
  if (std::filesystem::exists(o.folder + "/config.json")) return;
  const Shape& shape = shape_named(o.shape);
  make_directories(o.folder);
  write_safetensors(o.folder + "/model.safetensors", RandomCheckpoint(shape).tensors(), {{"format", "pt"}});
  write_file(
      o.folder + "/preprocessor_config.json",
      {"{\"size\": {\"longest_edge\": 16777216, \"shortest_edge\": 4096}, \"patch_size\": 16, "
       "\"temporal_patch_size\": 2, \"merge_size\": 2, \"image_mean\": [0.5, 0.5, 0.5], \"image_std\": [0.5, 0.5, "
       "0.5], \"image_processor_type\": \"Qwen2VLImageProcessorFast\"}\n"});
  write_file(o.folder + "/config.json", {config_json(shape)});
}

/// A closed question about one image and its corrupted twin: 30 tokens of question, answers of 20 tokens that differ in
/// two phrases of three.
Pair make_pair(int64_t index, const ModelConfig& config, int64_t image_tokens) {
  Pair p;
  p.id = "p" + std::to_string(index);
  p.images = {"v" + std::to_string(index)};
  p.corrupted_images = {"c" + std::to_string(index)};
  const auto token = [&](int64_t i) {
    return static_cast<int32_t>((31 * index + 7 * i + 14) % (config.text.vocab_size - 16));
  };
  p.prompt.push_back(token(-1));
  p.prompt.insert(p.prompt.end(), static_cast<size_t>(image_tokens), static_cast<int32_t>(config.image_token_id));
  p.prompt.push_back(token(-2));
  for (int64_t i = 0; i < 30; ++i) p.prompt.push_back(token(i));
  for (int64_t i = 0; i < 20; ++i) {
    const bool phrase = i % 8 >= 4 && i % 8 < 7;
    p.chosen.push_back(token(100 + i));
    p.rejected.push_back(phrase ? token(200 + i) : p.chosen.back());
    p.chosen_mask.push_back(phrase);
    p.rejected_mask.push_back(phrase);
  }
  return p;
}

struct Step {
  double seconds, loss, norm;
  int64_t tokens, rows;
};

Step run_step(Engine& engine, const std::vector<Pair>& pairs, const Options& o, const std::vector<uint8_t>& pixels) {
  const auto start = std::chrono::steady_clock::now();
  const auto encode = [&](const std::string& id) {
    if (!o.cached) engine.release_image(id);
    engine.encode_image(id, {o.image, o.image, pixels.data()}, nullptr);
  };
  for (const Pair& p : pairs) {
    encode(p.images[0]);
    encode(p.corrupted_images[0]);
  }
  const Objective objective = Objective::make({"fire", 0.1, 0.01, 0.1, 0.5, KlReduction::sum});
  const StepOptions options{static_cast<double>(pairs.size()), Layout::packed};
  Step step{};
  for (size_t begin = 0; begin < pairs.size(); begin += static_cast<size_t>(o.micro_batch)) {
    const size_t end = std::min(begin + static_cast<size_t>(o.micro_batch), pairs.size());
    const StepStats stats = engine.accumulate(
        {pairs.begin() + static_cast<std::ptrdiff_t>(begin), pairs.begin() + static_cast<std::ptrdiff_t>(end)},
        objective, options, nullptr);
    for (const PairStats& p : stats.pairs) step.loss += p.loss.loss / options.normalizer;
    step.tokens += stats.tokens;
    step.rows += stats.rows;
  }
  step.norm = engine.update({1e-6, 0.9, 0.999, 1e-8, 0, 1});  // waits for the device
  step.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return step;
}

void run(const Options& o) {
  write_model(o);
  DeviceSpec device{DeviceKind::cpu, 0, ComputeType::bf16, 0, GemmBackend::automatic, false, PackWeights::off, 0};
  set_device(device, o.device);
  const int64_t rank = shape_named(o.shape).rank;
  const LoraSpec lora{rank, 2.0 * static_cast<double>(rank), 0, false, {all_projs.begin(), all_projs.end()}, 0};
  const EngineSpec spec{o.folder, device, lora, "", "", o.checkpointing, o.cached ? size_t{1} << 30 : 0, std::nullopt};
  Engine engine(spec);
  std::vector<uint8_t> pixels(static_cast<size_t>(o.image * o.image * 3));
  std::mt19937 random(2);
  for (uint8_t& x : pixels) x = static_cast<uint8_t>(random());
  std::vector<Pair> pairs;
  for (int64_t i = 0; i < o.pairs; ++i)
    pairs.push_back(make_pair(i, engine.config(), engine.image_tokens(o.image, o.image)));

  run_step(engine, pairs, o, pixels);  // warms up: memory, caches
  std::vector<double> seconds;
  Step last{};
  for (int64_t i = 0; i < o.steps; ++i) {
    last = run_step(engine, pairs, o, pixels);
    seconds.push_back(last.seconds);
  }
  std::sort(seconds.begin(), seconds.end());
  double used = 0;
  if (spec.device.kind == DeviceKind::cuda) {
    const cuda::MemoryInfo memory = cuda::memory_info();
    used = static_cast<double>(memory.total_bytes - memory.free_bytes);  // the arena keeps its largest size
  }
  std::printf(
      "{\"bench\": \"step\", \"shape\": \"%s\", \"device\": \"%s\", \"pairs\": %lld, \"micro_batch\": %lld, \"image\": "
      "%lld, "
      "\"cached\": %s, \"checkpointing\": %s, \"tokens\": %lld, \"rows\": %lld, \"steps\": %lld, \"median_s\": %.6f, "
      "\"min_s\": %.6f, \"max_s\": %.6f, \"memory_bytes\": %.0f, \"loss\": %.9g, \"grad_norm\": %.9g}\n",
      o.shape.c_str(), engine.info().device.c_str(), static_cast<long long>(o.pairs),
      static_cast<long long>(o.micro_batch), static_cast<long long>(o.image), o.cached ? "true" : "false",
      o.checkpointing ? "true" : "false", static_cast<long long>(last.tokens), static_cast<long long>(last.rows),
      static_cast<long long>(o.steps), seconds[seconds.size() / 2], seconds.front(), seconds.back(), used, last.loss,
      last.norm);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(parse(argc, argv));
    return 0;
  } catch (const Error& e) {
    std::fprintf(stderr, "%s: %s\n", to_string(e.code()), e.what());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
  }
  return 1;
}
