// Matrix products against float64, element by element. Every bound is one of rounding errors: with S = sum of |terms|,
// an f32 sum of k terms is off by at most k S 2^-23 (2^-24 where additions round, twice that where a tensor core
// truncates), and a bf16 result by 2^-8 of itself (8 significant bits, half a unit in the last).
#include <limits>
#include <optional>

#include "device.h"
#include "tensor/rng.h"

namespace fire::test {
namespace {

/// Sums of products, and the sums of their absolute values.
struct Expected {
  std::vector<double> value, size;
};

/// Row-major host matrix.
struct Matrix {
  int64_t rows, cols;
  std::vector<float> v;
  double operator()(int64_t i, int64_t j) const { return v[static_cast<size_t>(i * cols + j)]; }
};

Matrix random_matrix(Random& random, int64_t rows, int64_t cols, DType type) {
  return {rows, cols, rounded(random.floats(rows * cols), type)};
}

Matrix as(DType type, const Matrix& m) { return {m.rows, m.cols, rounded(m.v, type)}; }

/// x * mask / (1 - rate) as ops.h and tensor/rng.h define it.
Matrix dropped(const Matrix& x, const Dropout& d) {
  Matrix y = x;
  for (int64_t i = 0; i < x.rows; ++i)
    for (int64_t j = 0; j < x.cols; ++j) {
      const Philox4 bits = philox(d.seed, {static_cast<uint32_t>(j / 4), static_cast<uint32_t>(i),
                                           d.module << 4 | static_cast<uint32_t>(RngStream::dropout), d.pass});
      float& value = y.v[static_cast<size_t>(i * x.cols + j)];
      value = uniform24(bits[static_cast<size_t>(j % 4)]) < d.rate ? 0.0f : value * (1.0f / (1.0f - d.rate));
    }
  return y;
}

template <class A, class B>
Expected product(int64_t m, int64_t n, int64_t k, const A& a, const B& b, double scale = 1) {
  Expected e{std::vector<double>(static_cast<size_t>(m * n)), std::vector<double>(static_cast<size_t>(m * n))};
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0, size = 0;
      for (int64_t l = 0; l < k; ++l) {
        const double term = a(i, l) * b(l, j);
        sum += term;
        size += std::abs(term);
      }
      e.value[static_cast<size_t>(i * n + j)] = scale * sum;
      e.size[static_cast<size_t>(i * n + j)] = std::abs(scale) * size;
    }
  return e;
}

auto transposed(const Matrix& m) {
  return [&m](int64_t i, int64_t j) { return m(j, i); };
}

void add(Expected& to, const Expected& from) {
  for (size_t i = 0; i < to.value.size(); ++i) {
    to.value[i] += from.value[i];
    to.size[i] += from.size[i];
  }
}
void add(Expected& to, const std::vector<float>& from) {
  for (size_t i = 0; i < to.value.size(); ++i) {
    to.value[i] += from[i % from.size()];
    to.size[i] += std::abs(from[i % from.size()]);
  }
}

/// `terms`: how many were added up; `stored`: the type of the result.
void check_close(const char* what, const std::vector<float>& got, const Expected& expected, int64_t terms,
                 DType stored) {
  CHECK(got.size() == expected.value.size());
  if (got.size() != expected.value.size()) return;
  for (size_t i = 0; i < got.size(); ++i) {
    const double sum_error = static_cast<double>(terms + 4) * expected.size[i] * 0x1p-23;
    const double bound = sum_error + (stored == DType::bf16 ? (std::abs(expected.value[i]) + sum_error) * 0x1p-8 : 0);
    if (std::abs(got[i] - expected.value[i]) <= bound) continue;
    std::ostringstream message;
    message << what << "[" << i << "] is " << got[i] << ", expected " << expected.value[i] << " within " << bound;
    return check::fail(__FILE__, __LINE__, message.str());
  }
  check::count_check();
}

/// Outputs hold NaN before an operation, so what it leaves out shows.
void poison(OnDevice& x) {
  x.set(std::vector<float>(static_cast<size_t>(x.tensor().size()), std::numeric_limits<float>::quiet_NaN()));
}

struct Sides {
  int64_t m, n, k;
};

/// Around the tiles (16, 32, 64, 128) and the slices of k (16 to 64).
std::vector<Sides> ragged() {
  std::vector<Sides> sides = {{1, 1, 1},   {1, 7, 16},   {7, 16, 17},  {16, 17, 63},   {17, 63, 64}, {63, 64, 65},
                              {64, 65, 1}, {65, 130, 7}, {130, 1, 33}, {33, 130, 530}, {64, 64, 64}, {32, 32, 600}};
  if (large())
    for (const Sides& s : {Sides{1000, 2560, 2560}, Sides{513, 1025, 777}, Sides{4096, 1024, 512}}) sides.push_back(s);
  return sides;
}

/// One shape for each tile: 32 x 32, 64 x 64, 128 x 128, all with ragged edges.
std::vector<Sides> tiles(int64_t k) { return {{31, 70, k}, {65, 48 * 64 - 3, k}, {129, 48 * 128 - 3, k}}; }

/// An optional operand.
struct Maybe {
  Maybe(Ops& ops, const Matrix* m, DType type) {
    if (m != nullptr) held.emplace(ops, m->v, type, std::initializer_list<int64_t>{m->rows, m->cols});
  }
  operator Tensor() const { return held ? held->tensor() : Tensor(); }
  std::optional<OnDevice> held;
};

OnDevice on_device(Ops& ops, const Matrix& m, DType type) { return OnDevice(ops, m.v, type, {m.rows, m.cols}); }

std::vector<float> linear(DType type, const Matrix& x, const Matrix& w, const Matrix* bias, const Matrix* residual,
                          DType stored) {
  cuda::CudaOps& ops = device(type);
  const OnDevice xd = on_device(ops, x, type), wd = on_device(ops, w, type);
  const Maybe b(ops, bias, DType::f32), r(ops, residual, type);
  OnDevice y(ops, stored, {x.rows, w.rows});
  poison(y);
  ops.linear(xd, wd, b, r, y);
  return y.get();
}

void check_linear(DType type, const Sides& s, bool with_bias, bool with_residual, DType stored) {
  Random random(static_cast<uint32_t>(s.m * 31 + s.n * 7 + s.k));
  const Matrix x = random_matrix(random, s.m, s.k, type), w = random_matrix(random, s.n, s.k, type);
  const Matrix bias = random_matrix(random, 1, s.n, DType::f32), residual = random_matrix(random, s.m, s.n, type);
  Expected expected = product(s.m, s.n, s.k, x, transposed(w));
  if (with_bias) add(expected, bias.v);
  if (with_residual) add(expected, residual.v);
  check_close("y", linear(type, x, w, with_bias ? &bias : nullptr, with_residual ? &residual : nullptr, stored),
              expected, s.k, stored);
}

void check_linear_backward(DType type, const Sides& s, DType dy_type, DType dx_type, bool accumulate) {
  Random random(static_cast<uint32_t>(s.m * 13 + s.n * 5 + s.k));
  const Matrix dy = random_matrix(random, s.m, s.k, dy_type), w = random_matrix(random, s.k, s.n, type);
  const Matrix before = random_matrix(random, s.m, s.n, dx_type);
  Expected expected = product(s.m, s.n, s.k, as(type, dy), w);
  if (accumulate) add(expected, before.v);
  cuda::CudaOps& ops = device(type);
  const OnDevice dyd = on_device(ops, dy, dy_type), wd = on_device(ops, w, type);
  OnDevice dx = on_device(ops, before, dx_type);
  if (!accumulate) poison(dx);
  ops.linear_backward(dyd, wd, dx, accumulate);
  check_close("dx", dx.get(), expected, s.k, dx_type);
}

/// One adapted linear with all its operands, on the host.
struct Adapted {
  Adapted(DType type, int64_t tokens, int64_t out, int64_t in, int64_t rank, float rate)
      : type(type), dropout{rate, 0x9e3779b97f4a7c15u, 5, 3} {
    Random random(static_cast<uint32_t>(tokens * 17 + out * 3 + in + rank));
    x = random_matrix(random, tokens, in, type);
    w = random_matrix(random, out, in, type);
    a = random_matrix(random, rank, in, DType::f32);
    b = random_matrix(random, out, rank, DType::f32);
    bias = random_matrix(random, 1, out, DType::f32);
    residual = random_matrix(random, tokens, out, type);
    dy = random_matrix(random, tokens, out, type);
    da = random_matrix(random, rank, in, DType::f32);
    db = random_matrix(random, out, rank, DType::f32);
    dx = random_matrix(random, tokens, in, type);
  }
  DType type;
  Dropout dropout;
  float scale = 1.5f;
  Matrix x, w, a, b, bias, residual, dy, da, db, dx;
};

struct Outputs {
  std::vector<float> h, y, dh, da, db, dx;
};

enum class Dx { none, overwritten, accumulated };

/// Forward and backward on `ops`, of the first `tokens` rows. A linear with a residual has a bias too: no layer has
/// both, and what each adds is seen by itself in `linear`.
Outputs run(Ops& ops, const Adapted& m, int64_t tokens, bool with_residual, Dx dx_form, DType stored) {
  const auto rows = [&](const Matrix& full) {
    return Matrix{tokens, full.cols, std::vector<float>(full.v.begin(), full.v.begin() + tokens * full.cols)};
  };
  const int64_t rank = m.a.rows;
  const OnDevice x = on_device(ops, rows(m.x), m.type), w = on_device(ops, m.w, m.type);
  const OnDevice a = on_device(ops, m.a, DType::f32), b = on_device(ops, m.b, DType::f32);
  const Matrix residual_rows = rows(m.residual);
  const Maybe residual(ops, with_residual ? &residual_rows : nullptr, m.type);
  const Maybe bias(ops, with_residual ? &m.bias : nullptr, DType::f32);
  const LoraView lora{a, b, m.scale};
  OnDevice h(ops, m.type, {tokens, rank}), y(ops, stored, {tokens, m.w.rows}), dh(ops, m.type, {tokens, rank});
  for (OnDevice* t : {&h, &y, &dh}) poison(*t);
  ops.lora_linear(x, w, bias, lora, m.dropout, residual, h, y);

  const OnDevice dy = on_device(ops, rows(m.dy), m.type);
  OnDevice da = on_device(ops, m.da, DType::f32), db = on_device(ops, m.db, DType::f32);
  OnDevice dx = on_device(ops, rows(m.dx), stored);
  if (dx_form == Dx::overwritten) poison(dx);
  ops.lora_linear_backward(dy, x, w, lora, m.dropout, h, dh, da, db, dx_form == Dx::none ? Tensor() : dx.tensor(),
                           dx_form == Dx::accumulated);
  return {h.get(), y.get(), dh.get(), da.get(), db.get(), dx.get()};
}

/// Each result against float64 on what the device had for its operands, h and dh included.
void check_adapted(const Adapted& m, bool with_residual, Dx dx_form, DType stored) {
  const int64_t tokens = m.x.rows, out = m.w.rows, in = m.w.cols, rank = m.a.rows;
  const Outputs got = run(device(m.type), m, tokens, with_residual, dx_form, stored);
  const Matrix x = as(m.type, dropped(m.x, m.dropout)), a = as(m.type, m.a), b = as(m.type, m.b);
  const Matrix h{tokens, rank, got.h}, dh{tokens, rank, got.dh};

  check_close("h", got.h, product(tokens, rank, in, x, transposed(a)), in, m.type);
  Expected y = product(tokens, out, in, m.x, transposed(m.w));
  add(y, product(tokens, out, rank, h, transposed(b), m.scale));
  if (with_residual) {
    add(y, m.bias.v);
    add(y, m.residual.v);
  }
  check_close("y", got.y, y, in + rank, stored);

  check_close("dh", got.dh, product(tokens, rank, out, m.dy, b, m.scale), out, m.type);
  Expected db = product(out, rank, tokens, transposed(m.dy), h, m.scale);
  add(db, m.db.v);
  check_close("dB", got.db, db, tokens, DType::f32);
  Expected da = product(rank, in, tokens, transposed(dh), x);
  add(da, m.da.v);
  check_close("dA", got.da, da, tokens, DType::f32);

  if (dx_form == Dx::none) {
    CHECK(same_bits(got.dx, m.dx.v));
    return;
  }
  Expected dx = product(tokens, in, rank, dh, a);
  const Matrix mask = dropped({tokens, in, std::vector<float>(static_cast<size_t>(tokens * in), 1.0f)}, m.dropout);
  for (size_t i = 0; i < dx.value.size(); ++i) {
    dx.value[i] *= mask.v[i];
    dx.size[i] *= mask.v[i];
  }
  add(dx, product(tokens, in, out, m.dy, m.w));
  if (dx_form == Dx::accumulated) add(dx, m.dx.v);
  check_close("dx", got.dx, dx, out + rank, stored);
}

void check_same(const Outputs& a, const Outputs& b) {
  CHECK(same_bits(a.h, b.h));
  CHECK(same_bits(a.y, b.y));
  CHECK(same_bits(a.dh, b.dh));
  CHECK(same_bits(a.da, b.da));
  CHECK(same_bits(a.db, b.db));
  CHECK(same_bits(a.dx, b.dx));
}

/// The first rows of a longer result.
bool begins_with(const std::vector<float>& all, const std::vector<float>& rows) {
  return same_bits(std::vector<float>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(rows.size())), rows);
}

