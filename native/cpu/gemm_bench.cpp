#include "cpu/gemm_bench.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "cpu/gemm.h"
#include "cpu/onednn.h"
#include "tensor/error.h"

namespace fire::cpu {
namespace {

constexpr int kMinRounds = 3;
constexpr int kMaxRounds = 200;

double seconds_of(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Something timed in every round.
struct Entry {
  /// Returns the operations done.
  std::function<double()> body;
  std::vector<double> rates;

  void round() {
    double operations = 0;
    const double seconds = seconds_of([&] { operations = body(); });
    rates.push_back(operations / std::max(seconds, 1e-9) * 1e-9);
  }
};

/// Values in [-1, 1) that differ from place to place; no denormals, which some instructions treat apart.
std::vector<float> values(int64_t count) {
  std::vector<float> out(static_cast<size_t>(count));
  uint32_t state = 12345;
  for (float& x : out) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<float>(static_cast<int32_t>(state >> 8) - (1 << 23)) / static_cast<float>(1 << 23);
  }
  return out;
}

std::vector<bf16> narrowed(const std::vector<float>& x) {
  std::vector<bf16> out(x.size());
  std::transform(x.begin(), x.end(), out.begin(), to_bf16);
  return out;
}

struct Product {
  Gemm* gemm;
  DType weights;
  DType arithmetic;
  std::string backend;
};

class Bench {
 public:
  Bench(int threads, double seconds)
      : seconds_(seconds),
        pool_(threads),
        f32_(pool_, Precision::f32, Backend::native),
        bf16_(pool_, Precision::bf16, Backend::native) {
    products_ = {{&f32_, DType::f32, DType::f32, "native"},
                 {&f32_, DType::bf16, DType::f32, "native, bf16 weights"},
                 {&bf16_, DType::bf16, DType::bf16, "native"}};
    if (!onednn().available) return;
    onednn_ = std::make_unique<Gemm>(pool_, Precision::f32, Backend::onednn);
    products_.push_back({onednn_.get(), DType::f32, DType::f32, "onednn"});
  }

  std::vector<GemmBenchRow> run(const GemmShape& shape) {
    if (shape.m <= 0 || shape.n <= 0 || shape.k <= 0) {
      throw Error(Code::invalid_argument, "a benchmark shape needs m, n and k above 0");
    }
    const std::vector<float> x = values(shape.m * shape.k), w = values(shape.n * shape.k);
    const std::vector<bf16> w16 = narrowed(w);
    std::vector<float> y(static_cast<size_t>(shape.m * shape.n));

    std::vector<Entry> entries;
    entries.push_back({[this] { return ceiling(Precision::f32); }, {}});
    entries.push_back({[this] { return ceiling(Precision::bf16); }, {}});
    for (const Product& product : products_) {
      const Operand a{x.data(), DType::f32, shape.k, 1};
      const void* weights = product.weights == DType::f32 ? static_cast<const void*>(w.data()) : w16.data();
      const Operand b{weights, product.weights, 1, shape.k};
      entries.push_back({[&, a, b, gemm = product.gemm] { return multiply(*gemm, shape, a, b, y.data()); }, {}});
    }
    take_turns(entries);

    std::vector<GemmBenchRow> rows;
    for (size_t i = 0; i < products_.size(); ++i) {
      const Product& product = products_[i];
      rows.push_back({shape.m, shape.n, shape.k, product.arithmetic, product.backend, median(entries[2 + i].rates),
                      median(entries[product.arithmetic == DType::f32 ? 0 : 1].rates)});
    }
    return rows;
  }

 private:
  void take_turns(std::vector<Entry>& entries) {
    for (Entry& entry : entries) entry.body();  // first touch of buffers, wake-up of threads
    double spent = 0;
    for (int round = 0; round < kMaxRounds && (round < kMinRounds || spent < seconds_); ++round) {
      spent += seconds_of([&] {
        for (Entry& entry : entries) entry.round();
      });
    }
  }

  /// A product repeated to last some milliseconds, so that the clock's and the pool's own cost do not show.
  double multiply(Gemm& gemm, const GemmShape& s, const Operand& a, const Operand& b, float* y) {
    const double operations = 2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
    const int repeats = static_cast<int>(std::clamp(2e8 / operations, 1.0, 1000.0));
    for (int i = 0; i < repeats; ++i) gemm(s.m, s.n, s.k, 1.0f, a, b, 0.0f, y, s.n);
    return operations * repeats;
  }

  double ceiling(Precision precision) {
    const KernelSet& kernels = kernel_set(selected_isa(), precision);
    std::atomic<double> operations{0};
    pool_.parallel_for(8 * pool_.size(), [&](int64_t, int) { operations.fetch_add(kernels.probe(60000)); });
    return operations.load();
  }

  double seconds_;
  ThreadPool pool_;
  Gemm f32_;
  Gemm bf16_;
  std::unique_ptr<Gemm> onednn_;
  std::vector<Product> products_;
};

}  // namespace

std::vector<GemmBenchRow> bench_gemm(int threads, double seconds, const std::vector<GemmShape>& shapes) {
  Bench bench(threads, seconds);
  std::vector<GemmBenchRow> rows;
  for (const GemmShape& shape : shapes) {
    const std::vector<GemmBenchRow> of_shape = bench.run(shape);
    rows.insert(rows.end(), of_shape.begin(), of_shape.end());
  }
  return rows;
}

}  // namespace fire::cpu
