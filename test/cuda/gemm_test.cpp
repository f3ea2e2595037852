// The matrix product below ops.h: what its device has makes no difference to it, and where long sums are cut. What it
// computes is held against float64 in test/ops.
#include "cuda/gemm.h"

#include <array>
#include <numeric>
#include <optional>
#include <span>

#include "cuda/gemm_hopper.h"
#include "cuda/watch.h"
#include "device.h"
#include "tensor/json.h"

namespace fire::test {
namespace {

using cuda::Gemm;
using cuda::GemmDevice;
using cuda::GemmForm;

struct Product {
  const char* name;
  GemmForm form;
  int64_t m, n, k, rank;
};

/// What a product writes, and what it adds to that; `shift` elements into memory.
struct Target {
  DType y;
  std::optional<DType> residual;
  int64_t shift = 0;
};

/// A product that has everything at once. With factors of one type alone, in bf16, Hopper's kernel takes it too.
class Computed {
 public:
  Computed(DType type, const Product& p, DType low_type)
      : ops_(device(type)),
        type_(type),
        p_(p),
        a_(ops_, random(1, p.m * p.k), type, {p.m * p.k}),
        b_(ops_, random(2, p.n * p.k), type, {p.n * p.k}),
        low_a_(ops_, random(3, p.m * p.rank), type, {p.m * p.rank}),
        low_b_(ops_, random(4, p.n * p.rank), low_type, {p.n * p.rank}),
        bias_(ops_, random(5, p.n), DType::f32, {p.n}),
        keys_(ops_, DType::i32, {p.m, 2}),
        mask_(ops_, DType::i32, {p.m, (p.n + 31) / 32}) {
    std::vector<int32_t> words(static_cast<size_t>(2 * p.m));
    std::iota(words.begin(), words.end(), 0);
    ops_.upload(words.data(), keys_.view());
    ops_.draw_mask({0.25f, 7, 3, reinterpret_cast<const uint32_t*>(keys_.view().i32())}, mask_.view());
  }

  /// On a device with workspace for so many rows at a time.
  Doubles on(GemmDevice device, int64_t workspace_rows) { return on(device, workspace_rows, {type_, type_}); }
  Doubles on(GemmDevice device, int64_t workspace_rows, const Target& target) {
    const Placed y(ops_, target.y, {p_.m, p_.n}, target.shift);
    Gemm g;
    g.form = p_.form;
    g.m = p_.m, g.n = p_.n, g.k = p_.k, g.rank = p_.rank;
    g.a = {a_.tensor().data(), type_}, g.b = {b_.tensor().data(), type_};
    g.low_a = {low_a_.tensor().data(), type_}, g.low_b = {low_b_.tensor().data(), low_b_.tensor().dtype()};
    g.alpha = 0.75f, g.low_scale = 1.5f;
    g.low_masked = p_.rank > 0;
    g.mask = {reinterpret_cast<const uint32_t*>(mask_.view().i32()), static_cast<uint32_t>(p_.m),
              static_cast<uint32_t>(mask_.view().cols()), 1 / 0.75f};
    g.bias = bias_.tensor().f32();
    const Placed residual(ops_, random(6, p_.m * p_.n), target.residual.value_or(type_), {p_.m * p_.n}, target.shift);
    if (target.residual) g.residual = residual.tensor().data(), g.residual_type = *target.residual;
    g.y = y.tensor().data(), g.y_type = target.y;
    const int64_t chunk = cuda::gemm_chunk(g), parts = (p_.k + chunk - 1) / chunk;
    Placed workspace(ops_, DType::f32, {workspace_rows * parts * p_.n});
    device.workspace = workspace.tensor().f32(), device.workspace_bytes = workspace.tensor().bytes();
    cuda::launch_gemm(ops_.stream(), device, type_, &g, 1, cuda::GemmJoin::beside);
    return y.values();
  }

 private:
  static std::vector<float> random(uint64_t seed, int64_t count) { return Random(seed).floats(count); }