TEST("linear: ragged sides, bias, residual, both types of y") {
  for (const DType type : both_types)
    for (const Sides& s : ragged()) {
      check_linear(type, s, false, false, type);
      check_linear(type, s, true, true, type);
      check_linear(type, s, true, false, DType::f32);
      check_linear(type, s, false, true, DType::f32);
    }
}

TEST("linear: each tile, on aligned and on unaligned rows, the ring of slices more than once round") {
  for (const DType type : both_types)
    for (const int64_t k : {200, 37})
      for (const Sides& s : tiles(k)) check_linear(type, s, true, true, type);
}

TEST("linear_backward: ragged sides, all types, overwritten and accumulated") {
  for (const DType type : both_types)
    for (const Sides& s : ragged())
      for (const DType dy : {type, DType::f32})
        for (const DType dx : {type, DType::f32}) {
          if (s.m > 200 && dy != dx) continue;
          check_linear_backward(type, s, dy, dx, false);
          check_linear_backward(type, s, dy, dx, true);
        }
}

TEST("linear_backward: each tile, f32 and stored dy") {
  for (const DType type : both_types)
    for (const Sides& s : tiles(40)) {
      check_linear_backward(type, s, type, type, true);
      check_linear_backward(type, {s.m, s.n + 3, s.k}, type, DType::f32, true);
      if (type == DType::bf16) check_linear_backward(type, {s.m, s.n + 3, s.k}, DType::f32, DType::f32, true);
    }
}

