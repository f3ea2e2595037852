// The standard batch: one whole FiRe-MPO step (vision tower, reference, policy, loss, backward, clipping, AdamW) on a
// Qwen3-VL of the sizes and with the lengths of shapes.json, which bench/roofline.md has on paper.
//
// Prints one line of JSON, or adds it to FILE. A step has a clean and a corrupted image a pair, none of them equal.
// --plan needs no GPU: it opens the model, checks the batch, and says what memory a step would take.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <future>
#include <iostream>
#include <map>
#include <optional>
#include <random>

#include "bench.h"
#include "cuda/watch.h"
#include "engine/engine.h"
#include "random_model.h"

namespace fire::bench {
namespace {

constexpr const char* usage =
    "usage: fire_step_bench [--model qwen3-vl-4b] [--quick] [--shapes FILE] [--gemm native|cublaslt] [--dropout 0.05]\n"
    "                       [--checkpointing] [--cached-reference] [--cached-vision] [--micro-batch N] [--steps 10]\n"
    "                       [--image 1024] [--profile] [--name TEXT] [--out FILE] [--plan]\n";

struct Options {
  std::string shapes = FIRE_BENCH_SHAPES, model, gemm = "native", name = "step", out;
  double dropout = 0;
  int64_t micro_batch = 0, steps = 10, image = 1024;
  bool quick = false, checkpointing = false, cached_reference = false, cached_vision = false, profile = false,
       plan = false;
};

/// Nothing for `--help` and for an option that there is not.
std::optional<Options> parse(int argc, char** argv) {
  Options o;
  const std::map<std::string, std::string*> texts{
      {"--shapes", &o.shapes}, {"--model", &o.model}, {"--gemm", &o.gemm}, {"--name", &o.name}, {"--out", &o.out}};
  const std::map<std::string, int64_t*> numbers{
      {"--micro-batch", &o.micro_batch}, {"--steps", &o.steps}, {"--image", &o.image}};
  const std::map<std::string, bool*> flags{{"--quick", &o.quick},
                                           {"--checkpointing", &o.checkpointing},
                                           {"--cached-reference", &o.cached_reference},
                                           {"--cached-vision", &o.cached_vision},
                                           {"--profile", &o.profile},
                                           {"--plan", &o.plan}};
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (const auto flag = flags.find(name); flag != flags.end()) {
      *flag->second = true;
      continue;
    }
    const bool known = texts.contains(name) || numbers.contains(name) || name == "--dropout";
    if (!known) {
      if (name != "--help") std::cerr << "unknown option " << name << "\n";
      return std::nullopt;
    }
    if (++i == argc) throw Error(Code::invalid_argument, name + " needs a value");
    if (const auto text = texts.find(name); text != texts.end()) {
      *text->second = argv[i];
    } else if (const auto number = numbers.find(name); number != numbers.end()) {
      *number->second = std::strtoll(argv[i], nullptr, 10);
      if (*number->second <= 0) throw Error(Code::invalid_argument, name + " must be a positive number");
    } else {
      o.dropout = std::strtod(argv[i], nullptr);
      if (!(o.dropout >= 0 && o.dropout < 1)) throw Error(Code::invalid_argument, "--dropout is 0 or more, below 1");
    }
  }
  if (o.gemm != "native" && o.gemm != "cublaslt")
    throw Error(Code::invalid_argument, "--gemm is native or cublaslt, not " + o.gemm);
  return o;
}

Shapes shapes_of(const Options& o) {
  const Json file = Json::load(o.shapes);
  std::vector<Shapes> models = read_shapes(o.quick ? file.at("quick") : file);
  std::erase_if(models, [&](const Shapes& s) { return !o.model.empty() && s.model != o.model; });
  if (models.size() != 1)
    throw Error(Code::invalid_argument, "--model is one of those in " + o.shapes + ", not \"" + o.model + "\"");
  return models[0];
}

/// A question about an image and its corrupted twin. Both answers begin alike, part at a phrase token, and end with the
/// other phrase tokens; the last token is predicted only, so a tail has one row less than tokens.
Pair make_pair(int64_t index, const Shapes& s, int64_t image_token) {
  Pair p;
  p.id = "pair" + std::to_string(index);
  p.images = {"clean" + std::to_string(index)};
  p.corrupted_images = {"corrupted" + std::to_string(index)};
  const auto token = [&](int64_t i) { return static_cast<int32_t>((31 * index + 7 * i + 14) % (s.vocab - 16)); };
  p.prompt.push_back(token(0));
  p.prompt.insert(p.prompt.end(), static_cast<size_t>(s.image_tokens), static_cast<int32_t>(image_token));
  for (int64_t i = 1; i < s.text; ++i) p.prompt.push_back(token(i));
  const int64_t length = s.common + s.tail + 1;
  for (int64_t i = 0; i < length; ++i) {
    const bool phrase = i == s.common || i > length - s.phrase;
    p.chosen.push_back(token(100 + i));
    p.rejected.push_back(token((i < s.common ? 100 : 101) + i));
    p.chosen_mask.push_back(phrase);
    p.rejected_mask.push_back(phrase);
  }
  return p;
}

Objective objective() { return Objective::make({"fire", 0.1, 0.01, 0.1, 0.5, KlReduction::sum}); }

EngineSpec spec_of(const Options& o, const Shapes& s, const std::string& folder) {
  DeviceSpec device{DeviceKind::cuda, 0, ComputeType::bf16, 0, GemmBackend::native, o.plan, PackWeights::off, 0};
  if (o.gemm == "cublaslt") device.gemm = GemmBackend::cublaslt;
  const LoraSpec lora{s.rank, 2.0 * static_cast<double>(s.rank),    static_cast<float>(o.dropout),
                      false,  {all_projs.begin(), all_projs.end()}, 0};
  return {folder, device, lora, "", "", o.checkpointing, o.cached_reference ? size_t{1} << 30 : 0, std::nullopt};
}

/// The batch is the one that the sheet has on paper.
void require_standard(const Options& o, const Shapes& s, int64_t tokens, int64_t rows) {
  if (tokens == s.tokens() && rows == s.read_rows()) return;
  throw Error(Code::internal, "the batch has " + std::to_string(tokens) + " rows, " + std::to_string(rows) +
                                  " of them read; " + o.shapes + " says " + std::to_string(s.tokens()) + " and " +
                                  std::to_string(s.read_rows()));
}

/// What a step is made of, for its clocks.
enum Part : size_t { images, accumulate, update, part_count };
constexpr const char* part_names[part_count] = {"images", "accumulate", "update"};

struct Step {
  double wall[part_count] = {}, gpu[part_count] = {};  // seconds
  double loss = 0, norm = 0;
  int64_t tokens = 0, rows = 0;
  cuda::Counters asked;

