#include "infer/generate.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "tensor/rng.h"

namespace fire {
namespace {

/// A shared part while its prompts are answered: it is in the cache from its first prompt to the end of its last.
struct Part {
  size_t unfinished;   // prompts
  int64_t place = -1;  // among those of its level in the cache
  int64_t pass = -1;   // the last pass whose plan has `context`
  KeyRange context{};  // what rows behind it see, in that plan
};

/// A prompt that is being answered.
struct Active {
  size_t prompt;
  int64_t slot;
  StopMatcher stop;
  int64_t length = 0;    // tokens in its own rows of the cache
  int32_t position = 0;  // of the token to be fed
  int32_t token = 0;     // to be fed, once the prompt has been
  bool begun = false;
};

class Generator {
 public:
  Generator(const Context& context, const Adapter* adapter, const std::vector<Sequence>& prompts,
            std::span<const uint64_t> seeds, const SamplingSpec& sampling, const GenerationEvents& events)
      : context_(context),
        decoder_(context),
        adapter_(adapter),
        prompts_(prompts),
        seeds_(seeds),
        sampling_(sampling),
        events_(events),
        results_(prompts.size()),
        shared_(share_parts(prompts)) {
    for (const SharedPart& part : shared_.parts) parts_.push_back({part.prompts});
    plan_ = plan_cache(prompts, shared_, sampling.batch_size, sampling.max_new_tokens);
    for (int64_t s = plan_.slots - 1; s >= 0; --s) free_slots_.push_back(s);
    for (const CachePlan::Level& level : plan_.levels) {
      std::vector<int64_t>& places = free_places_.emplace_back();
      for (int64_t p = level.places - 1; p >= 0; --p) places.push_back(p);
    }
    cache_.emplace(context.ops, context.config.text, plan_.rows());
  }

  std::vector<Generation> run() {
    while (admit()) step();
    return std::move(results_);
  }

 private:
  /// Gives free slots to waiting prompts; false when everything is done. Prompts come tree by tree, so `active_` has
  /// each tree in one piece.
  bool admit() {
    for (; next_ < shared_.order.size() && !free_slots_.empty(); ++next_) {
      active_.push_back({shared_.order[next_], free_slots_.back(), StopMatcher(sampling_.stop_strings.get())});
      free_slots_.pop_back();
    }
    return !active_.empty();
  }

  /// One pass: the whole prompt of those that begin, the newest token of the others. Draws a token for each.
  void step() {
    DecoderInput input;
    ++pass_;
    for (size_t i = 0; i < active_.size(); ++i) {
      Active& a = active_[i];
      if (i == 0 || shared_.tree[active_[i - 1].prompt] != shared_.tree[a.prompt]) ++input.plan.groups;
      if (a.begun) {
        feed_token(input, a);
      } else {
        feed_prompt(input, a);
      }
      input.read_rows.push_back(static_cast<int32_t>(input.tokens()) - 1);
    }
    const std::vector<SampledToken> drawn = draw(input);
    std::vector<Active> stepped;
    stepped.swap(active_);
    for (size_t i = 0; i < stepped.size(); ++i) {
      if (accept(stepped[i], drawn[i])) {
        active_.push_back(std::move(stepped[i]));
      } else {
        finish(stepped[i]);
      }
    }
  }

  void feed_prompt(DecoderInput& input, Active& a) {
    const Sequence& s = prompts_[a.prompt];
    const KeyRange context = context_behind(input, shared_.of[a.prompt]);
    const size_t begin = shared_.own_begin(a.prompt), end = s.ids.size();
    a.begun = true;
    a.length = static_cast<int64_t>(end - begin);
    for (const auto& axis : s.positions)
      a.position = std::max(a.position, *std::max_element(axis.begin(), axis.end()) + 1);
    append_rows(input, s, begin, end);
    attend(input, a.length, context, plan_.own_begin(a.slot), 0, false);
  }

  void feed_token(DecoderInput& input, Active& a) {
    const KeyRange context = context_behind(input, shared_.of[a.prompt]);
    input.ids.push_back(a.token);
    for (auto& axis : input.positions) axis.push_back(a.position);
    attend(input, 1, context, plan_.own_begin(a.slot), a.length, true);
    ++a.length;
    ++a.position;
  }

  /// What rows behind a part see, in the plan of this pass. A part that is not in the cache yet is fed first.
  KeyRange context_behind(DecoderInput& input, int32_t index) {
    if (index < 0) return {0, 0};
    Part& part = parts_[static_cast<size_t>(index)];
    if (part.pass == pass_) return part.context;
    const SharedPart& tokens = shared_.parts[static_cast<size_t>(index)];
    const KeyRange above = context_behind(input, tokens.parent);
    const int64_t rows = static_cast<int64_t>(tokens.rows());
    const bool begins = part.place < 0;
    if (begins) {
      std::vector<int64_t>& places = free_places_[tokens.level];
      part.place = places.back();
      places.pop_back();
    }
    const int64_t at = plan_.levels[tokens.level].place_begin(part.place);
    if (begins) {
      append_rows(input, prompts_[tokens.prompt], tokens.begin, tokens.end);
      attend(input, rows, above, at, 0, false);
    }
    std::vector<KeyRange> ranges(input.plan.ranges.begin() + above.begin, input.plan.ranges.begin() + above.end);
    ranges.push_back({static_cast<int32_t>(at), static_cast<int32_t>(at + rows)});
    part.pass = pass_;
    return part.context = input.plan.add_context(ranges);
  }

