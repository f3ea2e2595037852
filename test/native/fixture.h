// What the tests share: folders, errors, random numbers, host tensors, and a tiny model with its adapter.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "engine/engine.h"
#include "tensor/file.h"

namespace fire::test {

/// Of a folder in test/golden; an absolute path stands for itself.
inline std::string golden_directory(const std::string& name) {
  return name.starts_with("/") ? name : std::string(FIRE_TEST_DIR) + "/golden/" + name;
}

// Settings that a test changes where it cares.
inline DeviceSpec cpu_spec(int threads = 1) {
  return {DeviceKind::cpu, 0, ComputeType::f32, threads, GemmBackend::automatic, false, PackWeights::off, 0};
}
/// A golden folder's model with the adapter in it.
inline EngineSpec engine_spec(const std::string& golden) {
  const std::string model = golden_directory(golden);
  return {.model = model,
          .device = cpu_spec(),
          .lora = std::nullopt,
          .adapter = model + "/adapter",
          .reference_adapter = "",
          .checkpointing = false,
          .reference_cache_bytes = size_t{256} << 20,
          .feature_store = std::nullopt};
}
inline LoraSpec lora_spec(int64_t rank) {
  return {rank, 2.0 * static_cast<double>(rank), 0.05f, false, {all_projs.begin(), all_projs.end()}, 0};
}
inline StepSettings step_settings(double normalizer = 1) { return {normalizer, false, 0, logits_budget, {}}; }
constexpr StepOptions single_step{1, Layout::packed};
constexpr AdamWSpec adamw_spec{1e-6, 0.9, 0.999, 1e-8, 0, 0};

/// An empty folder that disappears with the object.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "fire-test-XXXXXX").string();
    if (!mkdtemp(name.data())) throw Error(Code::io, "cannot create a folder like " + name);
    path_ = name;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  size_t entries() const { return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), {})); }

 private:
  std::string path_;
};

/// The body must throw a fire::Error with this code, and its message must hold every one of `words`.
inline void check_error(const char* file, int line, Code code, std::initializer_list<std::string> words,
                        const std::function<void()>& body) {
  check::count_check();
  try {
    body();
  } catch (const Error& e) {
    if (e.code() != code)
      check::fail(file, line,
                  std::string("expected ") + to_string(code) + ", got " + to_string(e.code()) + ": " + e.what());
    for (const std::string& word : words)
      if (std::string(e.what()).find(word) == std::string::npos)
        check::fail(file, line, "the message lacks \"" + word + "\": " + e.what());
    return;
  }
  check::fail(file, line, "nothing thrown");
}

#define CHECK_ERROR(code, words, ...) \
  ::fire::test::check_error(__FILE__, __LINE__, code, FIRE_WORDS words, [&] { __VA_ARGS__; })
/// CHECK_ERROR(Code::io, ("a word", "another"), statement).
#define FIRE_WORDS(...) \
  { __VA_ARGS__ }

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  float uniform(float low = -1, float high = 1) { return std::uniform_real_distribution<float>(low, high)(engine_); }
  /// In [low, high].
  int64_t integer(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine_); }
  bool chance(double p) { return std::bernoulli_distribution(p)(engine_); }
  std::vector<float> floats(int64_t n, float low = -1, float high = 1) {
    std::vector<float> v(static_cast<size_t>(n));
    for (float& x : v) x = uniform(low, high);
    return v;
  }
  std::vector<int32_t> ids(int64_t n, int32_t low, int32_t high) {
    std::vector<int32_t> v(static_cast<size_t>(n));
    for (int32_t& x : v) x = static_cast<int32_t>(integer(low, high));
    return v;
  }

 private:
  std::mt19937 engine_;
};

inline Tensor view(std::vector<float>& v, std::initializer_list<int64_t> dims) {
  return Tensor(v.data(), DType::f32, dims);
}
inline Tensor view(std::vector<float>& v) { return view(v, {static_cast<int64_t>(v.size())}); }
inline Tensor view(std::vector<int32_t>& v) { return Tensor(v.data(), DType::i32, {static_cast<int64_t>(v.size())}); }
inline Tensor view(std::vector<bf16>& v, std::initializer_list<int64_t> dims) {
  return Tensor(v.data(), DType::bf16, dims);
}

