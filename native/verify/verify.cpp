#include "verify/verify.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>

#include "infer/attention_ratio.h"
#include "model/qwen_vl_image.h"
#include "verify/comparison.h"
#include "verify/golden.h"

namespace fire {
namespace {

/// Tolerances by dtype. f32: a few times the noise that the reference itself shows between attention implementations
/// and against float64 (golden.json: logits 2e-5, loss 5e-7, gradients 3e-6 relative). bf16: the same comparison for
/// the reference run in bf16 shows logits .4, loss 1e-2, gradients .06 relative.
struct Tolerances {
  Tolerance pixels, positions, hidden, logits, logprobs, terms, loss, gradients, norm, parameters, attention;
};
constexpr double usual_gradient_noise = .06;  // of the reference in bf16, relative

/// With activations in bf16 too the reference is off by 1e-2 in the mean loss of three pairs, by twice that in one.
Tolerances tolerances(ComputeType dtype, DType activations) {
  const double pair_loss = activations == DType::bf16 ? 4e-2 : 2e-2;
  if (dtype == ComputeType::f32)
    return {{1e-6}, {0},       {1e-4, 1e-5}, {1e-4},          {1e-4},      {2e-5, 1e-5},
            {5e-6}, {0, 1e-4}, {0, 1e-4},    {2e-5, 0, 1e-3}, {1e-4, 1e-4}};
  return {{1e-6},      {0},       {5e-2, 3e-2}, {0.5, 3e-2}, {0.5, 3e-2}, {0.3, 5e-2},
          {pair_loss}, {0, 0.12}, {0, 5e-2},    {0, 0.35},   {5e-2, 5e-2}};
}

class Verifier {
 public:
  Verifier(const VerifySpec& spec, const RowCallback& on_row)
      : spec_(spec),
        on_row_(on_row),
        engine_(engine_spec(spec)),
        golden_(Golden::load(spec.directory, engine_.config().image_token_id)),
        tolerance_(tolerances(spec.device.dtype, engine_.ops().activation_type())) {
    // Where the reference's own gradients come out worse than usual in bf16, ours may by the same factor.
    const double worse = bf16() ? std::max(1.0, golden_.bf16_gradient_noise / usual_gradient_noise) : 1.0;
    tolerance_.gradients.rel *= worse;
    tolerance_.norm.rel *= worse;
  }

  std::vector<VerifyRow> run() {
    return golden_.file.reading([&] {
      check_images();
      encode_images();
      check_positions();
      check_intermediates();
      check_logprobs();
      check_objective(Layout::packed);
      check_objective(Layout::plain);
      check_training();
      check_generation();
      check_attention();
      return rows_;
    });
  }

 private:
  static EngineSpec engine_spec(const VerifySpec& spec) {
    return {.model = spec.directory,
            .device = spec.device,
            .lora = std::nullopt,
            .adapter = spec.directory + "/adapter",
            .reference_adapter = "",
            .checkpointing = false,
            .reference_cache_bytes = size_t{256} << 20,
            .feature_store = std::nullopt};
  }

  bool bf16() const { return spec_.device.dtype == ComputeType::bf16; }
  const ModelConfig& config() const { return engine_.config(); }

  void finish(const Comparison& comparison) {
    if (comparison.empty()) return;
    rows_.push_back(comparison.row());
    if (on_row_) on_row_(rows_.back());
  }

  Objective objective() const { return Objective::make(golden_.objective); }

  std::vector<Pair> pairs() const {
    std::vector<Pair> pairs;
    for (const GoldenItem& item : golden_.items) pairs.push_back(item.pair);
    return pairs;
  }

