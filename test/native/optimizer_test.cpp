// Training state: an interrupted run goes on bit for bit; clipping; gradients that are not finite; adapters on disk.
#include "train/optimizer.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "cpu/cpu_ops.h"
#include "fixture.h"
#include "tensor/json.h"

using namespace fire;
using namespace fire::test;

namespace {

std::vector<Pair> text_pairs() {
  Random random(8);
  std::vector<Pair> pairs(2);
  for (Pair& p : pairs) {
    p.id = "p";
    p.prompt = random.ids(6, 0, 300);
    p.chosen = random.ids(5, 0, 300);
    p.rejected = random.ids(4, 0, 300);
    p.chosen_mask = {0, 1, 1, 0, 0};
    p.rejected_mask = {0, 1, 0, 1};
  }
  return pairs;
}

EngineSpec spec_with_lora(uint64_t seed = 5) {
  EngineSpec s = engine_spec("qwen3_vl");
  s.adapter = "";
  s.lora = lora_spec(4);
  s.lora->dropout = 0.2f;
  s.lora->seed = seed;
  return s;
}

void train(Engine& engine, int steps) {
  AdamWSpec update = adamw_spec;
  update.lr = 1e-2;
  update.weight_decay = 0.1;
  update.max_grad_norm = 0.05;
  for (int i = 0; i < steps; ++i) {
    engine.accumulate(text_pairs(), Objective::make({"fire", 0.1, 0.01, 0.1, 0.5, KlReduction::sum}), single_step,
                      nullptr);
    engine.update(update);
  }
}

std::vector<float> host(Engine& engine, const Tensor& t) { return engine.ops().download_f32(t); }

bool all_zero(const Tensor& t) { return norm(t.f32(), t.size()) == 0; }

struct Adapters {
  cpu::CpuOps ops{1, cpu::Precision::f32, cpu::Backend::native};
  ModelConfig config = ModelConfig::load(golden_directory("qwen3_vl"));
  std::unique_ptr<Adapter> load(const std::string& directory) { return Adapter::load(ops, config.text, directory); }
  Adapter make(const LoraSpec& lora) { return Adapter(ops, config.text, lora); }
};

/// The golden adapter with its config changed.
void load_with(const std::string& from, const std::string& to) {
  TempDir dir;
  const std::string golden = golden_directory("qwen3_vl") + "/adapter";
  std::filesystem::copy_file(golden + "/adapter_model.safetensors", dir / "adapter_model.safetensors");
  write_file(dir / "adapter_config.json", {replaced(read_file(golden + "/adapter_config.json", 1 << 20), from, to)});
  Adapters().load(dir.path());
}

/// The golden adapter with its tensors changed.
void load_with_tensors(const std::function<void(std::vector<NamedTensor>&)>& change) {
  TempDir dir;
  const std::string golden = golden_directory("qwen3_vl") + "/adapter";
  std::filesystem::copy_file(golden + "/adapter_config.json", dir / "adapter_config.json");
  const SafeTensors file = SafeTensors::open_file(golden + "/adapter_model.safetensors");
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : file.tensors()) tensors.push_back({name, tensor});
  change(tensors);
  write_safetensors(dir / "adapter_model.safetensors", tensors, {});
  Adapters().load(dir.path());
}

}  // namespace

TEST("optimizer: a run that was saved and loaded goes on bit for bit, dropout included") {
  TempDir dir;
  Engine whole(spec_with_lora());
  train(whole, 3);
  whole.save_state(dir / "state");
  train(whole, 2);

  Engine resumed(spec_with_lora(5));
  CHECK(resumed.step() == 0);
  resumed.load_state(dir / "state");
  CHECK(resumed.step() == 3);
  train(resumed, 2);
  CHECK(same_bits(host(whole, whole.adapter()->param()), host(resumed, resumed.adapter()->param())));
  CHECK(same_bits(host(whole, whole.optimizer().moment1()), host(resumed, resumed.optimizer().moment1())));
  CHECK(same_bits(host(whole, whole.optimizer().moment2()), host(resumed, resumed.optimizer().moment2())));

  whole.save_state(dir / "a");
  resumed.save_state(dir / "b");
  CHECK(read_file(dir / "a/optimizer.safetensors", 1 << 24) == read_file(dir / "b/optimizer.safetensors", 1 << 24));

  // The masks did play a part: without dropout the same state goes elsewhere.
  EngineSpec dry = spec_with_lora();
  dry.lora->dropout = 0;
  Engine other(dry);
  other.load_state(dir / "state");
  train(other, 2);
  CHECK(!same_bits(host(whole, whole.adapter()->param()), host(other, other.adapter()->param())));
}

