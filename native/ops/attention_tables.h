// An attention plan cut into tiles for a GPU: which query rows a block of threads works on and how many keys they see,
// and which queries see a tile of keys. All rows of a query tile share one span, so nothing is decided per element but
// how many keys a row sees.
//
// The keys of a span are numbered in one sequence: those of its context, then its own. A row sees the first so many of
// them, whatever the layout: in a tree of shared parts or as a sequence by itself, its sums run in the same order.
#pragma once

#include <vector>

#include "ops/ops.h"

namespace fire {

constexpr int32_t attention_tile = 64;

/// Keys of the span's context.
int32_t context_keys(const AttentionPlan& plan, const AttentionSpan& span);
/// How many keys of the span's sequence query row `query` sees.
int32_t keys_seen(const AttentionPlan& plan, const AttentionSpan& span, int32_t query);

/// Flat int32 tables, as uploaded.
struct AttentionTables {
  static constexpr int64_t span_columns = 8, range_columns = 2, query_tile_columns = 3, key_tile_columns = 4,
                           key_span_columns = 2;

  /// [spans, 8]: query_begin, query_end, context_begin, context_end (rows of `ranges`), keys of the context, own_begin,
  /// own_end, causal.
  std::vector<int32_t> spans;
  /// [.., 2]: begin, end of the ranges of AttentionPlan.
  std::vector<int32_t> ranges;
  /// [tiles, 3]: span, first query row, keys seen by the last row (none sees more). A tile ends after attention_tile
  /// rows or with its span. Rows that decode come last, as they have a kernel of their own; before that, tiles with the
  /// most keys come first, so that the longest work starts first.
  std::vector<int32_t> query_tiles;
  /// [tiles, 4]: first key row, end, first row of key_spans, number of rows. Every key that some query sees is in
  /// exactly one tile, no other is in any. Rows 2 i and 2 i + 1 are a pair: two tiles side by side, or two that have
  /// nobody beside them. Pairs of which the most queries see a tile come first; one that is left over comes last.
  std::vector<int32_t> key_tiles;
  /// [.., 2]: a span of which some query sees some key of the tile, and its first such query row; spans ascend.
  std::vector<int32_t> key_spans;
};

/// Throws ERR_FIRE_INTERNAL on a plan that breaks what the kernels rely on: a query row sees at least one key; the
/// ranges of a span are as AttentionPlan says; key rows of a causal span do not fall and lie in its own range.
AttentionTables make_tables(const AttentionPlan& plan);

}  // namespace fire