/// A plan for a CPU, which needs no tables.
inline PreparedPlan prepared(const AttentionPlan& plan) {
  PreparedPlan p;
  p.plan = &plan;
  return p;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

inline double norm(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return std::sqrt(sum);
}

inline double distance(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double d = static_cast<double>(a[i]) - b[i];
    sum += d * d;
  }
  return std::sqrt(sum);
}

/// Replaces the first occurrence, which must exist.
inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  if (at == std::string::npos) throw Error(Code::internal, "the fixture lacks \"" + from + "\"");
  return text.replace(at, from.size(), to);
}

/// A copy of a golden folder's adapter with another dropout rate.
inline void write_adapter_with_dropout(const std::string& golden, const std::string& directory,
                                       const std::string& rate) {
  std::filesystem::create_directories(directory);
  std::filesystem::copy_file(golden + "/adapter/adapter_model.safetensors", directory + "/adapter_model.safetensors");
  const std::string json = read_file(golden + "/adapter/adapter_config.json", 1 << 20);
  write_file(directory + "/adapter_config.json",
             {replaced(json, "\"lora_dropout\": 0.0", "\"lora_dropout\": " + rate)});
}

/// A copy of a tied golden model whose vocabulary is larger than a slice of the loss: the new embeddings are random.
inline void write_wide_model(const std::string& golden, const std::string& directory, int64_t vocab) {
  const SafeTensors file = SafeTensors::open_checkpoint(golden);
  const std::string name = "model.language_model.embed_tokens.weight";
  const Tensor& old = file.at(name);
  std::vector<float> wide = Random(17).floats(vocab * old.cols(), -0.1f, 0.1f);
  std::copy_n(old.f32(), old.size(), wide.begin());
  std::vector<NamedTensor> tensors;
  for (const auto& [key, tensor] : file.tensors())
    tensors.push_back({key, key == name ? view(wide, {vocab, old.cols()}) : tensor});
  write_safetensors(directory + "/model.safetensors", tensors, {});
  const std::string size = "\"vocab_size\": ";
  write_file(directory + "/config.json", {replaced(read_file(golden + "/config.json", 1 << 20),
                                                   size + std::to_string(old.rows()), size + std::to_string(vocab))});
  std::filesystem::copy_file(golden + "/preprocessor_config.json", directory + "/preprocessor_config.json");
  std::filesystem::copy(golden + "/adapter", directory + "/adapter");
}

/// A golden model with a trained-looking adapter (non-zero B), a few encoded random images, and one preference step.
class TinyModel {
 public:
  explicit TinyModel(const std::string& golden, const std::string& dropout = "0.0", int threads = 1)
      : engine(spec(golden, dropout, threads)) {
    Random random(11);
    int64_t sizes[][2] = {{64, 64}, {64, 96}, {96, 64}, {64, 64}};
    for (const auto& [height, width] : sizes) {
      std::vector<uint8_t> rgb(static_cast<size_t>(height * width * 3));
      for (uint8_t& x : rgb) x = static_cast<uint8_t>(random.integer(0, 255));
      const Patches patches = engine.config().vision->preprocess({height, width, rgb.data()}, one_by_one);
      images_.push_back(engine.images().features_of(patches));
      images_.back()->content = images_.size();
    }
  }

  /// Images "0" to "3"; "0" and "3" have one size, so each can be the corrupted form of the other.
  int64_t image_tokens(const std::string& id) const { return images_.at(std::stoul(id))->tokens(); }