  // --- images -------------------------------------------------------------------------------------------------
  void check_images() {
    Comparison sizes("smart resize", tolerance_.positions);
    int64_t factor = 0;  // the table's own: what all its results are multiples of
    for (const auto& row : golden_.smart_resize) factor = std::gcd(factor, std::gcd(row[4], row[5]));
    for (const auto& row : golden_.smart_resize) {
      const Size got = smart_resize({row[0], row[1]}, factor, row[2], row[3]);
      const std::vector<int64_t> value{got.height, got.width}, want{row[4], row[5]};
      sizes.add_vector(std::to_string(row[0]) + "x" + std::to_string(row[1]), value, want);
    }
    finish(sizes);

    Comparison pixels("pixel values", tolerance_.pixels), grids("patch grids", tolerance_.positions);
    for (const GoldenItem& item : golden_.items)
      for (const bool corrupt : {false, true}) {
        std::vector<float> all;
        std::vector<int64_t> grid;
        for (const GoldenImage& image : item.images) {
          const Patches p = config().vision->preprocess(rgb_of(image, corrupt), one_by_one);
          for (const float value : config().vision->rows().values(p)) all.push_back(value);
          grid.insert(grid.end(), {1, p.grid_h, p.grid_w});
        }
        const std::string name = item.name + (corrupt ? ".pixel_values_corrupt" : ".pixel_values");
        std::vector<float> want = pixels_of(name, grid);
        pixels.add(name, as_tensor(all), as_tensor(want));
        const std::string stored_grid = item.name + ".image_grid_thw";
        if (!corrupt && golden_.has(stored_grid)) grids.add_vector(item.name, grid, golden_.integers(stored_grid));
      }
    finish(pixels);
    finish(grids);
  }

  /// Stored as patches, or as whole images [n, 3, side, side] that are cut into patches in reading order here.
  std::vector<float> pixels_of(const std::string& name, const std::vector<int64_t>& grid) const {
    const Tensor& stored = golden_.floats(name);
    const float* from = stored.f32();
    if (stored.rank() != 4) return {from, from + stored.size()};
    const int64_t side = stored.dim(3), patch = grid.empty() ? 0 : side / grid[2];
    if (stored.dim(1) != 3 || stored.dim(2) != side || patch == 0 || side % patch != 0)
      golden_.fail(name, "is " + stored.describe() + ", expected square images that are cut into patches");
    std::vector<float> patches;
    for (int64_t n = 0; n < stored.dim(0); ++n)
      for (int64_t y = 0; y < side; y += patch)
        for (int64_t x = 0; x < side; x += patch)
          for (int64_t c = 0; c < 3; ++c)
            for (int64_t row = y; row < y + patch; ++row) {
              const float* line = from + ((n * 3 + c) * side + row) * side + x;
              patches.insert(patches.end(), line, line + patch);
            }
    return patches;
  }

  static Tensor as_tensor(std::vector<float>& v) {
    return Tensor(v.data(), DType::f32, {static_cast<int64_t>(v.size())});
  }

  static Rgb rgb_of(const GoldenImage& image, bool corrupt) {
    return {image.height, image.width,
            static_cast<const uint8_t*>(corrupt ? image.rgb_corrupt.data() : image.rgb.data())};
  }

  void encode_images() {
    for (const GoldenItem& item : golden_.items)
      for (const GoldenImage& image : item.images) {
        engine_.encode_image(image.id, rgb_of(image, false), nullptr);
        engine_.encode_image(image.corrupted_id, rgb_of(image, true), nullptr);
      }
  }

  // --- positions ------------------------------------------------------------------------------------------------
  void check_positions() {
    Comparison positions("positions", tolerance_.positions);
    for (const GoldenItem& item : golden_.items)
      for (const bool chosen : {true, false}) {
        const std::string name = item.name + (chosen ? ".chosen" : ".rejected");
        const std::vector<int32_t> ids = item.ids(chosen);
        std::vector<TokenGrid> grids;
        for (const GoldenImage& image : item.images)
          grids.push_back(config().vision->token_grid({image.height, image.width}));
        const bool spread = config().text.mrope != Mrope::none;
        const Positions p = sequence_positions(ids, config().image_token_id, grids, spread);
        std::vector<int64_t> flat;
        for (size_t axis = 0; axis < (spread ? p.size() : 1); ++axis)
          flat.insert(flat.end(), p[axis].begin(), p[axis].end());
        positions.add_vector(name + ".position_ids", flat, golden_.integers(name + ".position_ids"));
        if (golden_.has(name + ".rope_delta")) {
          const std::vector<int64_t> delta{next_position(p) - static_cast<int64_t>(ids.size())};
          positions.add_vector(name + ".rope_delta", delta, golden_.integers(name + ".rope_delta"));
        }
      }
    finish(positions);
  }