TEST("optimizer: a step that is repeated draws its masks again, to the bit") {
  Engine engine(spec_with_lora());
  const Objective objective = Objective::make({"fire", 0.1, 0.01, 0.1, 0.5, KlReduction::sum});
  const auto gradient = [&] {
    engine.accumulate(text_pairs(), objective, single_step, nullptr);
    return host(engine, engine.optimizer().gradient());
  };
  train(engine, 1);  // B is no longer 0
  const std::vector<float> first = gradient();
  std::vector<float> twice = gradient();  // the same pairs again in one step: the same masks
  for (float& x : twice) x /= 2;
  const int64_t n = static_cast<int64_t>(first.size());
  CHECK(distance(twice.data(), first.data(), n) <= 1e-6 * norm(first.data(), n));  // f32 sums in another order
  engine.zero_grad();
  CHECK(same_bits(gradient(), first));
  // An update that is refused is no step.
  std::vector<float> bad = first;
  bad[0] = NAN;
  engine.ops().upload(bad.data(), engine.optimizer().gradient());
  CHECK_ERROR(Code::nonfinite, ("step 2"), engine.update(adamw_spec));
  CHECK(same_bits(gradient(), first));
}

TEST("optimizer: state of a build that counted passes is taken, without its counter") {
  TempDir dir;
  Engine engine(spec_with_lora());
  train(engine, 2);
  engine.save_state(dir / "new");
  const SafeTensors file = SafeTensors::open_file(dir / "new/optimizer.safetensors");
  const auto load_old = [&](int64_t step, int64_t pass) {
    int64_t counters[2] = {step, pass};
    std::vector<NamedTensor> tensors;
    for (const auto& [name, tensor] : file.tensors())
      if (name != "step") tensors.push_back({name, tensor});
    tensors.push_back({"counters", Tensor(counters, DType::i64, {2})});
    make_directories(dir / "old");
    write_safetensors(dir / "old/optimizer.safetensors", tensors, {});
    Engine old(spec_with_lora());
    old.load_state(dir / "old");
    CHECK(old.step() == step);
    train(old, 1);
    return host(old, old.adapter()->param());
  };
  const std::vector<float> one = load_old(2, 2), other = load_old(2, 900);
  train(engine, 1);
  const std::vector<float> went_on = host(engine, engine.adapter()->param());
  CHECK(same_bits(one, went_on) && same_bits(other, went_on));
  CHECK_ERROR(Code::checkpoint, ("step", "range"), load_old(-1, 0));
}

TEST("optimizer: state of another adapter is refused") {
  TempDir dir;
  Engine engine(spec_with_lora());
  CHECK_ERROR(Code::invalid_argument, ("no training state"), engine.save_state(dir.path()));
  train(engine, 1);
  engine.save_state(dir.path());
  EngineSpec wider = spec_with_lora();
  wider.lora->rank = 6;
  Engine other(wider);
  CHECK_ERROR(Code::checkpoint, ("optimizer.safetensors", "param", "LoRA settings"), other.load_state(dir.path()));
  CHECK_ERROR(Code::io, ("optimizer.safetensors"), other.load_state(dir / "absent"));
  EngineSpec none = spec_with_lora();
  none.lora.reset();
  Engine base(none);
  CHECK_ERROR(Code::invalid_argument, ("adapter"), base.load_state(dir.path()));
  CHECK_ERROR(
      Code::invalid_argument, ("adapter"),
      base.accumulate(text_pairs(), Objective::make({"dpo", 0.1, 0, 0, 0, KlReduction::sum}), single_step, nullptr));
}

