// Generation: what a prompt yields depends on itself alone, the cache changes nothing, sampling draws what it promises.
#include "infer/generate.h"

#include <atomic>
#include <cmath>

#include "cpu/cpu_ops.h"
#include "fixture.h"
#include "verify/golden.h"

using namespace fire;
using namespace fire::test;

namespace {

/// A golden engine with its images encoded and its prompts at hand.
struct Model {
  Golden golden = Golden::load(golden_directory("qwen3_vl_b"), 321);
  Engine engine;
  std::vector<PromptRef> prompts;

  Model() : engine(engine_spec("qwen3_vl_b")) {
    for (const GoldenItem& item : golden.items) {
      for (const GoldenImage& image : item.images)
        engine.encode_image(image.id, {image.height, image.width, static_cast<const uint8_t*>(image.rgb.data())},
                            nullptr);
      prompts.push_back({{item.pair.prompt, item.pair.images}, 40 + prompts.size()});
    }
    // text alone, of other lengths
    Random random(3);
    for (const int64_t length : {1, 2, 65, 17})
      prompts.push_back({{random.ids(length, 0, 300), {}}, 40 + prompts.size()});
  }
  std::vector<Generation> generate(const std::vector<PromptRef>& p, const SamplingSpec& sampling) {
    return engine.generate(p, sampling, true, {}, nullptr);
  }
  /// Several questions of one to `count` tokens about the images of each item, the items taking turns, a text between
  /// them now and then.
  std::vector<PromptRef> questions(int count) {
    Random random(8);
    std::vector<PromptRef> all;
    for (int k = 1; k <= count; ++k) {
      for (const GoldenItem& item : golden.items) {
        std::vector<int32_t> ids = item.pair.prompt;
        ids.resize(end_of_images(ids, engine.config().image_token_id));
        const std::vector<int32_t> tail = random.ids(k, 0, 300);
        ids.insert(ids.end(), tail.begin(), tail.end());
        all.push_back({{ids, item.pair.images}, 90 + all.size()});
      }
      if (k % 2 == 0) all.push_back({{random.ids(3 * k, 0, 300), {}}, 90 + all.size()});
    }
    return all;
  }
};

bool same(const Generation& a, const Generation& b) {
  return a.tokens == b.tokens && a.logprob == b.logprob && a.stopped == b.stopped;
}

SamplingSpec sampled(double temperature, int64_t tokens) { return {tokens, {temperature, 1, 0}, {}, nullptr, 16}; }

}  // namespace

TEST("generate: a prompt yields the same bits alone, in a batch, and in a reused slot") {
  Model m;
  for (const double temperature : {0.0, 1.3}) {
    SamplingSpec s = sampled(temperature, 12);
    s.stop_tokens = {5,   77,  130, 200, 201, 202, 203,
                     204, 205, 206, 207, 208, 209};  // some end early and free their slot
    const std::vector<Generation> batch = m.generate(m.prompts, s);
    for (const int64_t size : {1, 2, 3, 100}) {
      s.batch_size = size;
      const std::vector<Generation> got = m.generate(m.prompts, s);
      for (size_t i = 0; i < got.size(); ++i) CHECK(same(got[i], batch[i]));
    }
    for (size_t i = 0; i < m.prompts.size(); ++i) CHECK(same(m.generate({m.prompts[i]}, s)[0], batch[i]));
  }
}

TEST("generate: a question yields the same bits alone and beside others about its images") {
  Model m;
  std::vector<PromptRef> questions = m.questions(5);
  CHECK(m.golden.items.size() >= 2 && questions.size() >= 12);
  PromptRef bare = questions[0];  // ends with its image: nothing to share
  bare.sequence.ids.resize(bare.sequence.ids.size() - 1);
  questions.push_back(bare);
  for (const double temperature : {0.0, 1.3}) {
    SamplingSpec s = sampled(temperature, 9);
    for (int32_t id = 200; id < 240; ++id) s.stop_tokens.push_back(id);
    std::vector<Generation> alone;
    for (const PromptRef& q : questions) alone.push_back(m.generate({q}, s)[0]);
    const auto ended = std::count_if(alone.begin(), alone.end(), [](const Generation& g) { return g.stopped; });
    CHECK(ended > 0 && ended < static_cast<int64_t>(alone.size()));  // slots and prefixes change hands at all times
    for (const int64_t size : {1, 2, 3, 7, 100}) {
      s.batch_size = size;
      const std::vector<Generation> together = m.generate(questions, s);
      for (size_t i = 0; i < alone.size(); ++i) CHECK(same(together[i], alone[i]));
    }
    std::vector<PromptRef> reversed(questions.rbegin(), questions.rend());
    s.batch_size = 4;
    const std::vector<Generation> backwards = m.generate(reversed, s);
    for (size_t i = 0; i < alone.size(); ++i) CHECK(same(backwards[alone.size() - 1 - i], alone[i]));
  }
}