TEST("linear: both roads into shared memory give the same bits") {
  const Sides s{70, 96, 64};
  for (const DType type : both_types) {
    Random random(3);
    const Matrix x = random_matrix(random, s.m, s.k, type), w = random_matrix(random, s.n, s.k, type);
    const std::vector<float> aligned = linear(type, x, w, nullptr, nullptr, type);
    // The same operands one element further, where no 16 bytes are aligned.
    cuda::CudaOps& ops = device(type);
    const auto shifted = [&](const Matrix& m) {
      std::vector<float> v(1);
      v.insert(v.end(), m.v.begin(), m.v.end());
      return v;
    };
    const OnDevice xd(ops, shifted(x), type, {s.m * s.k + 1}), wd(ops, shifted(w), type, {s.n * s.k + 1});
    OnDevice y(ops, type, {s.m * s.n + 1});
    poison(y);
    ops.linear(xd.tensor().slice(1, s.m * s.k + 1).reshape({s.m, s.k}),
               wd.tensor().slice(1, s.n * s.k + 1).reshape({s.n, s.k}), {}, {},
               y.tensor().slice(1, s.m * s.n + 1).reshape({s.m, s.n}));
    const std::vector<float> got = y.get();
    CHECK(std::isnan(got[0]));
    CHECK(same_bits(std::vector<float>(got.begin() + 1, got.end()), aligned));
  }
}