  // --- forward intermediates ---------------------------------------------------------------------------------------
  /// Observed values by golden name, images of the item one after another.
  std::map<std::string, std::vector<float>> observe_forward() {
    std::map<std::string, std::vector<float>> seen;
    const Observer observer = [&](const std::string& name, const Tensor& value) {
      const std::vector<float> host = engine_.ops().download_f32(value);
      std::vector<float>& all = seen["fwd." + name];
      all.insert(all.end(), host.begin(), host.end());
    };
    const GoldenItem& item = golden_.items[0];
    Arena& arena = engine_.arena();
    std::vector<std::unique_ptr<ImageFeatures>> features;
    std::vector<const ImageFeatures*> pointers;
    for (const GoldenImage& image : item.images) {
      const Patches patches = config().vision->preprocess(rgb_of(image, false), one_by_one);
      features.push_back(engine_.images().features_of(patches, &observer));
      pointers.push_back(features.back().get());
    }
    Arena::Scope scope(arena);
    DecoderInput input;
    append_sequence(input, make_sequence(item.ids(true), pointers, item.pair.prompt.size(), config()));
    for (int32_t i = 0; i < static_cast<int32_t>(input.tokens()); ++i) input.read_rows.push_back(i);
    DecoderPass pass;
    pass.observer = &observer;
    const Decoder decoder(engine_.context());
    const Tensor hidden = decoder.forward(input, pass, nullptr);
    Tensor logits = arena.f32({input.tokens(), config().text.vocab_size});
    decoder.head(hidden, 0, logits);
    observer("text.logits", logits);
    return seen;
  }

  void check_intermediates() {
    const auto seen = observe_forward();
    Comparison vision("vision tower", tolerance_.hidden), features("vision features", tolerance_.hidden);
    Comparison rotary("rotary tables", {2e-6}), text("hidden states", tolerance_.hidden);
    Comparison logits("logits", tolerance_.logits);
    for (const auto& entry : golden_.file.tensors()) {
      const std::string& name = entry.first;
      if (!name.starts_with("fwd.") || name == "fwd.token_logps") continue;
      const std::vector<float> got = seen.contains(name) ? seen.at(name) : std::vector<float>();
      const float* reference = golden_.floats(name).f32();
      auto add = [&](Comparison& group) {
        group.add(
            name, static_cast<int64_t>(got.size()), entry.second.size(),
            [&](int64_t i) { return got[static_cast<size_t>(i)]; }, [&](int64_t i) { return reference[i]; });
      };
      if (name.find("rope_") != std::string::npos) {
        add(rotary);
      } else if (name == "fwd.vision.merged" || name == "fwd.vision.projected" ||
                 name.starts_with("fwd.vision.deepstack")) {
        add(features);
      } else if (name.starts_with("fwd.vision.")) {
        add(vision);
      } else {
        add(name == "fwd.text.logits" ? logits : text);
      }
    }
    for (const Comparison* group : {&vision, &features, &rotary, &text, &logits}) finish(*group);
  }

  // --- log-probabilities ---------------------------------------------------------------------------------------------
  void check_logprobs() {
    Comparison tokens("token log-probs", tolerance_.logprobs), phrases("phrase log-probs", tolerance_.logprobs);
    if (golden_.has("fwd.token_logps"))
      add_logps(tokens, "fwd.token_logps", golden_.items[0].ids(true), logps_of(golden_.items[0], true, false, false));
    for (const GoldenItem& item : golden_.items)
      for (const bool chosen : {true, false})
        for (const bool corrupt : {false, true})
          for (const bool adapter : {false, true}) {
            const std::string prefix = item.name + (chosen ? ".chosen" : ".rejected") +
                                       (corrupt ? ".corrupt" : ".clean") + (adapter ? ".lora" : ".ref");
            const std::vector<float> logps = logps_of(item, chosen, corrupt, adapter);
            add_logps(tokens, prefix + "_token_logps", item.ids(chosen), logps);
            const auto& mask = chosen ? item.pair.chosen_mask : item.pair.rejected_mask;
            double sum = 0;
            for (size_t t = 0; t < mask.size(); ++t)
              if (mask[t]) sum += static_cast<double>(logps[item.pair.prompt.size() + t - 1]);
            phrases.add(prefix + "_phrase_logp", sum, golden_.number(prefix + "_phrase_logp"));
          }
    finish(tokens);
    finish(phrases);
  }