TEST("generate: a question that is asked again yields what it yields alone, and beginnings are shared") {
  Model m;
  Random random(12);
  const std::vector<int32_t> start = random.ids(20, 0, 300), more = random.ids(18, 0, 300);
  std::vector<PromptRef> prompts;
  const auto add = [&](std::vector<int32_t> ids, const std::vector<std::string>& images) {
    for (uint64_t again = 0; again < 3; ++again) prompts.push_back({{ids, images}, 7 * prompts.size()});
  };
  for (const GoldenItem& item : m.golden.items) {
    add(item.pair.prompt, item.pair.images);
    std::vector<int32_t> longer = item.pair.prompt;
    longer.insert(longer.end(), start.begin(), start.end());
    add(longer, item.pair.images);
    longer.insert(longer.end(), more.begin(), more.end());
    add(longer, item.pair.images);
  }
  std::vector<int32_t> text = start;
  add(text, {});
  text.insert(text.end(), more.begin(), more.end());
  add(text, {});
  for (const double temperature : {0.0, 1.3}) {
    SamplingSpec s = sampled(temperature, 6);
    for (int32_t id = 200; id < 240; ++id) s.stop_tokens.push_back(id);
    std::vector<Generation> alone;
    for (const PromptRef& p : prompts) alone.push_back(m.generate({p}, s)[0]);
    for (const int64_t size : {1, 2, 5, 100}) {
      s.batch_size = size;
      const std::vector<Generation> together = m.generate(prompts, s);
      for (size_t i = 0; i < alone.size(); ++i) CHECK(same(together[i], alone[i]));
    }
  }
}

