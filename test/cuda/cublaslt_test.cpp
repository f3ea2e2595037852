// The way to cuBLASLt, against a library of our own that computes what the manual says of each call, on the host, in
// columns. Where the real library can be loaded it is held against the same numbers.
#include "cuda/cublaslt.h"

#include <cstdio>
#include <cstring>
#include <optional>

#include "device.h"

namespace fire::test {
namespace {

using cuda::CublasLt;
using cuda::CublasLtLibrary;

// --- the pretend library: cuBLAS manual, "cublasLtMatmul" and the enumerations it names --------------------
enum : int { OP_N = 0, OP_T = 1, R_32F = 0, R_16BF = 14, COMPUTE_32F = 68, DESC_TRANSA = 3, DESC_TRANSB = 4 };
enum : int { PREF_WORKSPACE = 1, PREF_REDUCTION = 3, PREF_ALIGN_A = 5, PREF_ALIGN_D = 8, CONFIG_SPLITK = 2 };

struct FakeDesc {
  int32_t op_a = OP_N, op_b = OP_N;
};
struct FakeLayout {
  int type;
  uint64_t rows, cols;
  int64_t ld;
};

struct FakeState {
  int objects = 0, heuristics = 0, checks = 0, matmuls = 0;
  int heuristic_status = 0, check_status = 0, matmul_status = 0;
  uint64_t workspace = 0, asked_rows = 0;
  /// The split of K of the candidates that the heuristic answers with, in its order.
  std::vector<int32_t> splits = {1};
  /// Batches of fewer rows than this are not taken by an algorithm, and so are workspaces above this by us.
  uint64_t least_rows = 0, most_rows = ~uint64_t{0}, needed_workspace = 0;
  /// K is summed from the other end in batches of fewer rows than this.
  uint64_t other_order_below = 0;
  uint32_t reduction = 0, alignment[4] = {};
};
FakeState fake;

int made(void** object, void* made) {
  *object = made;
  ++fake.objects;
  return 0;
}
template <class T>
int gone(void* object) {
  delete static_cast<T*>(object);
  --fake.objects;
  return 0;
}

std::vector<float> uniform(size_t count, uint32_t seed) { return Random(seed).floats(static_cast<int64_t>(count)); }

/// Device memory through pinned memory.
template <class T>
std::vector<T> fetched(const void* device, size_t count, cuda::Stream stream) {
  std::vector<T> values(count);
  void* pinned = cuda::allocate_pinned(count * sizeof(T));
  cuda::copy_to_host(pinned, device, count * sizeof(T), stream);
  cuda::synchronize(stream);
  std::memcpy(values.data(), pinned, count * sizeof(T));
  cuda::release_pinned(pinned);
  return values;
}
template <class T>
void stored(const std::vector<T>& values, void* device, cuda::Stream stream) {
  void* pinned = cuda::allocate_pinned(values.size() * sizeof(T));
  std::memcpy(pinned, values.data(), values.size() * sizeof(T));
  cuda::copy_to_device(device, pinned, values.size() * sizeof(T), stream);
  cuda::synchronize(stream);
  cuda::release_pinned(pinned);
}

int fake_matmul(void*, void* desc_object, const void* alpha, const void* a, void* a_object, const void* b,
                void* b_object, const void* beta, const void* c, void* c_object, void* d, void* d_object,
                const CublasLtLibrary::Algorithm* algorithm, void* workspace, size_t workspace_bytes, void* stream) {
  ++fake.matmuls;
  const FakeDesc& desc = *static_cast<FakeDesc*>(desc_object);
  const FakeLayout &la = *static_cast<FakeLayout*>(a_object), &lb = *static_cast<FakeLayout*>(b_object),
                   &lc = *static_cast<FakeLayout*>(c_object), &ld = *static_cast<FakeLayout*>(d_object);
  if (algorithm->data[0] != 4711 || algorithm->data[1] > 1 || workspace == nullptr || workspace_bytes != fake.workspace)
    return 7;
  if (la.type != R_16BF || lb.type != R_16BF || lc.type != ld.type || c != d) return 7;
  const uint64_t rows = desc.op_a == OP_T ? la.cols : la.rows, inner = desc.op_a == OP_T ? la.rows : la.cols;
  const uint64_t cols = desc.op_b == OP_T ? lb.rows : lb.cols, inner_b = desc.op_b == OP_T ? lb.cols : lb.rows;
  if (inner != inner_b || rows != ld.rows || cols != ld.cols) return 7;
  const auto span = [](const FakeLayout& l) { return static_cast<size_t>(l.ld) * l.cols; };
  const auto va = fetched<bf16>(a, span(la), stream), vb = fetched<bf16>(b, span(lb), stream);
  const auto at = [](const auto& v, const FakeLayout& l, uint64_t i, uint64_t j) {
    return v[i + static_cast<size_t>(l.ld) * j];
  };
  const auto product = [&](auto values, auto widen, auto narrow) {
    for (uint64_t j = 0; j < cols; ++j)
      for (uint64_t i = 0; i < rows; ++i) {
        float sum = 0;
        for (uint64_t step = 0; step < inner; ++step) {
          const uint64_t k = cols < fake.other_order_below ? inner - 1 - step : step;
          sum += to_float(desc.op_a == OP_T ? at(va, la, k, i) : at(va, la, i, k)) *
                 to_float(desc.op_b == OP_T ? at(vb, lb, j, k) : at(vb, lb, k, j));
        }
        auto& out = values[i + static_cast<size_t>(ld.ld) * j];
        const float before = *static_cast<const float*>(beta) == 0 ? 0 : *static_cast<const float*>(beta) * widen(out);
        out = narrow(*static_cast<const float*>(alpha) * sum + before);
      }
    stored(values, d, stream);
  };
  if (ld.type == R_32F) {
    product(
        fetched<float>(d, span(ld), stream), [](float x) { return x; }, [](float x) { return x; });
  } else {
    product(
        fetched<bf16>(d, span(ld), stream), [](bf16 x) { return to_float(x); }, [](float x) { return to_bf16(x); });
  }
  return fake.matmul_status;
}

CublasLtLibrary fake_library() {
  CublasLtLibrary l;
  l.available = true;
  l.detail = "a pretend cuBLASLt";
  l.create = [](void** handle) { return made(handle, new int(0)); };
  l.destroy = gone<int>;
  l.desc_create = [](void** desc, int compute, int scale) {
    return compute == COMPUTE_32F && scale == R_32F ? made(desc, new FakeDesc) : 7;
  };
  l.desc_destroy = gone<FakeDesc>;
  l.desc_set = [](void* desc, int attribute, const void* value, size_t bytes) {
    if (bytes != 4 || (attribute != DESC_TRANSA && attribute != DESC_TRANSB)) return 7;
    FakeDesc& d = *static_cast<FakeDesc*>(desc);
    std::memcpy(attribute == DESC_TRANSA ? &d.op_a : &d.op_b, value, 4);
    return 0;
  };
  l.layout_create = [](void** layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
    return ld >= static_cast<int64_t>(rows) ? made(layout, new FakeLayout{type, rows, cols, ld}) : 7;
  };
  l.layout_destroy = gone<FakeLayout>;
  l.preference_create = [](void** preference) { return made(preference, new int(0)); };
  l.preference_destroy = gone<int>;
  l.preference_set = [](void*, int attribute, const void* value, size_t bytes) {
    if (attribute == PREF_WORKSPACE && bytes == 8) return std::memcpy(&fake.workspace, value, 8), 0;
    if (attribute == PREF_REDUCTION && bytes == 4) return std::memcpy(&fake.reduction, value, 4), 0;
    if (attribute < PREF_ALIGN_A || attribute > PREF_ALIGN_D || bytes != 4) return 7;
    std::memcpy(&fake.alignment[attribute - PREF_ALIGN_A], value, 4);
    return 0;
  };
  l.heuristic = [](void*, void*, void*, void*, void*, void* d, void*, int wanted,
                   CublasLtLibrary::HeuristicResult* results, int* found) {
    ++fake.heuristics;
    fake.asked_rows = static_cast<FakeLayout*>(d)->cols;
    *found = fake.heuristic_status == 0 ? std::min(wanted, static_cast<int>(fake.splits.size())) : 0;
    for (int i = 0; i < *found; ++i) {
      results[i].algorithm.data[0] = 4711;
      results[i].algorithm.data[1] = static_cast<uint64_t>(fake.splits[static_cast<size_t>(i)]);
      results[i].state = 0;
    }
    return fake.heuristic_status;
  };
  l.algorithm_check = [](void*, void*, void*, void*, void*, void* d, const CublasLtLibrary::Algorithm* algorithm,
                         CublasLtLibrary::HeuristicResult* result) {
    ++fake.checks;
    if (algorithm->data[0] != 4711) return 7;
    result->workspace_bytes = fake.needed_workspace;
    const uint64_t rows = static_cast<FakeLayout*>(d)->cols;
    return rows < fake.least_rows || rows > fake.most_rows ? 15 : fake.check_status;
  };
  l.algorithm_get = [](const CublasLtLibrary::Algorithm* algorithm, int attribute, void* value, size_t bytes,
                       size_t* written) {
    if (attribute != CONFIG_SPLITK || bytes != 4) return 7;
    const int32_t parts = static_cast<int32_t>(algorithm->data[1]);
    std::memcpy(value, &parts, 4);
    *written = 4;
    return 0;
  };
  l.matmul = fake_matmul;
  return l;
}

// ------------------------------------------------------------------------------------------------------------------------

struct Case {
  int64_t m, n, k;
  CublasLt::Operand layout;
  DType type;
  float beta;
};

struct StreamOwner {
  cuda::Stream stream = cuda::create_stream();
  ~StreamOwner() { cuda::destroy_stream(stream); }
};

/// ||a - b|| / ||b||.
double relative_error(const std::vector<float>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  const double error = std::sqrt(difference / size);
  return std::isnan(error) ? INFINITY : error;
}

/// The relative error of one product; nothing when the library has no kernel for it.
std::optional<double> error_of(CublasLt& library, const Case& c) {
  Ops& ops = device(DType::bf16);
  const auto size = [](int64_t rows, int64_t cols) { return static_cast<size_t>(rows * cols); };
  const std::vector<float> a = rounded(uniform(size(c.m, c.k), 1), DType::bf16),
                           b = rounded(uniform(size(c.n, c.k), 2), DType::bf16),
                           before = rounded(uniform(size(c.m, c.n), 3), c.type);
  const bool transposed = c.layout == CublasLt::Operand::transposed;
  Placed da(ops, a, DType::bf16, {c.m, c.k}), db(ops, b, DType::bf16, {c.n, c.k}), dd(ops, before, c.type, {c.m, c.n});
  ops.download_f32(dd);  // the uploads are on another stream
  StreamOwner own;
  if (!library.matmul(da.tensor().b16(), db.tensor().b16(), c.layout, dd.tensor().data(), c.type, c.m, c.n, c.k, c.beta,
                      own.stream))
    return std::nullopt;
  cuda::synchronize(own.stream);
  std::vector<double> expected(size(c.m, c.n));
  for (int64_t i = 0; i < c.m; ++i)
    for (int64_t j = 0; j < c.n; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < c.k; ++k)
        sum += double(a[size(i, c.k) + static_cast<size_t>(k)]) *
               b[transposed ? size(j, c.k) + static_cast<size_t>(k) : size(k, c.n) + static_cast<size_t>(j)];
      const size_t at = size(i, c.n) + static_cast<size_t>(j);
      expected[at] = sum + (c.beta == 0 ? 0 : double(c.beta) * before[at]);
    }
  return relative_error(dd.get(), expected);
}

/// f32: sums of K <= 1000 products in f32, any order. bf16: its rounding, at most 2^-9.
double tolerance(DType type) { return type == DType::f32 ? 3e-6 : 1.0 / 512; }

constexpr auto NT = CublasLt::Operand::transposed, NN = CublasLt::Operand::plain;
const std::vector<Case> cases = {
    {8, 16, 24, NT, DType::f32, 0},  {8, 16, 24, NN, DType::f32, 0},   {16, 8, 32, NT, DType::bf16, 0},
    {16, 8, 32, NN, DType::bf16, 0}, {24, 40, 16, NT, DType::f32, 1},  {24, 40, 16, NN, DType::bf16, 1},
    {5, 7, 9, NT, DType::f32, 0.5f}, {9, 5, 7, NN, DType::bf16, 0.5f}, {1, 64, 48, NT, DType::f32, 0},
};

TEST("cuBLASLt is asked for the row-major product, transposed and plain, f32 and bf16, with and without beta") {
  fake = {};
  const CublasLtLibrary library = fake_library();
  {
    CublasLt products(library);
    for (const Case& c : cases) {
      const std::optional<double> error = error_of(products, c);
      CHECK(error.has_value() && *error < tolerance(c.type));
    }
    CHECK(fake.workspace == uint64_t{32} << 20);
    CHECK(fake.reduction == 0);  // CUBLASLT_REDUCTION_SCHEME_NONE: K is not split
    for (const uint32_t alignment : fake.alignment) CHECK(alignment == 16);
    CHECK(fake.matmuls == static_cast<int>(cases.size()));
  }
  CHECK(fake.objects == 0);
}

TEST("cuBLASLt chooses once a weight and alignment, for a fixed number of rows, and asks before each other number") {
  fake = {};
  const CublasLtLibrary library = fake_library();
  CublasLt products(library);
  for (int i = 0; i < 3; ++i) CHECK(error_of(products, cases[0]).has_value());
  CHECK(fake.heuristics == 1 && fake.checks == 1);
  Case other = cases[0];
  for (const int64_t m : {9, 1, 9}) {
    other.m = m;
    CHECK(error_of(products, other).has_value());
  }
  CHECK(fake.heuristics == 1 && fake.checks == 3);
  CHECK(fake.asked_rows == 4096);
  CHECK(fake.matmuls == 6);

  // The same weight with rows that begin 16 bytes on, which is as good, and 8, which is not.
  Ops& ops = device(DType::bf16);
  Placed a(ops, uniform(1000, 1), DType::bf16, {1000}), b(ops, uniform(1000, 2), DType::bf16, {1000}),
      d(ops, DType::f32, {1000});
  ops.zero(d);
  ops.download_f32(d);
  StreamOwner own;
  const auto shifted = [&](int64_t elements) {
    CHECK(products.matmul(a.tensor().b16() + elements, b.tensor().b16() + 8, NT, d.tensor().f32() + 4, DType::f32, 8,
                          16, 24, 0, own.stream));
    cuda::synchronize(own.stream);
  };
  shifted(8);
  CHECK(fake.heuristics == 1);
  shifted(4);
  CHECK(fake.heuristics == 2);
  // As the library sees them: its A is our B, its B our A, C and D our D.
  const uint32_t expected[] = {16, 8, 16, 16};
  for (int i = 0; i < 4; ++i) CHECK(fake.alignment[i] == expected[i]);
}

TEST("cuBLASLt: the first algorithm that leaves K whole is fixed, and a batch that it does not take is refused") {
  fake = {};
  const CublasLtLibrary library = fake_library();
  {
    CublasLt products(library);
    fake.splits = {4, 2, 1, 3};
    fake.least_rows = 9;
    Case c = cases[0];
    CHECK(!error_of(products, c).has_value());
    c.m = 9;
    CHECK(error_of(products, c).has_value());  // its algorithm splits nothing: fake_matmul
    c.m = 10;
    fake.needed_workspace = (uint64_t{32} << 20) + 1;
    CHECK(!error_of(products, c).has_value());
    fake.needed_workspace = 0;
    c.m = 11;
    fake.check_status = 14;
    CHECK_ERROR(Code::cuda, ("cublasLtMatmulAlgoCheck", "status 14"), error_of(products, c));
  }
  fake.check_status = 0;
  CublasLt products(library);
  fake.splits = {4, 2};
  CHECK(!error_of(products, cases[0]).has_value());
  CHECK(fake.matmuls == 1);
}

TEST("cuBLASLt: no kernel for a shape is an answer, everything else an error that names the call") {
  fake = {};
  const CublasLtLibrary library = fake_library();
  CublasLt products(library);
  fake.heuristic_status = 15;  // CUBLAS_STATUS_NOT_SUPPORTED
  CHECK(!error_of(products, cases[0]).has_value());
  CHECK(!error_of(products, cases[0]).has_value());
  CHECK(fake.heuristics == 1);
  CHECK(fake.matmuls == 0);
  fake.heuristic_status = 14;  // CUBLAS_STATUS_INTERNAL_ERROR
  CHECK_ERROR(Code::cuda, ("cublasLtMatmulAlgoGetHeuristic", "status 14"), error_of(products, cases[1]));
  fake.heuristic_status = 0;
  fake.matmul_status = 13;  // CUBLAS_STATUS_EXECUTION_FAILED
  CHECK_ERROR(Code::cuda, ("cublasLtMatmul failed", "status 13"), error_of(products, cases[1]));
  fake.matmul_status = 0;
  CHECK(products.matmul(nullptr, nullptr, NT, nullptr, DType::f32, 0, 4, 4, 0, nullptr));
  CHECK(products.matmul(nullptr, nullptr, NT, nullptr, DType::f32, 4, 0, 4, 0, nullptr));
  CHECK(!products.matmul(nullptr, nullptr, NT, nullptr, DType::f32, 4, 4, 0, 0, nullptr));
}

TEST("cuBLASLt that cannot be loaded is refused with the loader's words") {
  CublasLtLibrary none;
  none.detail = "libcublasLt.so.13: cannot open shared object file";
  CHECK_ERROR(Code::unsupported, ("libcublasLt.so.13: cannot open", "FIRE_CUBLASLT_LIB", "gemm: native"),
              CublasLt products(none));
}

/// Of some numbers of rows, those whose rows are not, bit for bit, the first rows of `most`; and those refused.
struct RowBits {
  std::vector<int64_t> other, refused;
  bool compared = true;  // false: `most` itself was refused
};
RowBits row_bits(CublasLt& library, int64_t most, int64_t n, int64_t k, CublasLt::Operand layout, DType type) {
  Ops& ops = device(DType::bf16);
  Placed a(ops, uniform(static_cast<size_t>(most * k), 1), DType::bf16, {most, k}),
      b(ops, uniform(static_cast<size_t>(n * k), 2), DType::bf16, {n, k});
  StreamOwner own;
  const auto first = [&](int64_t rows) {
    Placed d(ops, type, {rows, n});
    ops.download_f32(d);  // the uploads are on another stream
    if (!library.matmul(a.tensor().b16(), b.tensor().b16(), layout, d.tensor().data(), type, rows, n, k, 0, own.stream))
      return Doubles();
    cuda::synchronize(own.stream);
    return d.values();
  };
  RowBits found;
  const Doubles all = first(most);
  found.compared = !all.empty();
  for (int64_t rows = 1; rows < most; rows = rows * 3 + 1) {
    const Doubles some = first(rows);
    if (some.empty()) {
      found.refused.push_back(rows);
    } else if (found.compared &&
               !same_bits(some, {all.begin(), all.begin() + static_cast<std::ptrdiff_t>(some.size())})) {
      found.other.push_back(rows);
    }
  }
  return found;
}

TEST("cuBLASLt: rows of other bits in a smaller batch are seen, and so are batches refused") {
  fake = {};
  const CublasLtLibrary library = fake_library();
  CublasLt products(library);
  const auto bits = [&](int64_t n) { return row_bits(products, 40, n, 300, NT, DType::f32); };
  CHECK(bits(8).other.empty() && bits(8).refused.empty());
  fake.other_order_below = 5;
  CHECK((bits(8).other == std::vector<int64_t>{1, 4}));
  fake.least_rows = 4;
  CHECK((bits(16).other == std::vector<int64_t>{4} && bits(16).refused == std::vector<int64_t>{1}));
  fake.most_rows = 39;
  CHECK(!bits(24).compared && bits(24).other.empty());
  CHECK((bits(24).refused == std::vector<int64_t>{1}));
}

TEST("cuBLASLt of this machine, where there is a GPU and the library") {
  const CublasLtLibrary& library = cuda::cublaslt();
  CHECK(!library.detail.empty());
  if (!library.available) {
    CHECK_ERROR(Code::unsupported, (library.detail), CublasLt products(library));
    return;
  }
  if (!large(device(DType::bf16))) return;  // the library is here, the GPU is not
  CublasLt products(library);
  std::vector<Case> real = cases;
  real.push_back({515, 768, 1000, NT, DType::bf16, 0});
  real.push_back({515, 768, 1000, NN, DType::f32, 1});
  for (const Case& c : real) {
    const std::optional<double> error = error_of(products, c);
    const bool aligned = c.n % 8 == 0 && c.k % 8 == 0;
    CHECK(error ? *error < tolerance(c.type) : !aligned);
  }

  // A fact about this GPU and this library, not a promise: nobody fails for it.
  const auto list = [](const std::vector<int64_t>& rows) {
    std::string text;
    for (const int64_t m : rows) text += (text.empty() ? "" : ", ") + std::to_string(m);
    return text.empty() ? "none" : text;
  };
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{2560, 9728}, {9728, 2560}, {1024, 2560}, {3584, 18944}})
    for (const CublasLt::Operand layout : {NT, NN}) {
      const RowBits bits = row_bits(products, 7520, n, k, layout, DType::bf16);
      std::printf("fact: cublaslt_rows.n%lld_k%lld_%s=other bits than in 7520 rows: %s; refused: %s\n",
                  static_cast<long long>(n), static_cast<long long>(k), layout == NT ? "transposed" : "plain",
                  bits.compared ? list(bits.other).c_str() : "not known, 7520 rows were refused",
                  list(bits.refused).c_str());
    }
}

}  // namespace
}  // namespace fire::test