  static double sum(const double* parts) { return parts[images] + parts[accumulate] + parts[update]; }
};

size_t pairs_at_once(const Options& o, size_t pairs) {
  return o.micro_batch > 0 ? static_cast<size_t>(o.micro_batch) : pairs;
}

std::vector<std::vector<Pair>> cut(const std::vector<Pair>& pairs, size_t size) {
  std::vector<std::vector<Pair>> batches;
  for (size_t begin = 0; begin < pairs.size(); begin += size) {
    const auto first = pairs.begin() + static_cast<std::ptrdiff_t>(begin);
    batches.emplace_back(first, pairs.begin() + static_cast<std::ptrdiff_t>(std::min(begin + size, pairs.size())));
  }
  return batches;
}

/// Of the micro-batch that takes most; tokens and rows are those of all.
PlanStats largest_plan(Engine& engine, const std::vector<std::vector<Pair>>& batches) {
  PlanStats most;
  int64_t tokens = 0, rows = 0;
  for (const std::vector<Pair>& batch : batches) {
    const PlanStats plan = engine.plan(batch, objective(), {1, Layout::packed});
    tokens += plan.tokens, rows += plan.rows;
    if (plan.activation_bytes > most.activation_bytes) most = plan;
  }
  most.tokens = tokens, most.rows = rows;
  return most;
}

class Bench {
 public:
  Bench(const Options& options, const Shapes& shapes, const RandomModel& model)
      : options_(options),
        shapes_(shapes),
        engine_(spec_of(options, shapes, model.folder()), model.weights()),
        stream_(dynamic_cast<cuda::CudaOps&>(engine_.ops()).stream()) {
    for (int64_t i = 0; i < shapes.pairs; ++i) {
      pairs_.push_back(make_pair(i, shapes, engine_.config().image_token_id));
      images_.push_back({pairs_.back().images[0], noise(2 * i)});
      images_.push_back({pairs_.back().corrupted_images[0], noise(2 * i + 1)});
    }
    for (cuda::Event& mark : marks_) mark = cuda::create_event();
    prepare_images();
  }
  ~Bench() {
    for (const cuda::Event mark : marks_) cuda::destroy_event(mark);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  /// All memory of a step, as a trainer takes it before its first.
  void reserve() {
    engine_.reserve_images(std::vector<int64_t>(images_.size(), engine_.image_tokens(options_.image, options_.image)));
    engine_.reserve(micro_batches(), objective_, step_options());
  }

  Step step() {
    Step step;
    const cuda::Counters before = cuda::counters();
    mark(0);
    encode_images();
    mark(1);
    for (const std::vector<Pair>& batch : micro_batches()) {
      const StepStats stats = engine_.accumulate(batch, objective_, step_options(), nullptr);
      for (const PairStats& p : stats.pairs) step.loss += p.loss.loss / static_cast<double>(pairs_.size());
      step.tokens += stats.tokens;
      step.rows += stats.rows;
    }
    mark(2);
    require_standard(options_, shapes_, step.tokens, step.rows);
    step.norm = engine_.update({1e-6, 0.9, 0.999, 1e-8, 0, 1}).grad_norm;
    mark(3);
    cuda::wait(marks_[3]);
    clocks_[3] = Clock::now();
    step.asked = cuda::counters() - before;
    for (size_t part = 0; part < part_count; ++part) {
      step.wall[part] = std::chrono::duration<double>(clocks_[part + 1] - clocks_[part]).count();
      step.gpu[part] = 1e-3 * static_cast<double>(cuda::elapsed(marks_[part], marks_[part + 1]));
    }
    return step;
  }

  PlanStats plan() { return largest_plan(engine_, micro_batches()); }
  std::map<std::string, cuda::Profile::Total> profile() {
    const cuda::Profile profile;
    step();
    return profile.totals();
  }
  Engine& engine() { return engine_; }
  size_t micro_batch() const { return pairs_at_once(options_, pairs_.size()); }

 private:
  using Clock = std::chrono::steady_clock;

  std::vector<std::vector<Pair>> micro_batches() const { return cut(pairs_, micro_batch()); }
  StepOptions step_options() const { return {static_cast<double>(pairs_.size()), Layout::packed}; }

  void mark(size_t which) {
    clocks_[which] = Clock::now();
    cuda::record(marks_[which], stream_);
  }

  /// Of each image its own: those with the same pixels would be one.
  std::vector<uint8_t> noise(int64_t seed) const {
    std::mt19937 random(static_cast<uint32_t>(seed));
    std::vector<uint8_t> pixels(static_cast<size_t>(options_.image * options_.image * 3));
    for (uint8_t& x : pixels) x = static_cast<uint8_t>(random());
    return pixels;
  }

  /// As in training, the host makes the images of the next step ready while this one runs.
  void prepare_images() {
    prepared_ = std::async(std::launch::async, [this] {
      std::vector<NamedImage> all;
      for (const auto& [id, pixels] : images_) {
        const Rgb image{options_.image, options_.image, pixels.data()};
        all.push_back({id, image, prepare_image(*engine_.config().vision, image, spread_)});
      }
      return all;
    });
  }

  void encode_images() {
    const std::vector<NamedImage> all = prepared_.get();
    prepare_images();
    if (!options_.cached_vision)
      for (const auto& [id, pixels] : images_) engine_.release_image(id);
    engine_.encode_images(all, nullptr);
  }

  const Options& options_;
  const Shapes& shapes_;
  Engine engine_;
  cuda::Stream stream_;
  std::vector<Pair> pairs_;
  std::vector<std::pair<std::string, std::vector<uint8_t>>> images_;
  const Spread spread_ = host_spread(engine_.spec().device);
  std::future<std::vector<NamedImage>> prepared_;  // after all that it reads
  const Objective objective_ = objective();
  cuda::Event marks_[part_count + 1] = {};
  Clock::time_point clocks_[part_count + 1];
};

/// One object of JSON, member by member.
class Line {
 public:
  Line& add(const char* key, const std::string& json) {
    text_ += (text_.empty() ? "" : ", ") + json_quote(key) + ": " + json;
    return *this;
  }
  Line& text(const char* key, const std::string& value) { return add(key, json_quote(value)); }
  Line& flag(const char* key, bool value) { return add(key, value ? "true" : "false"); }
  template <class T>
  Line& number(const char* key, T value) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.9g", static_cast<double>(value));
    if (!std::isfinite(static_cast<double>(value))) return add(key, "null");  // JSON has no NaN
    return add(key, std::is_integral_v<T> ? std::to_string(value) : digits);
  }
  std::string str() const { return "{" + text_ + "}"; }