  /// The last `count` rows of the input go to the cache behind the `length` rows that are at `own` already, and see
  /// those and the context.
  void attend(DecoderInput& input, int64_t count, KeyRange context, int64_t own, int64_t length, bool decodes) {
    const int32_t end = static_cast<int32_t>(input.tokens()), begin = end - static_cast<int32_t>(count);
    const int32_t first_key = static_cast<int32_t>(own), key = static_cast<int32_t>(own + length);
    for (int32_t i = 0; i < end - begin; ++i) {
      input.plan.key_row.push_back(key + i);
      input.cache_rows.push_back(key + i);
    }
    input.plan.spans.push_back(
        {begin, end, context.begin, context.end, first_key, key + (end - begin), true, input.plan.groups - 1, decodes});
  }

  /// Runs the pass and draws a token for each active prompt.
  std::vector<SampledToken> draw(const DecoderInput& input) {
    Arena::Scope scope(context_.arena);
    DecoderPass pass;
    pass.adapter = adapter_;
    pass.cache = &*cache_;
    const Tensor hidden = decoder_.forward(input, pass, nullptr);
    Tensor logits = context_.arena.f32({static_cast<int64_t>(active_.size()), context_.config.text.vocab_size});
    decoder_.head(hidden, 0, logits);
    std::vector<double> uniforms;
    for (const Active& a : active_) uniforms.push_back(uniform_of(a));
    return context_.ops.sample(logits, sampling_.rule, uniforms);
  }

  /// The draw for the next token of a prompt: a value of its seed and of how many it has alone.
  double uniform_of(const Active& a) const {
    const Philox4 bits = philox(seeds_[a.prompt], {static_cast<uint32_t>(results_[a.prompt].tokens.size()), 0,
                                                   static_cast<uint32_t>(RngStream::sampling), 0});
    return uniform53(bits[0], bits[1]);
  }

  /// True when the prompt goes on.
  bool accept(Active& a, const SampledToken& drawn) {
    if (std::isnan(drawn.logprob))
      throw Error(Code::nonfinite, "prompt " + std::to_string(a.prompt) + " gave logits that are not finite numbers");
    Generation& result = results_[a.prompt];
    a.token = drawn.token;
    result.logprob += drawn.logprob;
    const auto& stops = sampling_.stop_tokens;
    if (std::find(stops.begin(), stops.end(), a.token) != stops.end()) {
      result.stopped = true;
      return false;
    }
    result.tokens.push_back(a.token);
    if (events_.on_token) events_.on_token(a.prompt, a.token);
    result.stopped = a.stop.push(a.token);
    return !result.stopped && static_cast<int64_t>(result.tokens.size()) < sampling_.max_new_tokens;
  }

  void finish(const Active& a) {
    free_slots_.push_back(a.slot);
    for (int32_t p = shared_.of[a.prompt]; p >= 0; p = shared_.parts[static_cast<size_t>(p)].parent) {
      Part& part = parts_[static_cast<size_t>(p)];
      if (--part.unfinished == 0) free_places_[shared_.parts[static_cast<size_t>(p)].level].push_back(part.place);
    }
    if (events_.on_end) events_.on_end(a.prompt, results_[a.prompt]);
  }

  const Context& context_;
  const Decoder decoder_;
  const Adapter* adapter_;
  const std::vector<Sequence>& prompts_;
  const std::span<const uint64_t> seeds_;
  const SamplingSpec& sampling_;
  const GenerationEvents& events_;
  std::vector<Generation> results_;
  const SharedParts shared_;
  std::vector<Part> parts_;
  size_t next_ = 0;    // of shared_.order
  int64_t pass_ = -1;  // of the decoder
  CachePlan plan_;
  std::vector<int64_t> free_slots_;
  std::vector<std::vector<int64_t>> free_places_;  // by level
  std::vector<Active> active_;
  std::optional<KvCache> cache_;
};

}  // namespace

std::vector<Generation> generate(const Context& context, const Adapter* adapter, const std::vector<Sequence>& prompts,
                                 std::span<const uint64_t> seeds, const SamplingSpec& sampling,
                                 const GenerationEvents& events) {
  if (prompts.empty()) return {};
  if (sampling.max_new_tokens <= 0) throw Error(Code::invalid_argument, "maxNewTokens must be positive");
  if (sampling.stop_strings) sampling.stop_strings->check(context.config.text.vocab_size);
  return Generator(context, adapter, prompts, seeds, sampling, events).run();
}

}  // namespace fire