TEST("optimizer: clipping scales the whole gradient") {
  Adapters a;
  const LoraSpec lora = lora_spec(2);
  Adapter clipped = a.make(lora), scaled = a.make(lora);
  Optimizer one(a.ops, clipped), two(a.ops, scaled);
  Random random(1);
  std::vector<float> g = random.floats(clipped.param().size());
  const double norm_of_g = norm(g.data(), clipped.param().size());
  a.ops.upload(g.data(), one.gradient());
  AdamWSpec s = adamw_spec;
  s.lr = 1e-3;
  s.max_grad_norm = 1.0;
  s.eps = 1e-3;  // large enough for the size of the gradient to matter to AdamW
  CHECK_NEAR(one.update(s), norm_of_g, 1e-9 * norm_of_g);
  // The same by hand.
  const float factor = static_cast<float>(1.0 / (norm_of_g + 1e-6));
  for (float& x : g) x *= factor;
  a.ops.upload(g.data(), two.gradient());
  s.max_grad_norm = 0;
  two.update(s);
  CHECK(std::memcmp(clipped.param().data(), scaled.param().data(), clipped.param().bytes()) == 0);
  // A norm below the limit is left alone, and the gradient is cleared.
  CHECK(all_zero(one.gradient()));
  CHECK(one.step() == 1);
}

TEST("optimizer: a gradient that is not finite changes nothing") {
  Adapters a;
  Adapter adapter = a.make(lora_spec(2));
  Optimizer optimizer(a.ops, adapter);
  for (const float bad : {NAN, INFINITY}) {
    std::vector<float> g(static_cast<size_t>(adapter.param().size()), 1.0f), before(g.size());
    g[17] = bad;
    a.ops.upload(g.data(), optimizer.gradient());
    a.ops.download(adapter.param(), before.data());
    CHECK_ERROR(Code::nonfinite, ("step 1"), optimizer.update(adamw_spec));
    CHECK(std::memcmp(before.data(), adapter.param().data(), adapter.param().bytes()) == 0);
    CHECK(all_zero(optimizer.gradient()) && all_zero(optimizer.moment1()) && optimizer.step() == 0);
  }
}

TEST("optimizer: settings without meaning are refused by name") {
  Adapters a;
  Adapter adapter = a.make(lora_spec(2));
  Optimizer optimizer(a.ops, adapter);
  const auto refused = [&](const char* name, double AdamWSpec::*field, std::initializer_list<double> values) {
    for (const double value : values) {
      AdamWSpec s = adamw_spec;
      s.*field = value;
      CHECK_ERROR(Code::invalid_argument, (std::string("optimizer.") + name), optimizer.update(s));
    }
  };
  refused("lr", &AdamWSpec::lr, {NAN, INFINITY, -1e-9, 1.5, 1e38});
  refused("beta1", &AdamWSpec::beta1, {NAN, -0.1, 1, 2});
  refused("beta2", &AdamWSpec::beta2, {NAN, -0.1, 1, 2});
  refused("eps", &AdamWSpec::eps, {NAN, 0, -1e-8, 1e-60, INFINITY});
  refused("weightDecay", &AdamWSpec::weight_decay, {NAN, -1, 2e6, INFINITY});
  refused("maxGradNorm", &AdamWSpec::max_grad_norm, {NAN, -1, INFINITY});
  CHECK(optimizer.step() == 0);
}

TEST("optimizer: an adapter that is not finite is neither trained on, saved, loaded nor merged") {
  TempDir dir;
  Adapters a;
  for (const float bad : {NAN, INFINITY}) {
    Adapter adapter = a.make(lora_spec(2));
    Optimizer optimizer(a.ops, adapter);
    optimizer.save(dir / "good");
    const LoraModule& m = adapter.modules()[3];
    const std::string key = Adapter::key(m, 'B');
    std::vector<float> b(static_cast<size_t>(2 * m.out));
    b[1] = bad;
    adapter.parameters().assign(m.b_begin, 2 * m.out, b.data());
    CHECK_ERROR(Code::nonfinite, ("step 1", key), optimizer.update(adamw_spec));
    CHECK_ERROR(Code::nonfinite, (key), adapter.save(dir / "adapter", ""));
    CHECK(!file_exists(dir / "adapter/adapter_model.safetensors"));
    CHECK_ERROR(Code::nonfinite, (key), optimizer.save(dir / "state"));
    optimizer.load(dir / "good");
    CHECK(optimizer.step() == 0);
    optimizer.update(adamw_spec);
    a.ops.upload(b.data(), adapter.b_of(optimizer.moment2(), m));
    CHECK_ERROR(Code::nonfinite, ("second moment"), optimizer.save(dir / "state"));
    std::vector<float> broken;
    CHECK_ERROR(Code::nonfinite, ("adapter_model.safetensors", key), load_with_tensors([&](auto& tensors) {
                  for (NamedTensor& t : tensors) {
                    if (t.name != key) continue;
                    broken.assign(t.tensor.f32(), t.tensor.f32() + t.tensor.size());
                    broken[0] = bad;
                    t.tensor = view(broken, {t.tensor.dim(0), t.tensor.dim(1)});
                  }
                }));
  }
}