  std::vector<float> logps_of(const GoldenItem& item, bool chosen, bool corrupt, bool adapter) {
    const SequenceRef sequence{item.ids(chosen), corrupt ? item.pair.corrupted_images : item.pair.images};
    return engine_.logprobs({sequence}, adapter, nullptr)[0];
  }

  /// Entry i belongs to ids[i + 1]. A placeholder that is no token of the vocabulary has no log-probability.
  void add_logps(Comparison& group, const std::string& name, const std::vector<int32_t>& ids,
                 const std::vector<float>& got) const {
    const auto defined = [&](int64_t i) { return ids[static_cast<size_t>(i) + 1] >= 0; };
    const Tensor& want = golden_.floats(name);
    const float* reference = want.f32();
    group.add(
        name, static_cast<int64_t>(got.size()), want.size(),
        [&](int64_t i) { return defined(i) ? got[static_cast<size_t>(i)] : 0.0f; },
        [&](int64_t i) { return defined(i) ? reference[i] : 0.0f; });
  }

  // --- objective and gradients --------------------
  void check_objective(Layout layout) {
    const std::string suffix = layout == Layout::packed ? "" : " (plain layout)";
    const StepOptions options{static_cast<double>(golden_.items.size()), layout};
    const StepStats stats = engine_.accumulate(pairs(), objective(), options, nullptr);
    Comparison terms("objective terms" + suffix, tolerance_.terms), loss("loss" + suffix, tolerance_.loss);
    double mean = 0;
    for (size_t k = 0; k < golden_.items.size(); ++k) {
      const PairStats& s = stats.pairs[k];
      const std::string prefix = golden_.items[k].name + ".mpo.";
      const double mixed = golden_.objective.k.lambda * s.kl.forward + (1 - golden_.objective.k.lambda) * s.kl.reverse;
      const std::pair<const char*, double> values[] = {
          {"base_margin", s.loss.margin}, {"base_loss", s.loss.base}, {"v_margin", s.loss.visual_margin},
          {"v_loss", s.loss.visual},      {"tkl", s.kl.forward},      {"rtkl", s.kl.reverse},
          {"mixed_tkl", mixed},           {"loss", s.loss.loss}};
      for (const auto& [name, value] : values)
        (std::strcmp(name, "loss") == 0 ? loss : terms).add(prefix + name, value, golden_.number(prefix + name));
      mean += s.loss.loss / options.normalizer;
    }
    loss.add("mpo.loss", mean, golden_.number("mpo.loss"));
    finish(terms);
    finish(loss);

    Comparison gradients("gradients" + suffix, tolerance_.gradients);
    compare_adapter(gradients, "grad.", engine_.optimizer().gradient());
    finish(gradients);
    engine_.zero_grad();
  }

  /// Every A and B of a flat adapter buffer against the golden tensors with that prefix.
  void compare_adapter(Comparison& group, const std::string& prefix, const Tensor& device_flat) {
    std::vector<float> host = engine_.ops().download_f32(device_flat);
    const Tensor flat(host.data(), DType::f32, {device_flat.size()});
    const Adapter& adapter = *engine_.adapter();
    for (const LoraModule& m : adapter.modules()) {
      const std::string a = prefix + Adapter::key(m, 'A'), b = prefix + Adapter::key(m, 'B');
      group.add(a, adapter.a_of(flat, m), golden_.floats(a));
      group.add(b, adapter.b_of(flat, m), golden_.floats(b));
    }
  }