 private:
  std::string text_;
};

template <class F>
std::string spread(const std::vector<Step>& steps, const F& seconds) {
  std::vector<double> all;
  for (const Step& step : steps) all.push_back(seconds(step));
  std::sort(all.begin(), all.end());
  return Line().number("median", all[all.size() / 2]).number("min", all.front()).number("max", all.back()).str();
}

std::string clocks(const std::vector<Step>& steps, double (Step::*parts)[part_count]) {
  Line line;
  line.add("step", spread(steps, [&](const Step& s) { return Step::sum(s.*parts); }));
  for (size_t part = 0; part < part_count; ++part)
    line.add(part_names[part], spread(steps, [&](const Step& s) { return (s.*parts)[part]; }));
  return line.str();
}

size_t used_bytes() {
  const cuda::MemoryInfo memory = cuda::memory_info();
  return memory.total_bytes - memory.free_bytes;
}

Line memory_json(const PlanStats& plan, const Shapes& s) {
  Line line;
  line.number("weights", plan.weight_bytes)
      .number("adapter", plan.adapter_bytes)
      .number("optimizer", plan.optimizer_bytes)
      .number("features", plan.feature_bytes_per_token * static_cast<size_t>(s.images * s.image_tokens))
      .number("arena_planned", plan.arena_bytes);
  return line;
}

std::string counters_json(const cuda::Counters& c) {
  return Line()
      .number("launches", c.launches)
      .number("allocations", c.allocations)
      .number("releases", c.releases)
      .number("pinned_allocations", c.pinned_allocations)
      .number("host_waits", c.host_waits)
      .number("bytes_to_device", c.bytes_to_device)
      .number("bytes_to_host", c.bytes_to_host)
      .number("bytes_on_device", c.bytes_on_device)
      .number("bytes_zeroed", c.bytes_zeroed)
      .str();
}

std::string profile_json(const std::map<std::string, cuda::Profile::Total>& totals) {
  using Row = std::pair<std::string, cuda::Profile::Total>;
  std::vector<Row> rows(totals.begin(), totals.end());
  std::sort(rows.begin(), rows.end(),
            [](const Row& a, const Row& b) { return a.second.milliseconds > b.second.milliseconds; });
  Line kernels;
  double busy = 0;
  for (const auto& [kernel, total] : rows) {
    busy += total.milliseconds;
    kernels.add(kernel.c_str(), Line().number("launches", total.launches).number("ms", total.milliseconds).str());
  }
  return Line().number("busy_ms", busy).add("kernels", kernels.str()).str();
}

/// Without a GPU: that the model opens and the batch is the standard one, and what the engine would take.
std::string plan(const Options& o, const Shapes& shapes, const RandomModel& model) {
  Engine engine(spec_of(o, shapes, model.folder()), model.weights());
  if (const int64_t tokens = engine.image_tokens(o.image, o.image); tokens != shapes.image_tokens)
    throw Error(Code::invalid_argument, "--image " + std::to_string(o.image) + " gives " + std::to_string(tokens) +
                                            " tokens an image, the sheet has " + std::to_string(shapes.image_tokens));
  std::vector<Pair> pairs;
  for (int64_t i = 0; i < shapes.pairs; ++i) pairs.push_back(make_pair(i, shapes, engine.config().image_token_id));
  const PlanStats plan = largest_plan(engine, cut(pairs, pairs_at_once(o, pairs.size())));
  require_standard(o, shapes, plan.tokens, plan.rows);
  Line line;
  line.text("name", o.name).text("model", shapes.model).number("tokens", plan.tokens).number("rows", plan.rows);
  return line.add("memory_bytes", memory_json(plan, shapes).str()).str();
}

std::string run(const Options& o) {
  const Shapes shapes = shapes_of(o);
  const RandomModel model(shapes);
  if (o.plan) return plan(o, shapes, model);
  cuda::open(0);
  const size_t used_before = used_bytes();
  Bench bench(o, shapes, model);
  const PlanStats plan = bench.plan();
  bench.reserve();
  bench.step();                                    // warms up: caches, features of images
  const size_t used = used_bytes() - used_before;  // the arena keeps its largest size
  std::vector<Step> steps;
  for (int64_t i = 0; i < o.steps; ++i) steps.push_back(bench.step());
  const Step& last = steps.back();
  Line line;
  line.text("name", o.name)
      .text("model", shapes.model)
      .text("device", bench.engine().info().device)
      .text("gemm", bench.engine().info().gemm)
      .number("dropout", o.dropout)
      .flag("checkpointing", o.checkpointing)
      .flag("cached_reference", o.cached_reference)
      .flag("cached_vision", o.cached_vision)
      .number("pairs", shapes.pairs)
      .number("micro_batch", bench.micro_batch())
      .number("tokens", last.tokens)
      .number("rows", last.rows)
      .number("steps", steps.size())
      .add("wall_s", clocks(steps, &Step::wall))
      .add("gpu_s", clocks(steps, &Step::gpu))
      .add("asked", counters_json(last.asked))
      .add("memory_bytes",
           memory_json(plan, shapes).number("arena", bench.engine().arena().peak_bytes()).number("used", used).str())
      .number("loss", last.loss)
      .number("grad_norm", last.norm);
  if (o.profile) line.add("profile", profile_json(bench.profile()));
  return line.str();
}

}  // namespace
}  // namespace fire::bench

int main(int argc, char** argv) {
  try {
    const std::optional<fire::bench::Options> options = fire::bench::parse(argc, argv);
    if (!options) {
      std::cerr << fire::bench::usage;
      return 2;
    }
    const std::string line = fire::bench::run(*options);
    if (options->out.empty()) {
      std::cout << line << "\n";
      return 0;
    }
    std::ofstream file(options->out, std::ios::app);
    file << line << "\n";
    if (!file.flush()) throw fire::Error(fire::Code::io, "cannot write " + options->out);
    return 0;
  } catch (const fire::Error& e) {
    std::cerr << fire::to_string(e.code()) << ": " << e.what() << "\n";
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
  }
  return 1;
}