TEST("optimizer: passes that were given up are drawn again") {
  Engine engine(spec_with_lora());
  const Objective objective = Objective::make({"fire", 0.1, 0.01, 0.1, 0.5, KlReduction::sum});
  train(engine, 1);
  engine.accumulate(text_pairs(), objective, single_step, nullptr);
  const std::vector<float> once = host(engine, engine.optimizer().gradient());
  engine.zero_grad();
  engine.accumulate(text_pairs(), objective, single_step, nullptr);
  CHECK(same_bits(once, host(engine, engine.optimizer().gradient())));
}

TEST("optimizer: a step cancelled in backward leaves no part of a gradient") {
  Engine engine(spec_with_lora());
  const Objective objective = Objective::make({"dpo", 0.1, 0, 0, 0, KlReduction::sum});
  const auto start = std::chrono::steady_clock::now();
  engine.accumulate(text_pairs(), objective, single_step, nullptr);
  const auto whole = std::chrono::steady_clock::now() - start;
  const std::vector<float> before = host(engine, engine.optimizer().gradient());
  for (int share = 0; share < 40; ++share) {
    engine.ops().upload(before.data(), engine.optimizer().gradient());
    std::atomic<bool> cancel{false};
    std::thread stopper([&] {
      std::this_thread::sleep_for(whole * share / 40);
      cancel = true;
    });
    try {
      engine.accumulate(text_pairs(), objective, single_step, &cancel);
    } catch (const Error& e) {
      CHECK(e.code() == Code::aborted);
      CHECK(all_zero(engine.optimizer().gradient()) || same_bits(before, host(engine, engine.optimizer().gradient())));
    }
    stopper.join();
  }
}

TEST("optimizer: a cancelled step leaves the gradients as they were") {
  Engine engine(spec_with_lora());
  const Objective objective = Objective::make({"dpo", 0.1, 0, 0, 0, KlReduction::sum});
  engine.accumulate(text_pairs(), objective, single_step, nullptr);
  const std::vector<float> before = host(engine, engine.optimizer().gradient());
  const std::atomic<bool> cancel{true};
  CHECK_ERROR(Code::aborted, (""), engine.accumulate(text_pairs(), objective, single_step, &cancel));
  CHECK(same_bits(before, host(engine, engine.optimizer().gradient())));
}

TEST("adapter: fresh ones leave the model as it is and depend on their seed") {
  Adapters a;
  LoraSpec lora = lora_spec(4);
  const Adapter one = a.make(lora), again = a.make(lora);
  CHECK(one.modules().size() == 4 * 7);
  CHECK(std::memcmp(one.param().data(), again.param().data(), one.param().bytes()) == 0);
  lora.seed = 1;
  const Adapter other = a.make(lora);
  CHECK(std::memcmp(one.param().data(), other.param().data(), one.param().bytes()) != 0);
  for (const LoraModule& m : one.modules()) {
    const Tensor matrix = one.a_of(one.param(), m);
    const float bound = 1 / std::sqrt(static_cast<float>(m.in));
    float largest = 0;
    double mean = 0;
    for (int64_t i = 0; i < matrix.size(); ++i) {
      largest = std::max(largest, std::abs(matrix.f32()[i]));
      mean += matrix.f32()[i] / static_cast<double>(matrix.size());
    }
    CHECK(largest <= bound && largest > 0.9f * bound);
    CHECK(std::abs(mean) < 5 * bound / std::sqrt(3.0 * static_cast<double>(matrix.size())));
    CHECK(norm(one.b_of(one.param(), m).f32(), 4 * m.out) == 0);
  }
  for (const int64_t rank : {0, -1}) {
    lora.rank = rank;
    CHECK_ERROR(Code::invalid_argument, ("rank"), a.make(lora));
  }
  lora.rank = 2;
  lora.targets.clear();
  CHECK_ERROR(Code::invalid_argument, ("targets"), a.make(lora));
  lora.targets = {Proj::q};
  lora.dropout = 1;
  CHECK_ERROR(Code::invalid_argument, ("dropout"), a.make(lora));
}