  // --- optimizer steps --------------------
  void check_training() {
    const std::vector<double> rates = read_rates();
    const Tensor &losses = golden_.floats("train.loss"), &norms = golden_.floats("train.grad_norm");
    const int64_t steps = static_cast<int64_t>(rates.size());
    if (losses.size() < steps || losses.size() > steps + 1 || norms.size() != steps)
      golden_.fail("train.lr", "has " + std::to_string(steps) + " steps, train.loss " + std::to_string(losses.size()) +
                                   " and train.grad_norm " + std::to_string(norms.size()));
    Comparison loss("training loss", tolerance_.loss);
    Comparison norm("gradient norm", tolerance_.norm);
    const std::vector<float> start = engine_.ops().download_f32(engine_.adapter()->param());
    const StepOptions options{static_cast<double>(golden_.items.size()), Layout::packed};
    auto mean_loss = [&](const StepStats& stats) {
      double sum = 0;
      for (const PairStats& s : stats.pairs) sum += s.loss.loss / options.normalizer;
      return sum;
    };
    for (int64_t i = 0; i < steps; ++i) {
      const std::string step = std::to_string(i + 1);
      loss.add("train.loss[" + std::to_string(i) + "]",
               mean_loss(engine_.accumulate(pairs(), objective(), options, nullptr)), losses.f32()[i]);
      AdamWSpec update = golden_.optimizer;
      update.lr = rates[static_cast<size_t>(i)];
      norm.add("train.grad_norm[" + std::to_string(i) + "]", engine_.update(update).grad_norm, norms.f32()[i]);
      const LoraModule& first = engine_.adapter()->modules().front();
      if (golden_.has("step" + step + "." + Adapter::key(first, 'A'))) check_step(step, start);
    }
    if (losses.size() > steps)
      loss.add("train.loss[" + std::to_string(steps) + "]",
               mean_loss(engine_.evaluate(pairs(), objective(), options, nullptr)), losses.f32()[steps]);
    finish(loss);
    finish(norm);
    engine_.adapter()->parameters().assign(0, static_cast<int64_t>(start.size()), start.data());
  }

  /// f64 or f32.
  std::vector<double> read_rates() const {
    const Tensor& rates = golden_.file.at("train.lr");
    if (rates.dtype() == DType::f64) {
      const double* from = static_cast<const double*>(rates.data());
      return {from, from + rates.size()};
    }
    const float* from = golden_.floats("train.lr").f32();
    return {from, from + rates.size()};
  }

  /// f32: parameters. bf16: Adam turns the sign of a tiny gradient into a full step, so the update as a whole is
  /// compared.
  void check_step(const std::string& step, const std::vector<float>& start) {
    Comparison parameters((bf16() ? "update after step " : "parameters after step ") + step, tolerance_.parameters);
    const std::string prefix = "step" + step + ".";
    if (!bf16()) {
      compare_adapter(parameters, prefix, engine_.adapter()->param());
    } else {
      std::vector<float> now = engine_.ops().download_f32(engine_.adapter()->param()), want(start.size());
      for (const LoraModule& m : engine_.adapter()->modules())
        for (const char which : {'A', 'B'}) {
          const int64_t size = engine_.adapter()->spec().rank * (which == 'A' ? m.in : m.out);
          const Tensor& t = golden_.floats(prefix + Adapter::key(m, which), size);
          std::copy_n(t.f32(), t.size(), want.begin() + (which == 'A' ? m.a_begin : m.b_begin));
        }
      for (size_t i = 0; i < now.size(); ++i) {
        now[i] -= start[i];
        want[i] -= start[i];
      }
      parameters.add_vector("all tensors", now, want);
    }
    finish(parameters);
  }

  // --- generation and attention --------------------
  void check_generation() {
    Comparison tokens("greedy tokens", tolerance_.positions);
    for (const bool adapter : {false, true}) {
      const std::string name = adapter ? "gen.lora" : "gen.base";
      if (!golden_.has(name + ".tokens")) continue;
      std::vector<int64_t> reference = golden_.integers(name + ".tokens");
      if (reference.empty() || reference.size() > 4096)
        golden_.fail(name + ".tokens", "has " + std::to_string(reference.size()) + " tokens, expected 1 to 4096");
      const SamplingSpec greedy{.max_new_tokens = static_cast<int64_t>(reference.size()),
                                .rule = {.temperature = 0, .top_p = 1, .top_k = 0},
                                .stop_tokens = {},
                                .stop_strings = nullptr,
                                .batch_size = 1};
      const Pair& pair = golden_.items[0].pair;
      const std::vector<Generation> got = engine_.generate({{{pair.prompt, pair.images}, 0}}, greedy, adapter, {}, {});
      std::vector<int64_t> value(got[0].tokens.begin(), got[0].tokens.end());
      // In bf16 a token is decided only where the reference's two best logits are further apart than the tolerance;
      // after an undecided token the texts may differ.
      if (golden_.has(name + ".margin") && bf16()) {
        const int64_t count = static_cast<int64_t>(reference.size());
        const float* margin = golden_.floats(name + ".margin", count).f32();
        const int64_t decided =
            std::find_if(margin, margin + count, [&](float m) { return m < tolerance_.logits.abs; }) - margin;
        reference.resize(static_cast<size_t>(decided));
        value.resize(std::min(value.size(), reference.size()));
      }
      if (!reference.empty()) tokens.add_vector(name + ".tokens", value, reference);
    }
    finish(tokens);
  }