  /// Text without special tokens, one image in the middle if `image` is not empty.
  std::vector<int32_t> prompt(Random& random, const std::string& image, int64_t text) {
    std::vector<int32_t> ids = random.ids(text, 0, last_text_token());
    if (image.empty()) return ids;
    const int32_t placeholder = static_cast<int32_t>(engine.config().image_token_id);
    std::vector<int32_t> run(static_cast<size_t>(image_tokens(image)) + 2, placeholder);
    run.front() = run.back() = last_text_token();  // what stands around an image is text to the model
    ids.insert(ids.begin() + static_cast<std::ptrdiff_t>(text / 2), run.begin(), run.end());
    return ids;
  }
  /// The golden folders have their special tokens at the end of the vocabulary.
  int32_t last_text_token() const { return static_cast<int32_t>(engine.config().text.vocab_size) * 5 / 8; }

  PackedBatch packed(const std::vector<Pair>& pairs, const Objective& objective, Layout layout) {
    return pack(pairs, objective, layout, engine.config(),
                [this](const std::string& id, int64_t) { return images_.at(std::stoul(id)).get(); });
  }

  /// Loss and statistics; with `gradient`, gradients from zero (and dropout, if the adapter has it).
  StepStats step(const std::vector<Pair>& pairs, const Objective& objective, Layout layout,
                 const StepSettings& settings, std::vector<float>* gradient) {
    const PackedBatch batch = packed(pairs, objective, layout);
    const Tensor sum = engine.optimizer().gradient();
    engine.ops().zero(sum);
    const StepStats stats = run_preference_step(engine.context(), engine.adapter(), pairs, objective, batch, settings,
                                                gradient ? sum : Tensor());
    if (gradient) *gradient = engine.ops().download_f32(sum);
    return stats;
  }

  std::vector<float> parameters() { return engine.ops().download_f32(engine.adapter()->param()); }
  void set_parameters(const std::vector<float>& host) {
    engine.adapter()->parameters().assign(0, static_cast<int64_t>(host.size()), host.data());
  }

 private:
  EngineSpec spec(const std::string& golden, const std::string& dropout, int threads) {
    EngineSpec s = engine_spec(golden);
    s.device.threads = threads;
    if (dropout != "0.0") {
      write_adapter_with_dropout(s.model, adapter_ / "adapter", dropout);
      s.adapter = adapter_ / "adapter";
    }
    return s;
  }

  TempDir adapter_;

 public:
  Engine engine;

 private:
  std::vector<std::unique_ptr<ImageFeatures>> images_;
};

/// Mean over the pairs.
inline double mean_loss(const StepStats& stats) {
  double sum = 0;
  for (const PairStats& p : stats.pairs) sum += p.loss.loss;
  return sum / static_cast<double>(stats.pairs.size());
}

/// Coefficients that give every term of every objective a part in the gradient.
inline ObjectiveSpec full_spec(const std::string& name, double beta, double alpha, double gamma, double lambda,
                               KlReduction kl_reduction = KlReduction::sum) {
  ObjectiveSpec spec{name, beta, alpha, gamma, lambda, kl_reduction};
  Coefficients& k = spec.k;
  k.label_smoothing = 0.2, k.tau = 0.7, k.nll_weight = 0.3, k.text_weight = 0.8, k.bco_weight = 0.4;
  k.ld_alpha = 0.6, k.f_alpha = 0.5, k.token_weight = 1.7, k.kl_weight = 0.3, k.eta = 0.5, k.rho = 0.02;
  return spec;
}

/// Every objective of the table.
inline std::vector<std::string> objective_names() {
  std::vector<std::string> names;
  for (const ObjectiveRow& row : objective_rows()) names.push_back(row.name);
  return names;
}

/// The objectives that test/golden/objectives.json has.
inline std::vector<std::string> published_objectives() {
  return {"sft", "dpo", "mdpo", "rrpo", "rrpo-phrase-kl", "mask-dpo", "fire", "fire-v1", "fire-v2"};
}

/// How many tokens a prompt has up to its last image token.
inline size_t end_of_images(const std::vector<int32_t>& ids, int64_t image_token_id) {
  const auto last = std::find(ids.rbegin(), ids.rend(), static_cast<int32_t>(image_token_id));
  return static_cast<size_t>(ids.rend() - last);
}

}  // namespace fire::test