TEST("adapter: scale of LoRA and of rsLoRA") {
  LoraSpec lora = lora_spec(128);
  CHECK(lora.scale() == 2);
  lora.rslora = true;
  CHECK_NEAR(lora.scale(), 22.627416997969522, 1e-14);
}

TEST("adapter: PEFT round trip") {
  TempDir dir;
  Adapters a;
  for (const char* golden : {"qwen3_vl", "qwen3_vl_b"}) {
    a.config = ModelConfig::load(golden_directory(golden));
    const auto loaded = a.load(golden_directory(golden) + "/adapter");
    loaded->save(dir / golden, "base \"model\"");
    const auto again = a.load(dir / golden);
    CHECK(again->spec().rslora == (std::string(golden) == "qwen3_vl_b"));
    CHECK(again->spec().scale() == loaded->spec().scale() && again->spec().rank == loaded->spec().rank);
    CHECK(std::memcmp(loaded->param().data(), again->param().data(), loaded->param().bytes()) == 0);
    CHECK(Json::load(dir / (std::string(golden) + "/adapter_config.json")).at("base_model_name_or_path").string() ==
          "base \"model\"");
    const SafeTensors before = SafeTensors::open_file(golden_directory(golden) + "/adapter/adapter_model.safetensors");
    const SafeTensors after = SafeTensors::open_file(dir / (std::string(golden) + "/adapter_model.safetensors"));
    CHECK(before.tensors().size() == after.tensors().size());
    for (const auto& [name, t] : before.tensors()) CHECK(after.find(name) && after.at(name).describe() == t.describe());
  }
  // a part of the linears, with dropout
  LoraSpec lora = lora_spec(3);
  lora.targets = {Proj::v, Proj::down};
  a.config = ModelConfig::load(golden_directory("qwen3_vl"));
  a.make(lora).save(dir / "part", "");
  const auto part = a.load(dir / "part");
  CHECK(part->spec().dropout == 0.05f && part->modules().size() == 8);
  CHECK(part->find(0, Proj::v) && part->find(3, Proj::down) && !part->find(0, Proj::q));
  CHECK(Json::load(dir / "part/adapter_config.json").at("target_modules").string() ==
        R"(.*language_model\.layers\.\d+\.(self_attn\.v_proj|mlp\.down_proj))");
}

TEST("adapter: settings that change the arithmetic are refused by name") {
  auto refused = [](const std::string& from, const std::string& to, const std::string& word) {
    CHECK_ERROR(Code::unsupported, ("adapter_config.json", word), load_with(from, to));
  };
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias", "use_qalora"})
    refused("\"" + std::string(key) + "\": false", "\"" + std::string(key) + "\": true", key);
  for (const char* key : {"rank_pattern", "alpha_pattern"})
    refused("\"" + std::string(key) + "\": {}", "\"" + std::string(key) + "\": {\"q_proj\": 4}", key);
  for (const char* key : {"modules_to_save", "layer_replication", "trainable_token_indices", "target_parameters"})
    refused("\"" + std::string(key) + "\": null", "\"" + std::string(key) + "\": [\"x\"]", key);
  for (const char* key : {"use_bdlora", "arrow_config", "kasa_config", "monteclora_config", "megatron_config"})
    refused("\"" + std::string(key) + "\": null", "\"" + std::string(key) + "\": {\"nblocks\": 2}", key);
  refused("\"bias\": \"none\"", "\"bias\": \"all\"", "bias");
  refused("\"peft_type\": \"LORA\"", "\"peft_type\": \"IA3\"", "peft_type");
  refused("\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa_niter_4\"", "pissa_niter_4");
  load_with("\"init_lora_weights\": true", "\"init_lora_weights\": \"gaussian\"");
  for (const auto& [from, to, word] : {std::array<const char*, 3>{"\"r\": 8", "\"r\": 0", "r must be positive"},
                                       {"\"r\": 8", "\"rr\": 8", "\"r\""},
                                       {"\"lora_alpha\"", "\"alpha\"", "lora_alpha"},
                                       {"\"lora_dropout\": 0.0", "\"lora_dropout\": 1.5", "lora_dropout"}})
    CHECK_ERROR(Code::checkpoint, ("adapter_config.json", word), load_with(from, to));
}

