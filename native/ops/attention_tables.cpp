#include "ops/attention_tables.h"

#include <algorithm>
#include <string>

namespace fire {
namespace {

struct Range {
  int32_t begin, end;
  bool empty() const { return begin >= end; }
  int32_t size() const { return end - begin; }
  bool meets(const Range& other) const { return std::max(begin, other.begin) < std::min(end, other.end); }
};

Range prefix_of(const AttentionSpan& s) { return {s.prefix_begin, s.prefix_end}; }
Range own_of(const AttentionSpan& s) { return {s.own_begin, s.own_end}; }

void check_span(const AttentionPlan& plan, const AttentionSpan& s) {
  const auto fail = [&](const char* why) {
    throw Error(Code::internal, "attention plan, queries " + std::to_string(s.query_begin) + " to " +
                                    std::to_string(s.query_end) + ": " + why);
  };
  if (s.group < 0 || s.group >= plan.groups) fail("the group does not exist");
  if (s.prefix_begin > s.prefix_end || s.own_begin > s.own_end) fail("a range of keys ends before it begins");
  if (prefix_of(s).meets(own_of(s))) fail("the prefix and the own keys overlap");
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
    bool single;
  };
  std::vector<Tile> tiles;
  for (size_t i = 0; i < plan.spans.size(); ++i) {
    const AttentionSpan& s = plan.spans[i];
    for (int32_t q = s.query_begin; q < s.query_end; q += attention_tile) {
      const int32_t last = std::min(q + attention_tile, s.query_end) - 1;
      tiles.push_back({static_cast<int32_t>(i), q, keys_seen(plan, s, last), s.query_end - s.query_begin == 1});
    }
  }
  std::stable_sort(tiles.begin(), tiles.end(),
                   [](const Tile& a, const Tile& b) { return a.single != b.single ? b.single : a.keys > b.keys; });
  for (const Tile& t : tiles) tables.query_tiles.insert(tables.query_tiles.end(), {t.span, t.query, t.keys});
}

/// Disjoint ascending ranges that cover exactly what the given ones cover.
std::vector<Range> merged(std::vector<Range> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  std::vector<Range> out;
  for (const Range& r : ranges) {
    if (r.empty()) continue;
    if (!out.empty() && r.begin <= out.back().end) {
      out.back().end = std::max(out.back().end, r.end);
    } else {
      out.push_back(r);
    }
  }
  return out;
}

/// First query row of the span that sees a key of the tile; query_end if none does.
int32_t first_query(const AttentionPlan& plan, const AttentionSpan& s, const Range& tile) {
  if (prefix_of(s).meets(tile)) return s.query_begin;
  if (!own_of(s).meets(tile)) return s.query_end;
  if (!s.causal) return s.query_begin;
  const auto rows = plan.key_row.begin();
  return static_cast<int32_t>(
      std::lower_bound(rows + s.query_begin, rows + s.query_end, std::max(tile.begin, s.own_begin)) - rows);
}

/// Groups never share keys, so each is cut by itself: where a tile begins depends on its group alone.
void add_key_tiles(const AttentionPlan& plan, AttentionTables& tables) {
  struct Tile {
    Range keys;
    int32_t first, count;
    int64_t queries;
  };
  std::vector<std::vector<int32_t>> groups(static_cast<size_t>(plan.groups));
  for (size_t i = 0; i < plan.spans.size(); ++i)
    groups[static_cast<size_t>(plan.spans[i].group)].push_back(static_cast<int32_t>(i));
  std::vector<Tile> tiles;
  int32_t entries = 0;
  for (const std::vector<int32_t>& group : groups) {
    std::vector<Range> ranges;
    for (const int32_t i : group) {
      const AttentionSpan& s = plan.spans[static_cast<size_t>(i)];
      if (s.query_begin >= s.query_end) continue;
      ranges.push_back(prefix_of(s));
      ranges.push_back({s.own_begin, s.own_begin + keys_seen(plan, s, s.query_end - 1) - prefix_of(s).size()});
    }
    for (const Range& range : merged(std::move(ranges)))
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
  }
  std::stable_sort(tiles.begin(), tiles.end(), [](const Tile& a, const Tile& b) { return a.queries > b.queries; });
  for (const Tile& t : tiles)
    tables.key_tiles.insert(tables.key_tiles.end(), {t.keys.begin, t.keys.end, t.first, t.count});
}

}  // namespace

int32_t keys_seen(const AttentionPlan& plan, const AttentionSpan& span, int32_t query) {
  const int32_t own = span.causal ? plan.key_row[static_cast<size_t>(query)] + 1 - span.own_begin : own_of(span).size();
  return prefix_of(span).size() + own;
}

AttentionTables make_tables(const AttentionPlan& plan) {
  AttentionTables tables;
  for (const AttentionSpan& s : plan.spans) {
    check_span(plan, s);
    tables.spans.insert(tables.spans.end(), {s.query_begin, s.query_end, s.prefix_begin, s.prefix_end, s.own_begin,
                                             s.own_end, static_cast<int32_t>(s.causal)});
  }
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
  prepared.key_row = upload_i32(arena, plan.key_row);
  prepared.query_tiles = upload_table(tables.query_tiles, AttentionTables::query_tile_columns);
  prepared.key_tiles = upload_table(tables.key_tiles, AttentionTables::key_tile_columns);
  prepared.key_spans = upload_table(tables.key_spans, AttentionTables::key_span_columns);
  return prepared;
}

}  // namespace fire
