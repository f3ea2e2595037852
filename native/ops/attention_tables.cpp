#include "ops/attention_tables.h"

#include <algorithm>
#include <string>
#include <utility>

namespace fire {
namespace {

bool meet(const KeyRange& a, const KeyRange& b) { return std::max(a.begin, b.begin) < std::min(a.end, b.end); }

KeyRange own_of(const AttentionSpan& s) { return {s.own_begin, s.own_end}; }

void check_span(const AttentionPlan& plan, const AttentionSpan& s) {
  const auto fail = [&](const char* why) {
    throw Error(Code::internal, "attention plan, queries " + std::to_string(s.query_begin) + " to " +
                                    std::to_string(s.query_end) + ": " + why);
  };
  if (s.group < 0 || s.group >= plan.groups) fail("the group does not exist");
  if (s.context_begin < 0 || s.context_begin > s.context_end ||
      s.context_end > static_cast<int64_t>(plan.ranges.size()))
    fail("its context is outside the ranges");
  if (s.own_begin > s.own_end) fail("the own keys end before they begin");
  if (s.decodes && s.query_end - s.query_begin != 1) fail("one row decodes at a time");
  const auto context = plan.context(s);
  for (size_t i = 0; i < context.size(); ++i) {
    if (context[i].begin >= context[i].end) fail("a range of its context is empty");
    if (meet(context[i], own_of(s))) fail("the context and the own keys overlap");
    for (size_t j = 0; j < i; ++j)
      if (meet(context[i], context[j])) fail("ranges of its context overlap");
  }
  if (s.causal && s.query_end > static_cast<int64_t>(plan.key_row.size())) fail("rows without a key row");
  for (int32_t q = s.query_begin; q < s.query_end; ++q) {
    if (s.causal) {
      const int32_t key = plan.key_row[static_cast<size_t>(q)];
      if (key < s.own_begin - 1 || key >= s.own_end) fail("a key row lies outside the own keys");
      if (q > s.query_begin && key < plan.key_row[static_cast<size_t>(q - 1)]) fail("key rows fall");
    }
    if (keys_seen(plan, s, q) <= 0) fail("a row sees no key");
  }
}

void add_query_tiles(const AttentionPlan& plan, AttentionTables& tables) {
  struct Tile {
    int32_t span, query, keys;
    bool decodes;
  };
  std::vector<Tile> tiles;
  for (size_t i = 0; i < plan.spans.size(); ++i) {
    const AttentionSpan& s = plan.spans[i];
    for (int32_t q = s.query_begin; q < s.query_end; q += attention_tile) {
      const int32_t last = std::min(q + attention_tile, s.query_end) - 1;
      tiles.push_back({static_cast<int32_t>(i), q, keys_seen(plan, s, last), s.decodes});
    }
  }
  std::stable_sort(tiles.begin(), tiles.end(),
                   [](const Tile& a, const Tile& b) { return a.decodes != b.decodes ? b.decodes : a.keys > b.keys; });
  for (const Tile& t : tiles) tables.query_tiles.insert(tables.query_tiles.end(), {t.span, t.query, t.keys});
}

/// Disjoint ascending ranges that cover exactly what the given ones cover.
std::vector<KeyRange> merged(std::vector<KeyRange> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const KeyRange& a, const KeyRange& b) { return a.begin < b.begin; });
  std::vector<KeyRange> out;
  for (const KeyRange& r : ranges) {
    if (r.begin >= r.end) continue;
    if (!out.empty() && r.begin <= out.back().end) {
      out.back().end = std::max(out.back().end, r.end);
    } else {
      out.push_back(r);
    }
  }
  return out;
}

/// First query row of the span that sees a key of the tile; query_end if none does.
int32_t first_query(const AttentionPlan& plan, const AttentionSpan& s, const KeyRange& tile) {
  const auto context = plan.context(s);
  if (std::any_of(context.begin(), context.end(), [&](const KeyRange& range) { return meet(range, tile); }))
    return s.query_begin;
  if (!meet(own_of(s), tile)) return s.query_end;
  if (!s.causal) return s.query_begin;
  const auto rows = plan.key_row.begin();
  return static_cast<int32_t>(
      std::lower_bound(rows + s.query_begin, rows + s.query_end, std::max(tile.begin, s.own_begin)) - rows);
}

