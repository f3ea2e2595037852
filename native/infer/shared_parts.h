// Which prompts of a call share parts of the KV cache, in which order they are answered, and how much cache that takes.
#pragma once

#include <span>
#include <vector>

#include "model/sequence_tree.h"

namespace fire {

/// A run of prompt tokens that two prompts or more begin with, after their common parts before it.
struct SharedPart {
  int32_t parent;     // -1: none
  size_t prompt;      // one of them
  size_t begin, end;  // of its tokens
  size_t level;       // parts above it
  size_t prompts;     // how many share it
  size_t rows() const { return end - begin; }
};

struct SharedParts {
  /// Parents first.
  std::vector<SharedPart> parts;
  /// The last part of each prompt; -1: it shares nothing. What follows is its own: at least its last token, whose row
  /// the first draw needs.
  std::vector<int32_t> of;
  /// Every prompt once; those that share a part follow one another.
  std::vector<size_t> order;
  /// The tree of each prompt: prompts of different trees share nothing.
  std::vector<size_t> tree;

  /// Where the own tokens of a prompt begin.
  size_t own_begin(size_t prompt) const { return of[prompt] < 0 ? 0 : parts[static_cast<size_t>(of[prompt])].end; }
};

/// Of the prompts of a call. Runs that are too short to be worth rows of their own are not
/// shared.
SharedParts share_parts(std::vector<Sequence> prompts);

/// Rows of the KV cache: [slots][own_rows] for what each running prompt has to itself, then for each level of parts
/// [places][rows]. Answered in the order of SharedParts, no more parts of a level are in use than there are slots.
struct CachePlan {
  struct Level {
    int64_t begin = 0, places = 0, rows = 0;
    int64_t place_begin(int64_t place) const { return begin + place * rows; }
  };
  int64_t slots = 0, own_rows = 0;
  std::vector<Level> levels;

  int64_t own_begin(int64_t slot) const { return slot * own_rows; }
  int64_t rows() const { return levels.empty() ? slots * own_rows : levels.back().place_begin(levels.back().places); }
};

CachePlan plan_cache(std::span<const Sequence> prompts, const SharedParts& shared, int64_t batch_size,
                     int64_t max_new_tokens);

}  // namespace fire