TEST("lora_linear and its backward: ranks, ragged sides, dropout, residual, every form of dx") {
  struct Case {
    int64_t tokens, out, in, rank;
    float rate;
  };
  std::vector<Case> cases = {{1, 16, 7, 4, 0},      {17, 63, 64, 6, 0.25f}, {65, 64, 130, 16, 0.1f},
                             {33, 130, 65, 128, 0}, {130, 17, 33, 6, 0.5f}, {64, 64, 64, 16, 0},
                             {7, 1, 1, 4, 0.3f},    {40, 48, 72, 128, 0.2f}};
  if (large()) cases.push_back({1030, 1024, 1032, 16, 0.1f});
  for (const DType type : both_types)
    for (const Case& c : cases) {
      const Adapted m(type, c.tokens, c.out, c.in, c.rank, c.rate);
      check_adapted(m, true, Dx::accumulated, type);
      check_adapted(m, false, Dx::overwritten, DType::f32);
      check_adapted(m, true, Dx::none, type);
    }
}

TEST("lora_linear and its backward: the tiles of 64 and of 128") {
  for (const DType type : both_types)
    for (const Sides& s : tiles(40)) {
      // What a tile of 128 gives in f32 is held against tiles of 32 bit for bit below.
      if (s.m < 64 || (type == DType::f32 && s.m > 128 && !large())) continue;
      check_adapted(Adapted(type, s.m, s.n, s.k, 8, 0.25f), true, Dx::overwritten, type);
      check_adapted(Adapted(type, s.m, s.k, s.n + 3, 8, 0.25f), true, Dx::accumulated, type);
    }
}

