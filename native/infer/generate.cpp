#include "infer/generate.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "tensor/rng.h"

namespace fire {
namespace {

/// A group while its prompts are answered; its prefix is in the cache from its first prompt to the end of its last.
struct Group {
  int64_t prefix;        // tokens
  size_t unfinished;     // prompts
  int64_t place = -1;    // among the prefixes of the cache
  int32_t position = 0;  // of the token after the prefix
};

/// A prompt that is being answered.
struct Active {
  size_t prompt, group;
  int64_t slot;
  StopMatcher stop;
  int64_t length = 0;    // tokens in its own rows of the cache
  int32_t position = 0;  // of the token to be fed
  int32_t token = 0;     // to be fed, once the prompt has been
  bool begun = false;
};

class Generator {
 public:
  Generator(const Context& context, const Adapter* adapter, const std::vector<GenerationPrompt>& prompts,
            const SamplingSpec& sampling, const GenerationEvents& events)
      : context_(context),
        decoder_(context),
        adapter_(adapter),
        prompts_(prompts),
        sampling_(sampling),
        events_(events),
        results_(prompts.size()) {
    const std::vector<PromptGroup> groups = group_prompts(prompts, context.config.image_token_id);
    for (const PromptGroup& g : groups) {
      for (const size_t prompt : g.prompts) queue_.push_back({prompt, groups_.size()});
      groups_.push_back({g.prefix, g.prompts.size()});
    }
    plan_ = plan_cache(prompts, groups, sampling.batch_size, sampling.max_new_tokens);
    for (int64_t s = plan_.slots - 1; s >= 0; --s) free_slots_.push_back(s);
    for (int64_t p = plan_.prefixes - 1; p >= 0; --p) free_places_.push_back(p);
    cache_.emplace(context.ops, context.config.text, plan_.rows());
  }

  std::vector<Generation> run() {
    while (admit()) step();
    return std::move(results_);
  }

 private:
  /// Gives free slots to waiting prompts; false when everything is done. Prompts come group by group, so `active_` has
  /// each group in one piece.
  bool admit() {
    for (; next_ < queue_.size() && !free_slots_.empty(); ++next_) {
      active_.push_back(
          {queue_[next_].prompt, queue_[next_].group, free_slots_.back(), StopMatcher(sampling_.stop_strings.get())});
      free_slots_.pop_back();
    }
    return !active_.empty();
  }

  /// One pass: the whole prompt of those that begin, the newest token of the others. Draws a token for each.
  void step() {
    DecoderInput input;
    for (size_t i = 0; i < active_.size(); ++i) {
      Active& a = active_[i];
      if (i == 0 || active_[i - 1].group != a.group) ++input.plan.groups;
      if (a.begun) {
        append_text(input, a, {&a.token, 1});
      } else {
        begin(input, a);
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

  void begin(DecoderInput& input, Active& a) {
    const GenerationPrompt& prompt = prompts_[a.prompt];
    const std::span<const int32_t> ids(prompt.ids);
    Group& g = groups_[a.group];
    a.begun = true;
    if (g.prefix == 0) {
      a.position = append_start(input, ids, prompt, plan_.own_begin(a.slot));
      a.length = static_cast<int64_t>(ids.size());
      return;
    }
    if (g.place < 0) {
      g.place = free_places_.back();
      free_places_.pop_back();
      g.position = append_start(input, ids.first(static_cast<size_t>(g.prefix)), prompt, plan_.prefix_begin(g.place));
    }
    a.position = g.position;
    append_text(input, a, ids.subspan(static_cast<size_t>(g.prefix)));
  }

  /// The start of a sequence, with all its images, kept at cache rows [at, ...). Returns the position after it.
  int32_t append_start(DecoderInput& input, std::span<const int32_t> ids, const GenerationPrompt& prompt, int64_t at) {
    const int32_t groups = input.plan.groups, row = append_sequence(input, ids, prompt.images, context_.config);
    const int32_t shift = static_cast<int32_t>(at) - row;
    AttentionSpan& span = input.plan.spans.back();
    span.own_begin += shift;
    span.own_end += shift;
    span.group = groups - 1;
    input.plan.groups = groups;
    int32_t last = -1;
    for (size_t i = static_cast<size_t>(row); i < input.ids.size(); ++i) {
      input.plan.key_row[i] += shift;
      input.cache_rows.push_back(input.plan.key_row[i]);
      for (const auto& axis : input.positions) last = std::max(last, axis[i]);
    }
    return last + 1;
  }

  /// Text behind what the cache holds of `a`.
  void append_text(DecoderInput& input, Active& a, std::span<const int32_t> ids) {
    const Group& g = groups_[a.group];
    const int32_t row = static_cast<int32_t>(input.tokens()), count = static_cast<int32_t>(ids.size());
    const int32_t own = static_cast<int32_t>(plan_.own_begin(a.slot)), key = own + static_cast<int32_t>(a.length);
    input.ids.insert(input.ids.end(), ids.begin(), ids.end());
    for (int32_t i = 0; i < count; ++i) {
      for (auto& axis : input.positions) axis.push_back(a.position + i);
      input.plan.key_row.push_back(key + i);
      input.cache_rows.push_back(key + i);
    }
    KeyRange context{0, 0};
    if (g.prefix > 0) {
      const int32_t prefix = static_cast<int32_t>(plan_.prefix_begin(g.place));
      const KeyRange rows{prefix, prefix + static_cast<int32_t>(g.prefix)};
      context = input.plan.add_context({&rows, 1});
    }
    input.plan.spans.push_back(
        {row, row + count, context.begin, context.end, own, key + count, true, input.plan.groups - 1, count == 1});
    a.length += count;
    a.position += count;
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
    const Philox4 bits = philox(prompts_[a.prompt].seed, {static_cast<uint32_t>(results_[a.prompt].tokens.size()), 0,
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
    Group& g = groups_[a.group];
    if (--g.unfinished == 0 && g.place >= 0) free_places_.push_back(g.place);
    if (events_.on_end) events_.on_end(a.prompt, results_[a.prompt]);
  }

  struct Waiting {
    size_t prompt, group;
  };

  const Context& context_;
  const Decoder decoder_;
  const Adapter* adapter_;
  const std::vector<GenerationPrompt>& prompts_;
  const SamplingSpec& sampling_;
  const GenerationEvents& events_;
  std::vector<Generation> results_;
  std::vector<Group> groups_;
  std::vector<Waiting> queue_;
  size_t next_ = 0;  // in the queue
  CachePlan plan_;
  std::vector<int64_t> free_slots_, free_places_;
  std::vector<Active> active_;
  std::optional<KvCache> cache_;
};

}  // namespace

std::vector<Generation> generate(const Context& context, const Adapter* adapter,
                                 const std::vector<GenerationPrompt>& prompts, const SamplingSpec& sampling,
                                 const GenerationEvents& events) {
  if (prompts.empty()) return {};
  if (sampling.max_new_tokens <= 0) throw Error(Code::invalid_argument, "maxNewTokens must be positive");
  if (sampling.stop_strings) sampling.stop_strings->check(context.config.text.vocab_size);
  for (const GenerationPrompt& p : prompts) check_sequence(p.ids, context.config);
  return Generator(context, adapter, prompts, sampling, events).run();
}

}  // namespace fire