namespace {

/// Token `image` stands for one image of as many tokens as there are in a row.
Sequence sequence_of(const std::vector<int32_t>& ids, const ImageFeatures* image) {
  Sequence s{ids, {}, {}, ids.size()};
  for (const int32_t id : ids) s.images.push_back(id == 9 ? image : nullptr);
  for (auto& axis : s.positions) axis.resize(ids.size());
  return s;
}

std::vector<int32_t> joined(std::initializer_list<std::vector<int32_t>> parts) {
  std::vector<int32_t> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace

TEST("generate: who shares what, in which order, in how much cache") {
  const auto *cat = reinterpret_cast<const ImageFeatures*>(1), *dog = reinterpret_cast<const ImageFeatures*>(2);
  const std::vector<int32_t> image(20, 9), question(16, 5), text(30, 1);
  const std::vector<std::pair<std::vector<int32_t>, const ImageFeatures*>> asked{
      {joined({{7}, image, {1}}), cat},               // 0
      {joined({{7}, image, {1}}), dog},               // 1
      {joined({{7}, image, question, {2, 2}}), cat},  // 2
      {text, nullptr},                                // 3
      {joined({{7}, image, question, {3}}), cat},     // 4
      {joined({{7}, image, {3}}), dog},               // 5
      {text, nullptr},                                // 6
      {joined({{7}, image}), dog},                    // 7 ends with its image: that is its own
      {joined({{7}, image, {1, 1, 1}}), cat},         // 8 begins like 0, but not for long
  };
  std::vector<Sequence> sequences;
  for (const auto& [ids, features] : asked) sequences.push_back(sequence_of(ids, features));
  const SharedParts shared = share_parts(sequences);
  std::vector<size_t> order = shared.order;
  CHECK(shared.parts.size() == 4);
  const std::vector<size_t> own_begins{21, 21, 37, 29, 37, 21, 29, 0, 21};
  for (size_t i = 0; i < asked.size(); ++i) CHECK(shared.own_begin(i) == own_begins[i]);
  for (const SharedPart& part : shared.parts) {
    // those that share it follow one another
    std::vector<size_t> places;
    for (size_t k = 0; k < order.size(); ++k)
      for (int32_t p = shared.of[order[k]]; p >= 0; p = shared.parts[static_cast<size_t>(p)].parent)
        if (&shared.parts[static_cast<size_t>(p)] == &part) places.push_back(k);
    CHECK(places.size() == part.prompts && places.back() - places.front() + 1 == places.size());
  }
  std::sort(order.begin(), order.end());
  for (size_t i = 0; i < order.size(); ++i) CHECK(order[i] == i);
  // own rows: the longest part that is not shared and nine of ten new tokens
  const CachePlan wide = plan_cache(sequences, shared, 100, 10), narrow = plan_cache(sequences, shared, 2, 10);
  CHECK(wide.slots == 9 && wide.own_rows == 21 + 9 && wide.levels.size() == 2);
  CHECK(wide.levels[0].places == 3 && wide.levels[0].rows == 29);
  CHECK(wide.levels[1].places == 1 && wide.levels[1].rows == 16);
  CHECK(wide.rows() == 9 * 30 + 3 * 29 + 16);
  CHECK(narrow.slots == 2 && narrow.levels[0].places == 2 && narrow.rows() == 2 * 30 + 2 * 29 + 16);
  CHECK(narrow.own_begin(1) == 30 && narrow.levels[0].place_begin(1) == 60 + 29);
}

TEST("stop strings: found where they end, across tokens") {
  StopStrings stops{
      {"ab", "bcb", "\n\n"}, "abc\n ab", {0, 1, 2, 3, 4, 5, 5, 7}};  // a, b, c, newline, space, nothing, "ab"
  stops.check(7);
  std::string bytes = stops.bytes;
  Random random(5);
  int found = 0;
  for (int trial = 0; trial < 300; ++trial) {
    StopMatcher matcher(&stops);
    std::string text;
    for (int i = 0; i < 12; ++i) {
      const int32_t token = static_cast<int32_t>(random.integer(0, 6));
      const size_t begin = static_cast<size_t>(stops.offsets[static_cast<size_t>(token)]),
                   end = static_cast<size_t>(stops.offsets[static_cast<size_t>(token) + 1]);
      text += bytes.substr(begin, end - begin);
      const bool there = std::any_of(stops.strings.begin(), stops.strings.end(),
                                     [&](const std::string& s) { return text.find(s) != std::string::npos; });
      CHECK(matcher.push(token) == there);
      found += there;
      if (there) break;
    }
  }
  CHECK(found > 100 && found < 300);
  CHECK(!StopMatcher(nullptr).push(3));
  CHECK_ERROR(Code::invalid_argument, ("vocabulary of 8"), stops.check(8));
  stops.strings.push_back("");
  CHECK_ERROR(Code::invalid_argument, ("empty"), stops.check(7));
}

TEST("generate: a stop string ends its prompt alone") {
  Model m;
  SamplingSpec s = sampled(1.3, 12);
  const std::vector<PromptRef> questions = m.questions(3);
  const std::vector<Generation> free = m.generate(questions, s);
  auto stops = std::make_shared<StopStrings>();
  for (int32_t t = 0; t <= 333; ++t) stops->offsets.push_back(t);
  for (int32_t t = 0; t < 333; ++t) stops->bytes += static_cast<char>('a' + t % 26);
  const auto spelled = [&](const Generation& g, size_t from, size_t count) {
    std::string text;
    for (size_t i = from; i < from + count; ++i) text += stops->bytes[static_cast<size_t>(g.tokens[i])];
    return text;
  };
  stops->strings = {spelled(free[0], 4, 2), spelled(free[2], 0, 3)};
  s.stop_strings = stops;
  size_t stopped = 0;
  for (const int64_t size : {1, 4, 100}) {
    s.batch_size = size;
    const std::vector<Generation> got = m.generate(questions, s);
    for (size_t i = 0; i < got.size(); ++i) {
      size_t end = 0;  // the first length at which the text holds a string
      do ++end;
      while (end < 12 && std::none_of(stops->strings.begin(), stops->strings.end(), [&](const std::string& stop) {
               return spelled(free[i], 0, end).find(stop) != std::string::npos;
             }));
      CHECK(got[i].tokens.size() == end &&
            std::equal(got[i].tokens.begin(), got[i].tokens.end(), free[i].tokens.begin()));
      CHECK(got[i].stopped == (end < 12));
      stopped += got[i].stopped;
    }
  }
  CHECK(stopped >= 6 && stopped < 3 * questions.size());
  stops->offsets.pop_back();
  CHECK_ERROR(Code::invalid_argument, ("333"), m.generate(questions, s));
}

TEST("generate: the cache agrees with a full forward") {
  Model m;
  const std::vector<Generation> got = m.generate(m.prompts, sampled(0.8, 10));
  for (size_t i = 0; i < got.size(); ++i) {
    SequenceRef sequence = m.prompts[i].sequence;
    const size_t prompt = sequence.ids.size();
    sequence.ids.insert(sequence.ids.end(), got[i].tokens.begin(), got[i].tokens.end());
    const std::vector<float> logps = m.engine.logprobs({sequence}, true, nullptr)[0];
    double sum = 0;
    for (size_t t = prompt - 1; t < logps.size(); ++t) sum += static_cast<double>(logps[t]);
    CHECK(got[i].tokens.size() == 10 && !got[i].stopped);
    CHECK_NEAR(got[i].logprob, sum, 2e-5);  // ten logits of up to 10, log-sum-exp in f32 there and in f64 here
  }
}

TEST("generate: stop tokens and the limit of tokens") {
  Model m;
  const std::vector<PromptRef> one{m.prompts[0]};
  const Generation free = m.generate(one, sampled(0, 8))[0];
  CHECK(free.tokens.size() == 8 && !free.stopped);
  SamplingSpec s = sampled(0, 8);
  size_t at = 1;  // the first token that did not occur before
  while (std::find(free.tokens.begin(), free.tokens.begin() + static_cast<std::ptrdiff_t>(at), free.tokens[at]) !=
         free.tokens.begin() + static_cast<std::ptrdiff_t>(at))
    ++at;
  s.stop_tokens = {free.tokens[at]};
  const Generation stopped = m.generate(one, s)[0];
  CHECK(stopped.stopped && stopped.tokens.size() == at);
  CHECK(std::equal(stopped.tokens.begin(), stopped.tokens.end(), free.tokens.begin()));
  // the stop token's log-probability counts
  CHECK(stopped.logprob == m.generate(one, sampled(0, static_cast<int64_t>(at) + 1))[0].logprob);
  s.stop_tokens = {free.tokens[0]};
  const Generation nothing = m.generate(one, s)[0];
  CHECK(nothing.stopped && nothing.tokens.empty() && nothing.logprob < 0);
  CHECK(m.generate({}, s).empty());
  CHECK_ERROR(Code::invalid_argument, ("maxNewTokens"), m.generate(one, sampled(0, 0)));
  CHECK_ERROR(Code::invalid_argument, ("no tokens"), m.generate({{{{}, {}}, 0}}, sampled(0, 4)));
  CHECK_ERROR(Code::invalid_argument, ("333"), m.generate({{{{333}, {}}, 0}}, sampled(0, 4)));
  CHECK_ERROR(Code::invalid_argument, ("\"nope\""), m.generate({{{{1}, {"nope"}}, 0}}, sampled(0, 4)));
}

TEST("generate: seeds, and settings that amount to greedy") {
  Model m;
  const std::vector<Generation> greedy = m.generate(m.prompts, sampled(0, 8)),
                                warm = m.generate(m.prompts, sampled(2, 8));
  CHECK(same(warm[0], m.generate(m.prompts, sampled(2, 8))[0]));
  std::vector<PromptRef> reseeded = m.prompts;
  for (PromptRef& p : reseeded) p.seed += 1000;
  const std::vector<Generation> other = m.generate(reseeded, sampled(2, 8));
  SamplingSpec top_k = sampled(2, 8), top_p = sampled(2, 8), cold = sampled(1e-6, 8);
  top_k.rule.top_k = 1;
  top_p.rule.top_p = 1e-9;
  const std::vector<Generation> k = m.generate(m.prompts, top_k), p = m.generate(m.prompts, top_p),
                                c = m.generate(m.prompts, cold);
  for (size_t i = 0; i < greedy.size(); ++i) {
    CHECK(warm[i].tokens != other[i].tokens && warm[i].tokens != greedy[i].tokens);
    CHECK(same(k[i], greedy[i]) && same(p[i], greedy[i]) && same(c[i], greedy[i]));
  }
}

TEST("generate: tokens are reported as they come, and a cancel is heard") {
  Model m;
  std::vector<std::vector<int32_t>> seen(m.prompts.size());
  std::vector<Generation> ended(m.prompts.size());
  size_t ends = 0;
  std::atomic<bool> cancel{false};
  SamplingSpec s = sampled(0, 6);
  s.batch_size = 2;
  const std::vector<Generation> got =
      m.engine.generate(m.prompts, s, true,
                        {[&](size_t prompt, int32_t token) { seen[prompt].push_back(token); },
                         [&](size_t prompt, const Generation& result) {
                           ended[prompt] = result;
                           ++ends;
                         }},
                        &cancel);
  for (size_t i = 0; i < got.size(); ++i) CHECK(seen[i] == got[i].tokens && same(ended[i], got[i]));
  CHECK(ends == got.size());
  int tokens = 0;
  CHECK_ERROR(Code::aborted, (""),
              m.engine.generate(m.prompts, s, true,
                                {[&](size_t, int32_t) {
                                   if (++tokens == 5) cancel = true;
                                 },
                                 {}},
                                &cancel));
  CHECK(tokens < 12);
  cancel = false;  // and the engine goes on
  CHECK(same(m.engine.generate(m.prompts, s, true, {}, &cancel)[3], got[3]));
}

TEST("generate: logits that are not finite are an error that names the prompt") {
  Model m;
  std::vector<float> broken = m.engine.ops().download_f32(m.engine.adapter()->param());
  broken.back() = NAN;
  m.engine.adapter()->parameters().assign(0, static_cast<int64_t>(broken.size()), broken.data());
  CHECK_ERROR(Code::nonfinite, ("prompt 0"), m.generate(m.prompts, sampled(0, 4)));
}

TEST("sampling: one row of logits, every draw") {
  std::vector<float> logits{1.0f, 3.0f, 2.0f, 3.0f, -50.0f, 0.5f};
  const SamplingRule greedy{0, 1, 0};
  SamplingRule s = greedy;
  cpu::CpuOps device(1, cpu::Precision::f32, cpu::Backend::native);
  auto sample_token = [&](const SamplingRule& rule, double uniform) {
    return device.sample(view(logits, {1, 6}), rule, std::span(&uniform, 1))[0].token;
  };
  CHECK(sample_token(s, 0.99) == 1);  // greedy: the lowest id among equals
  // A fine grid over [0, 1) must give each token its share of the distribution.
  auto shares = [&](const SamplingRule& sampling) {
    std::vector<double> share(logits.size());
    constexpr int n = 20000;
    for (int i = 0; i < n; ++i) share[static_cast<size_t>(sample_token(sampling, (i + 0.5) / n))] += 1.0 / n;
    return share;
  };
  auto check_shares = [&](const SamplingRule& sampling, const std::vector<size_t>& kept) {
    std::vector<double> want(logits.size());
    double total = 0;
    for (const size_t k : kept) total += want[k] = std::exp(static_cast<double>(logits[k]) / sampling.temperature);
    const std::vector<double> got = shares(sampling);
    for (size_t k = 0; k < got.size(); ++k) CHECK_NEAR(got[k], want[k] / total, 1e-4);  // a grid of 5e-5
  };
  for (const double temperature : {0.3, 1.0, 4.0}) {
    s.temperature = temperature;
    check_shares(s, {0, 1, 2, 3, 4, 5});
  }
  s.temperature = 1;
  s.top_k = 3;
  check_shares(s, {1, 3, 2});
  s.top_k = 100;
  check_shares(s, {0, 1, 2, 3, 4, 5});
  s.top_k = 0;
  // shares: .387 .387 .142 .052 ...: the smallest set that reaches p
  s.top_p = 0.38;
  check_shares(s, {1});
  s.top_p = 0.39;
  check_shares(s, {1, 3});
  s.top_p = 0.78;
  check_shares(s, {1, 3, 2});
  s.top_k = 2;  // first top-k, then top-p of what is left: .5 .5
  s.top_p = 0.49;
  check_shares(s, {1});
  s.top_p = 0;
  check_shares(s, {1});
  s = greedy;
  s.temperature = 1;
  CHECK(sample_token(s, 0) == 1);
  CHECK(sample_token(s, 1 - 0x1p-53) == 4 || sample_token(s, 1 - 0x1p-53) == 5);
}