TEST("lora: gradients of wide adapters in tiles of 64") {
  for (const DType type : both_types) {
    check_adapted(Adapted(type, 37, 96 * 64, 24, 64, 0), false, Dx::none, type);
    check_adapted(Adapted(type, 37, 24, 48 * 64 - 5, 128, 0.25f), false, Dx::none, type);
  }
}

TEST("lora_linear and its backward agree with the CPU under dropout") {
  const Adapted m(DType::f32, 37, 45, 51, 6, 0.3f);
  const Outputs got = run(device(DType::f32), m, 37, true, Dx::accumulated, DType::f32);
  const Outputs cpu = run(host(), m, 37, true, Dx::accumulated, DType::f32);
  const auto agree = [](const std::vector<float>& a, const std::vector<float>& b) {
    CHECK(largest_error(a, std::vector<double>(b.begin(), b.end())) < 1e-5);  // sums of up to 51 terms in f32
  };
  agree(got.h, cpu.h);
  agree(got.y, cpu.y);
  agree(got.dh, cpu.dh);
  agree(got.da, cpu.da);
  agree(got.db, cpu.db);
  agree(got.dx, cpu.dx);
}

TEST("the dropout mask is the CPU's, element by element") {
  // With A = identity, h is the dropped input itself.
  Adapted m(DType::f32, 50, 8, 24, 24, 0.4f);
  for (int64_t i = 0; i < 24 * 24; ++i) m.a.v[static_cast<size_t>(i)] = i / 24 == i % 24 ? 1.0f : 0.0f;
  const Outputs got = run(device(DType::f32), m, 50, false, Dx::overwritten, DType::f32);
  const Outputs cpu = run(host(), m, 50, false, Dx::overwritten, DType::f32);
  CHECK(same_bits(got.h, cpu.h));
  const auto zeros = std::count(got.h.begin(), got.h.end(), 0.0f);
  CHECK(zeros > 50 * 24 / 4 && zeros < 50 * 24 * 3 / 5);
}

TEST("a row has the same bits alone and in any batch, through every tile") {
  // 48 tiles of 128 columns: 1 and 20 rows take tiles of 32, 60 of 64, 130 of 128.
  for (const DType type : both_types)
    for (const bool wide_out : {true, false}) {
      const Adapted m(type, 130, wide_out ? 6136 : 24, wide_out ? 24 : 6136, 6, 0.2f);
      const Outputs all = run(device(type), m, 130, true, Dx::accumulated, type);
      for (const int64_t tokens : {1, 20, 60}) {
        const Outputs some = run(device(type), m, tokens, true, Dx::accumulated, type);
        CHECK(begins_with(all.h, some.h));
        CHECK(begins_with(all.y, some.y));
        CHECK(begins_with(all.dh, some.dh));
        CHECK(begins_with(all.dx, some.dx));
      }
    }
}

TEST("twice the same operands, twice the same bits") {
  for (const DType type : both_types) {
    const Adapted m(type, 70, 65, 96, 16, 0.2f);
    check_same(run(device(type), m, 70, true, Dx::accumulated, type),
               run(device(type), m, 70, true, Dx::accumulated, type));
  }
}

TEST("no tokens: nothing is touched") {
  for (const DType type : both_types) {
    const Adapted m(type, 0, 16, 24, 4, 0.1f);
    const Outputs got = run(device(type), m, 0, true, Dx::accumulated, type);
    CHECK(got.h.empty() && got.y.empty() && got.dh.empty() && got.dx.empty());
    CHECK(same_bits(got.da, m.da.v));
    CHECK(same_bits(got.db, m.db.v));
    CHECK(linear(type, m.x, m.w, nullptr, nullptr, type).empty());
  }
}

TEST("tensors that do not fit are refused") {
  cuda::CudaOps& ops = device(DType::bf16);
  const OnDevice x(ops, DType::bf16, {3, 8}), w(ops, DType::bf16, {5, 8}), wide(ops, DType::f32, {5, 8});
  const OnDevice y(ops, DType::bf16, {3, 5}), bias(ops, DType::bf16, {5});
  CHECK_ERROR(Code::internal, ("linear", "bf16[5, 8]"), ops.linear(w, x, {}, {}, y));
  CHECK_ERROR(Code::internal, ("linear", "f32[5, 8]"), ops.linear(x, wide, {}, {}, y));
  CHECK_ERROR(Code::internal, ("linear", "bf16[5]"), ops.linear(x, w, bias, {}, y));
  CHECK_ERROR(Code::internal, ("linear_backward"), ops.linear_backward(x, w, y, false));
}

}  // namespace
}  // namespace fire::test