/// Groups never share keys, so each is cut by itself: where a tile begins depends on its group alone.
void add_key_tiles(const AttentionPlan& plan, AttentionTables& tables) {
  struct Tile {
    KeyRange keys;
    int32_t first, count;
    int64_t queries;
  };
  std::vector<std::pair<Tile, Tile>> pairs;
  std::vector<Tile> singles;
  const auto pair_up = [&](const std::vector<Tile>& tiles) {
    for (size_t i = 1; i < tiles.size(); i += 2) pairs.emplace_back(tiles[i - 1], tiles[i]);
  };
  std::vector<std::vector<int32_t>> groups(static_cast<size_t>(plan.groups));
  for (size_t i = 0; i < plan.spans.size(); ++i)
    groups[static_cast<size_t>(plan.spans[i].group)].push_back(static_cast<int32_t>(i));
  int32_t entries = 0;
  for (const std::vector<int32_t>& group : groups) {
    std::vector<KeyRange> ranges;
    for (const int32_t i : group) {
      const AttentionSpan& s = plan.spans[static_cast<size_t>(i)];
      if (s.query_begin >= s.query_end) continue;
      const auto context = plan.context(s);
      ranges.insert(ranges.end(), context.begin(), context.end());
      ranges.push_back({s.own_begin, s.own_begin + keys_seen(plan, s, s.query_end - 1) - context_keys(plan, s)});
    }
    for (const KeyRange& range : merged(std::move(ranges))) {
      std::vector<Tile> tiles;
      for (int32_t k = range.begin; k < range.end; k += attention_tile) {
        Tile tile{{k, std::min(k + attention_tile, range.end)}, entries, 0, 0};
        for (const int32_t i : group) {
          const AttentionSpan& s = plan.spans[static_cast<size_t>(i)];
          const int32_t first = first_query(plan, s, tile.keys);
          if (first >= s.query_end) continue;
          tables.key_spans.insert(tables.key_spans.end(), {i, first});
          tile.queries += s.query_end - first;
          ++tile.count;
        }
        entries += tile.count;
        if (tile.count > 0) tiles.push_back(tile);
      }
      pair_up(tiles);
      if (tiles.size() % 2 == 1) singles.push_back(tiles.back());
    }
  }
  std::stable_sort(singles.begin(), singles.end(), [](const Tile& a, const Tile& b) { return a.queries > b.queries; });
  pair_up(singles);
  const auto most = [](const auto& pair) { return std::max(pair.first.queries, pair.second.queries); };
  std::stable_sort(pairs.begin(), pairs.end(), [&](const auto& a, const auto& b) { return most(a) > most(b); });
  const auto add = [&](const Tile& t) {
    tables.key_tiles.insert(tables.key_tiles.end(), {t.keys.begin, t.keys.end, t.first, t.count});
  };
  for (const auto& [first, second] : pairs) add(first), add(second);
  if (singles.size() % 2 == 1) add(singles.back());
}

}  // namespace

int32_t context_keys(const AttentionPlan& plan, const AttentionSpan& span) {
  int32_t keys = 0;
  for (const KeyRange& range : plan.context(span)) keys += range.size();
  return keys;
}

int32_t keys_seen(const AttentionPlan& plan, const AttentionSpan& span, int32_t query) {
  const int32_t own = span.causal ? plan.key_row[static_cast<size_t>(query)] + 1 - span.own_begin : own_of(span).size();
  return context_keys(plan, span) + own;
}

AttentionTables make_tables(const AttentionPlan& plan) {
  AttentionTables tables;
  for (const AttentionSpan& s : plan.spans) {
    check_span(plan, s);
    tables.spans.insert(tables.spans.end(),
                        {s.query_begin, s.query_end, s.context_begin, s.context_end, context_keys(plan, s), s.own_begin,
                         s.own_end, static_cast<int32_t>(s.causal)});
  }
  for (const KeyRange& range : plan.ranges) tables.ranges.insert(tables.ranges.end(), {range.begin, range.end});
  add_query_tiles(plan, tables);
  add_key_tiles(plan, tables);
  return tables;
}

PreparedPlan Ops::prepare(const AttentionPlan& plan, Arena& arena) {
  PreparedPlan prepared;
  prepared.plan = &plan;
  if (!is_gpu()) return prepared;
  const AttentionTables tables = make_tables(plan);
  const auto upload_table = [&](const std::vector<int32_t>& table, int64_t columns) {
    const Tensor flat = upload_i32(arena, table);
    return flat.reshape({flat.size() / columns, columns});
  };
  prepared.spans = upload_table(tables.spans, AttentionTables::span_columns);
  prepared.ranges = upload_table(tables.ranges, AttentionTables::range_columns);
  prepared.key_row = upload_i32(arena, plan.key_row);
  prepared.query_tiles = upload_table(tables.query_tiles, AttentionTables::query_tile_columns);
  prepared.key_tiles = upload_table(tables.key_tiles, AttentionTables::key_tile_columns);
  prepared.key_spans = upload_table(tables.key_spans, AttentionTables::key_span_columns);
  return prepared;
}

}  // namespace fire