  cuda::CudaOps& ops_;
  DType type_;
  Product p_;
  Placed a_, b_, low_a_, low_b_, bias_;
  DeviceTensor keys_;  // of the rows that the mask is drawn for
  DeviceTensor mask_;
};

constexpr GemmDevice h100{size_t{228} << 10}, geforce{size_t{100} << 10};
/// With its own kernels.
constexpr GemmDevice hopper(int multiprocessors) { return {h100.shared_bytes, nullptr, 0, true, multiprocessors}; }

TEST("a product has the same bits whatever shared memory and workspace its device has") {
  const Product products[] = {
      {"large, rank of several slices", GemmForm::nt, 129, 6136, 200, 136},
      {"large, backward", GemmForm::nn, 129, 6144, 72, 72},
      {"large, gradient of a weight in parts", GemmForm::tn, 6136, 72, 1030, 0},
      {"small, gradient of a weight in parts", GemmForm::tn, 300, 21, 1100, 0},
      {"in parts of a long k, with a low-rank product", GemmForm::nt, 3, 19, 33000, 5},
      {"in parts of a long k, backward", GemmForm::nn, 5, 24, 33000, 8},
  };
  for (const DType type : both_types)
    for (const Product& p : products) {
      Computed product(type, p, DType::f32);
      const Doubles usual = product.on(h100, p.m);
      CHECK(same_bits(product.on(geforce, p.m), usual));
      for (const int64_t rows : {int64_t{1}, int64_t{130}})
        if (rows == 1 ? p.m < 100 : p.m > 130) CHECK(same_bits(product.on(h100, rows), usual));
    }
  CHECK_ERROR(Code::internal, ("3 parts has no workspace"), Computed(DType::f32, products[5], DType::f32).on(h100, 0));
}

TEST("on Hopper a product has the same bits whatever multiprocessors and workspace its device has") {
  if (!has_hopper()) return;
  const Product products[] = {
      {"several tiles of each size, rank of several slices", GemmForm::nt, 150, 712, 200, 136},
      {"the same, backward", GemmForm::nn, 150, 712, 200, 136},
      {"rows and columns that are few", GemmForm::nt, 3, 21, 264, 8},
      {"the same, backward", GemmForm::nn, 3, 24, 264, 8},
      {"k of a part of a slice", GemmForm::nt, 70, 300, 8, 0},
      {"gradient of a weight", GemmForm::tn, 136, 264, 200, 0},
      {"gradient of a weight in parts", GemmForm::tn, 200, 72, 1100, 0},
      {"in parts of a long k, with a low-rank product", GemmForm::nt, 3, 19, 33000, 8},
      {"in parts of a long k, backward", GemmForm::nn, 5, 24, 33000, 8},
  };
  for (const Product& p : products) {
    Computed product(DType::bf16, p, DType::bf16);
    const Doubles usual = product.on(hopper(132), p.m);
    for (const int multiprocessors : {1, 4}) CHECK(same_bits(product.on(hopper(multiprocessors), p.m), usual));
    if (p.k > 1000)
      for (const int64_t rows : {1, 130}) CHECK(same_bits(product.on(hopper(4), rows), usual));
    // The emulator's tensor cores have one order of sums; those of a GPU need not.
    if (is_emulated(device(DType::bf16))) CHECK(same_bits(product.on(h100, p.m), usual));
  }
}

TEST("on Hopper a row has the same bits in products of every number of rows") {
  if (!has_hopper()) return;
  constexpr int64_t most = 300, n = 264;
  for (const GemmForm form : {GemmForm::nt, GemmForm::nn}) {
    const auto of = [&](int64_t m) { return Computed(DType::bf16, {"", form, m, n, 72, 16}, DType::bf16); };
    const Doubles all = of(most).on(hopper(4), most);
    for (int64_t m = 1; m < most; m += m < 20 ? 1 : 13) {
      const auto end = all.begin() + static_cast<std::ptrdiff_t>(m * n);
      for (const int multiprocessors : {1, 132})
        CHECK(same_bits(of(m).on(hopper(multiprocessors), m), Doubles(all.begin(), end)));
    }
  }
}

TEST("on Hopper a product takes the tile that the roofline counts with") {
  const Json table = Json::load(std::string(FIRE_TEST_DIR) + "/cuda/hopper_tiles.json");
  CHECK(table.array().size() > 10);
  for (const Json& row : table.array()) {
    std::vector<int> n;
    for (const Json& columns : row.at("n").array()) n.push_back(static_cast<int>(columns.integer()));
    const auto number = [&](const char* key) { return static_cast<int>(row.at(key).integer()); };
    const std::string& form = row.at("form").string();
    const cuda::HopperTileSize size = cuda::hopper_tile_size(form == "nt"   ? GemmForm::nt
                                                             : form == "nn" ? GemmForm::nn
                                                                            : GemmForm::tn,
                                                             number("m"), n.data(), static_cast<int>(n.size()), 132);
    CHECK(size.rows == number("rows") && size.columns == number("columns") && size.blocks == number("blocks"));
  }
}

TEST("on Hopper it makes no difference how Y and its residual lie in memory") {
  if (!has_hopper()) return;
  const GemmDevice devices[] = {hopper(1), hopper(132)};
  for (const int64_t n : {8, 136, 328, 712})  // pieces of a tile that are whole, in part and not there
    for (const GemmForm form : {GemmForm::nt, GemmForm::nn}) {
      Computed product(DType::bf16, {"", form, n == 712 ? 150 : 70, n, 72, 8}, DType::bf16);
      for (const DType y : both_types)
        for (const std::optional<DType> residual : {std::optional<DType>(), {DType::bf16}, {DType::f32}}) {
          const int64_t m = n == 712 ? 150 : 70;
          const Doubles usual = product.on(devices[0], m, {y, residual});
          CHECK(same_bits(product.on(devices[1], m, {y, residual}), usual));
          CHECK(same_bits(product.on(devices[0], m, {y, residual, 1}), usual));
          if (is_emulated(device(DType::bf16))) CHECK(same_bits(product.on(h100, m, {y, residual}), usual));
        }
    }
}

TEST("on Hopper a product that adds to its own Y has the bits of one that reads another") {
  if (!has_hopper()) return;
  cuda::CudaOps& ops = device(DType::bf16);
  constexpr int64_t m = 130, n = 520, k = 72;
  const auto random = [](uint64_t seed, int64_t count) { return Random(seed).floats(count); };
  const Placed a(ops, random(1, m * k), DType::bf16, {m, k}), b(ops, random(2, n * k), DType::bf16, {n, k});
  const Placed residual(ops, random(3, m * n), DType::bf16, {m, n}),
      in_place(ops, random(3, m * n), DType::bf16, {m, n});
  const Placed y(ops, DType::bf16, {m, n});
  for (const auto& [from, to] : {std::pair(&residual, &y), {&in_place, &in_place}}) {
    Gemm g;
    g.m = m, g.n = n, g.k = k;
    g.a = {a.tensor().data(), DType::bf16}, g.b = {b.tensor().data(), DType::bf16};
    g.residual = from->tensor().data(), g.residual_type = DType::bf16;
    g.y = to->tensor().data(), g.y_type = DType::bf16;
    cuda::launch_gemm(ops.stream(), hopper(1), DType::bf16, &g, 1, cuda::GemmJoin::beside);
  }
  CHECK(same_bits(in_place.values(), y.values()));
}

TEST("products beside each other may have no columns") {
  for (const DType type : both_types) {
    cuda::CudaOps& ops = device(type);
    constexpr int64_t m = 70, k = 72;
    const auto random = [](uint64_t seed, int64_t count) { return Random(seed).floats(count); };
    const Placed a(ops, random(1, m * k), type, {m, k}), b(ops, random(2, 264 * k), type, {264, k});
    const auto launch = [&](std::span<const Placed* const> ys) {
      Gemm gemms[3];
      int count = 0;
      for (const Placed* y : ys) {
        Gemm& g = gemms[count++];
        g.m = m, g.n = y->tensor().cols(), g.k = k;
        g.a = {a.tensor().data(), type}, g.b = {b.tensor().data(), type};
        g.y = y->tensor().data(), g.y_type = type;
      }
      const bool own = has_hopper() && type == DType::bf16;
      cuda::launch_gemm(ops.stream(), own ? hopper(1) : h100, type, gemms, count, cuda::GemmJoin::beside);
    };
    const Placed first(ops, type, {m, 264}), none(ops, type, {m, 0}), last(ops, type, {m, 40});
    const Placed first_alone(ops, type, {m, 264}), last_alone(ops, type, {m, 40});
    for (const std::array<const Placed*, 3>& order : {std::array{&first, &none, &last}, {&none, &last, &first}}) {
      launch(order);
      launch({{&first_alone}}), launch({{&last_alone}});
      CHECK(same_bits(first.values(), first_alone.values()) && same_bits(last.values(), last_alone.values()));
    }
    launch({{&none}});
  }
}

TEST("Hopper's kernel takes products whose factors TMA can fetch, and no others") {
  if (!has_hopper()) return;
  using Change = void (*)(Gemm&);
  cuda::CudaOps& ops = device(DType::bf16);
  const Placed factors(ops, DType::bf16, {64 * 64 * 2}), y(ops, DType::f32, {64 * 64});
  const auto takes = [&](const Change& change, int columns = 32) {
    Gemm g;
    g.m = 3, g.n = g.k = columns, g.rank = 8;
    g.a = g.b = g.low_a = g.low_b = {factors.tensor().data(), DType::bf16};
    g.y = y.tensor().data();
    change(g);
    const cuda::Profile profile;
    cuda::launch_gemm(ops.stream(), hopper(4), DType::bf16, &g, 1, cuda::GemmJoin::beside);
    cuda::synchronize(ops.stream());
    return profile.totals().contains("gemm sm_90a");
  };
  CHECK(takes([](Gemm&) {}));
  CHECK(takes([](Gemm& g) { g.form = GemmForm::nn; }));
  CHECK(takes([](Gemm& g) { g.form = GemmForm::tn, g.m = 8, g.rank = 0; }));
  CHECK(takes([](Gemm& g) { g.k = 0; }));
  CHECK(!takes([](Gemm&) {}, 33));
  CHECK(!takes([](Gemm& g) { g.rank = 4; }));
  CHECK(!takes([](Gemm& g) { g.low_b.type = DType::f32; }));
  CHECK(!takes([](Gemm& g) { g.form = GemmForm::nn, g.a.type = DType::f32; }));
  CHECK(!takes([](Gemm& g) { g.a.dropped = true; }));
  CHECK(takes([](Gemm& g) { g.a.dropped = true, g.rank = 0; }));
  CHECK(!takes([](Gemm& g) { g.b.dropped = true, g.rank = 0; }));
  CHECK(!takes([](Gemm& g) { g.b.data = static_cast<const bf16*>(g.b.data) + 1; }));
}

TEST("products are one launch where one kernel can look up what differs") {
  using cuda::GemmJoin;
  using Change = void (*)(Gemm&);
  const auto joins = [](GemmForm form, GemmJoin join, Change second) {
    Gemm gemms[2];
    for (Gemm& g : gemms) g.form = form, g.m = 5, g.n = 16, g.k = 24;
    second(gemms[1]);
    return cuda::gemm_joins(gemms, 2, join);
  };
  const Change longer = [](Gemm& g) { g.k = 32; };
  const Change wider = [](Gemm& g) { g.n = 32; };
  const Change adapted = [](Gemm& g) { g.rank = 8; };
  const Change masked = [](Gemm& g) { g.rank = 8, g.low_masked = true; };
  const Change vocabulary = [](Gemm& g) { g.k = 151936; };
  for (const Change second : {wider, adapted}) CHECK(joins(GemmForm::nt, GemmJoin::beside, second));
  for (const Change second : {longer, masked}) CHECK(!joins(GemmForm::nt, GemmJoin::beside, second));
  CHECK(joins(GemmForm::nn, GemmJoin::beside, longer) && !joins(GemmForm::nn, GemmJoin::beside, adapted));
  const Change uneven = [](Gemm& g) { g.k = 33; };
  CHECK(!joins(GemmForm::nn, GemmJoin::beside, uneven) && joins(GemmForm::nn, GemmJoin::summed, uneven));
  for (const Change second : {longer, adapted}) CHECK(joins(GemmForm::nn, GemmJoin::summed, second));
  for (const Change second : {wider, masked, vocabulary}) CHECK(!joins(GemmForm::nn, GemmJoin::summed, second));
  for (const GemmJoin join : {GemmJoin::beside, GemmJoin::summed}) CHECK(!joins(GemmForm::tn, join, [](Gemm&) {}));
  CHECK(!joins(GemmForm::nt, GemmJoin::summed, [](Gemm&) {}));
  CHECK_ERROR(Code::internal, ("no one launch"), [&] {
    Gemm gemms[2];
    gemms[1].form = GemmForm::nn;
    cuda::launch_gemm(nullptr, {}, DType::f32, gemms, 2, GemmJoin::beside);
  }());
}

int64_t chunk(GemmForm form, int64_t m, int64_t n, int64_t k) {
  Gemm gemm;
  gemm.form = form;
  gemm.m = m, gemm.n = n, gemm.k = k;
  return cuda::gemm_chunk(gemm);
}

TEST("a sum is cut by its length alone where rows have a promise, and never where all rows of a model go through") {
  for (const GemmForm form : {GemmForm::nt, GemmForm::nn})
    for (const int64_t m : {1, 7, 304, 7520})
      for (const int64_t n : {1, 128, 2560}) {
        for (const int64_t whole : {0, 1, 2560, 9728, 29568, 32768}) CHECK(chunk(form, m, n, whole) == whole);
        for (const int64_t vocabulary : {32769, 151936, 152064}) CHECK(chunk(form, m, n, vocabulary) == 16384);
      }
}

TEST("a sum over tokens is cut into enough parts for the multiprocessors, none shorter than 512 tokens but the last") {
  const auto of = [](int64_t m, int64_t n) { return chunk(GemmForm::tn, m, n, 7520); };
  CHECK(of(4096, 128) == 960);   // dB of q: 32 tiles, 8 parts
  CHECK(of(1024, 128) == 576);   // dB of k and v: 8 tiles, 14 parts
  CHECK(of(128, 9728) == 2560);  // dA of down: 76 tiles, 3 parts
  CHECK(of(8192, 8192) == 7520);
  CHECK(chunk(GemmForm::tn, 128, 2560, 1023) == 1023);
  for (const int64_t k : {1024, 1025, 5000, 100000})
    for (const int64_t m : {1, 100, 4096}) CHECK(chunk(GemmForm::tn, m, 128, k) % 64 == 0);
}

}  // namespace
}  // namespace fire::test