  void check_attention() {
    if (!golden_.has("ar.attn_question")) return;
    const Pair& pair = golden_.items[0].pair;
    const Tensor& stored = golden_.floats("ar.attn_question");
    if (stored.rank() != 3 || stored.size() == 0)
      golden_.fail("ar.attn_question", "is " + stored.describe() + ", expected [layers, heads, image tokens]");
    const int64_t layers = stored.dim(0);
    const size_t heads = static_cast<size_t>(layers * stored.dim(1)), tokens = static_cast<size_t>(stored.dim(2));
    const std::vector<int64_t> truth = golden_.integers("ar.gt_tokens");
    for (const int64_t t : truth)
      if (t < 0 || t >= stored.dim(2))
        golden_.fail("ar.gt_tokens", "holds " + std::to_string(t) + ", which is no image token");
    std::vector<float> question = last_row_attention(pair.prompt, heads, tokens);
    std::vector<float> general = last_row_attention(golden_.tokens("ar.general_prompt_ids"), heads, tokens);
    Comparison weights("attention to the image", tolerance_.attention);
    weights.add("ar.attn_question", as_tensor(question), stored);
    weights.add("ar.attn_general", as_tensor(general), golden_.floats("ar.attn_general"));
    finish(weights);

    Comparison ratios("attention ratio, KL, JS", tolerance_.attention);
    const size_t per_layer = static_cast<size_t>(stored.dim(1)) * tokens;
    const float* ratio = golden_.floats("ar.ratio", layers).f32();
    const float *kl = golden_.floats("ar.kl", layers).f32(), *js = golden_.floats("ar.js", layers).f32();
    for (int64_t l = 0; l < layers; ++l) {
      const size_t begin = static_cast<size_t>(l) * per_layer;
      const AttentionRatio r = attention_ratio(std::span(question).subspan(begin, per_layer),
                                               std::span(general).subspan(begin, per_layer), tokens, truth);
      const std::string layer = "[" + std::to_string(l) + "]";
      ratios.add("ar.ratio" + layer, r.ratio, ratio[l]);
      ratios.add("ar.kl" + layer, r.kl, kl[l]);
      ratios.add("ar.js" + layer, r.js, js[l]);
    }
    finish(ratios);
  }

  /// [layers * heads, tokens of the first image] of the last prompt position under the base model.
  std::vector<float> last_row_attention(const std::vector<int32_t>& ids, size_t heads, size_t tokens) {
    const auto& images = golden_.items[0].pair.images;
    const std::vector<float> all =
        engine_.attention({ids, images}, {static_cast<int32_t>(ids.size()) - 1}, false).at(0);
    const size_t stride = all.size() / heads;
    if (heads != static_cast<size_t>(config().text.layers * config().text.heads) || tokens > stride)
      golden_.fail("ar.attn_question", "is of another model: this one has " + std::to_string(config().text.layers) +
                                           " layers of " + std::to_string(config().text.heads) + " heads and " +
                                           std::to_string(stride) + " image tokens");
    std::vector<float> first;
    for (size_t h = 0; h < heads; ++h)
      first.insert(first.end(), all.begin() + static_cast<std::ptrdiff_t>(h * stride),
                   all.begin() + static_cast<std::ptrdiff_t>(h * stride + tokens));
    return first;
  }

  VerifySpec spec_;
  const RowCallback& on_row_;
  Engine engine_;
  Golden golden_;
  Tolerances tolerance_;
  std::vector<VerifyRow> rows_;
};

}  // namespace

std::vector<VerifyRow> verify(const VerifySpec& spec, const RowCallback& on_row) {
  try {
    return Verifier(spec, on_row).run();
  } catch (const Error& e) {
    throw e.within(spec.directory);
  }
}

}  // namespace fire