TEST("adapter: matrices that are missing, misshapen, or belong elsewhere are named") {
  const std::string a = "base_model.model.model.language_model.layers.1.mlp.up_proj.lora_A.weight";
  const std::string b = "base_model.model.model.language_model.layers.1.mlp.up_proj.lora_B.weight";
  for (const std::string& name : {a, b})
    CHECK_ERROR(Code::checkpoint, ("adapter_model.safetensors", name), load_with_tensors([&](auto& tensors) {
                  std::erase_if(tensors, [&](const NamedTensor& t) { return t.name == name; });
                }));
  auto renamed = [&](const std::string& to) {
    CHECK_ERROR(Code::checkpoint, ("adapter_model.safetensors", to), load_with_tensors([&](auto& tensors) {
                  for (NamedTensor& t : tensors)
                    if (t.name == a) t.name = to;
                }));
  };
  renamed("base_model.model.model.visual.blocks.1.attn.q_proj.lora_A.weight");
  renamed("base_model.model.model.vision_tower.layers.1.self_attn.q_proj.lora_A.weight");
  renamed("base_model.model.model.language_model.layers.4.mlp.up_proj.lora_A.weight");
  renamed("base_model.model.model.language_model.layers.x.mlp.up_proj.lora_A.weight");
  renamed("base_model.model.model.language_model.layers.1.mlp.up_proj.lora_A.bias");
  renamed("base_model.model.lm_head.lora_A.weight");
  renamed("model.language_model.layers.1.mlp.gate_proj.lora_A.weight");  // a second one of these
  for (const std::string& name : {a, b})
    CHECK_ERROR(Code::checkpoint, (name, "expected"), load_with_tensors([&](auto& tensors) {
                  for (NamedTensor& t : tensors)
                    if (t.name == name) t.tensor = t.tensor.slice(0, t.tensor.dim(0) - 1);
                }));
  CHECK_ERROR(Code::checkpoint, ("no LoRA"), load_with_tensors([](auto& tensors) { tensors.clear(); }));
}

TEST("adapter: every spelling of a LLaVA's keys loads, the same numbers each time") {
  const std::string golden = golden_directory("llava") + "/adapter",
                    ours = "base_model.model.model.language_model.layers.";
  Adapters a;
  a.config = ModelConfig::load(golden_directory("llava"));
  const auto want = a.load(golden);
  const SafeTensors file = SafeTensors::open_file(golden + "/adapter_model.safetensors");
  for (const char* spelling : {"base_model.model.language_model.model.layers.",  // transformers 4
                               "base_model.model.model.layers."}) {              // LlavaQwen2ForCausalLM
    TempDir dir;
    std::filesystem::copy_file(golden + "/adapter_config.json", dir / "adapter_config.json");
    std::vector<NamedTensor> tensors;
    for (const auto& [name, tensor] : file.tensors()) tensors.push_back({replaced(name, ours, spelling), tensor});
    write_safetensors(dir / "adapter_model.safetensors", tensors, {});
    const auto got = a.load(dir.path());
    CHECK(got->modules().size() == want->modules().size());
    CHECK(std::memcmp(got->param().data(), want->param().data(), want->param().bytes()) == 0);

    // PEFT with target_modules=["q_proj", ...] adapts CLIP as well
    std::vector<float> some(6);
    for (const char* tower :
         {"base_model.model.model.vision_tower.encoder.layers.0.self_attn.q_proj.lora_A.weight",
          "base_model.model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.lora_A.weight",
          "base_model.model.model.visual.blocks.0.mlp.gate_proj.lora_A.weight"}) {
      std::vector<NamedTensor> more = tensors;
      more.push_back({tower, view(some, {2, 3})});
      write_safetensors(dir / "adapter_model.safetensors", more, {});
      CHECK_ERROR(Code::checkpoint, (tower, "vision tower", "exclude_modules"), a.load(dir.path()));
    }
  }
}
