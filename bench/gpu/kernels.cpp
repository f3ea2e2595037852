// Times every operation of the GPU on the shapes of real models, as JSON lines; see bench/README.md.
//
//   fire_gpu_bench [--model NAME] [--dtype bf16|f32] [--only TEXT] [--quick] [--list] [--out FILE] [--device N]
//   fire_gpu_bench --report FACTS KERNELS PEERS STEPS --out results.json
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>

#include "bench.h"
#include "cuda/cublaslt.h"

namespace fire::bench {
namespace {

struct Options {
  std::string shapes = FIRE_BENCH_SHAPES, model, dtype, only, out;
  bool quick = false, list = false;
  int device = 0;
  std::vector<std::string> report;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto value = [&] {
      if (++i >= argc) throw Error(Code::invalid_argument, name + " needs a value");
      return std::string(argv[i]);
    };
    if (name == "--quick") {
      options.quick = true;
    } else if (name == "--list") {
      options.list = true;
    } else if (name == "--report") {
      for (int part = 0; part < 4; ++part) options.report.push_back(value());
    } else if (name == "--device") {
      options.device = std::stoi(value());
    } else {
      std::string* const to = name == "--model"    ? &options.model
                              : name == "--dtype"  ? &options.dtype
                              : name == "--only"   ? &options.only
                              : name == "--out"    ? &options.out
                              : name == "--shapes" ? &options.shapes
                                                   : nullptr;
      if (to == nullptr) throw Error(Code::invalid_argument, "unknown option " + name);
      *to = value();
    }
  }
  if (!options.dtype.empty() && options.dtype != "f32" && options.dtype != "bf16")
    throw Error(Code::invalid_argument, "--dtype is f32 or bf16, not " + options.dtype);
  return options;
}

/// What rotates through the caches: several times the 50 or 60 MB of L2 that these GPUs have.
constexpr size_t rotated_bytes = size_t{256} << 20;

/// Repetitions and how much they may take together.
struct Effort {
  int repetitions = 40, least = 5;
  double milliseconds = 4000;
  size_t sets = 64, rotated = rotated_bytes;
};

/// Milliseconds of each call, sorted. Buffers rotate, so that a call finds nothing of what it reads in the L2 cache;
/// events between the calls, so that the GPU never waits for the host's clock.
std::vector<float> time(const Case& one, Buffers& buffers, const Effort& effort) {
  std::vector<test::Tensors> sets{buffers.tensors(one.call)};
  const size_t bytes = std::max<size_t>(buffers.bytes(), 1);
  const size_t count = std::clamp<size_t>((effort.rotated + bytes - 1) / bytes, 2, effort.sets);
  while (sets.size() < count) sets.push_back(buffers.tensors(one.call));
  const auto call = [&](size_t set) { one.call.call(buffers.ops, sets[set]); };
  const cuda::Stream stream = buffers.ops.stream();

  struct Events {
    std::vector<cuda::Event> all;
    cuda::Event mark(cuda::Stream on) {
      all.push_back(cuda::create_event());
      cuda::record(all.back(), on);
      return all.back();
    }
    ~Events() {
      for (const cuda::Event event : all) cuda::destroy_event(event);
    }
  } events;
  for (size_t i = 0; i < sets.size(); ++i) call(i);
  const cuda::Event begin = events.mark(stream);
  call(0);
  const cuda::Event end = events.mark(stream);
  cuda::wait(end);
  const double once = std::max<double>(static_cast<double>(cuda::elapsed(begin, end)), 1e-3);
  const int repetitions = std::clamp(static_cast<int>(effort.milliseconds / once), effort.least, effort.repetitions);
  for (size_t i = 0; i < std::max<size_t>(sets.size(), 5); ++i) call(i % sets.size());

  events.mark(stream);
  const size_t first = events.all.size() - 1;
  for (int i = 0; i < repetitions; ++i) {
    call(static_cast<size_t>(i) % sets.size());
    events.mark(stream);
  }
  cuda::wait(events.all.back());
  std::vector<float> times;
  for (size_t i = first; i + 1 < events.all.size(); ++i)
    times.push_back(cuda::elapsed(events.all[i], events.all[i + 1]));
  std::sort(times.begin(), times.end());
  return times;
}

double median(const std::vector<float>& sorted) {
  const size_t n = sorted.size();
  return (static_cast<double>(sorted[(n - 1) / 2]) + static_cast<double>(sorted[n / 2])) / 2;
}

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", x);
  return text;
}

std::string identity(const Case& one, const std::string& model, const std::string& dtype) {
  return "{\"kernel\": " + json_quote(one.kernel) + ", \"model\": " + json_quote(model) +
         ", \"dtype\": " + json_quote(dtype) + ", \"shape\": " + json_quote(one.shape) +
         ", \"bytes\": " + number(one.cost.bytes) + ", \"flops\": " + number(one.cost.flops);
}

class Run {
 public:
  Run(const Options& options, std::ostream& out) : options_(options), out_(out) {
    if (options.quick) effort_ = {3, 3, 1, 2, 1};
  }

  /// False when a case failed.
  bool run(const std::vector<Shapes>& models) {
    if (options_.list) {
      for (const DType type : types())
        for (const Shapes& shapes : models)
          for (const Case& one : cases_of(shapes, type)) out_ << identity(one, shapes.model, name(type)) << "}\n";
      return true;
    }
    ceilings();
    for (const DType type : types()) {
      cuda::CudaOps ops(options_.device, type, cuda::CudaOps::GemmChoice::native);
      Buffers buffers(ops, random_bytes());
      for (const Shapes& shapes : models)
        for (const Case& one : cases_of(shapes, type)) measure(one, shapes.model, name(type), buffers);
    }
    return failed_ == 0;
  }

 private:
  std::vector<DType> types() const {
    if (options_.dtype.empty()) return {DType::bf16, DType::f32};
    return {options_.dtype == "f32" ? DType::f32 : DType::bf16};
  }
  size_t random_bytes() const { return options_.quick ? size_t{1} << 16 : size_t{64} << 20; }

  void ceilings() {
    using Choice = cuda::CudaOps::GemmChoice;
    const int64_t copied = options_.quick ? 1 << 16 : int64_t{1} << 30, side = options_.quick ? 64 : 8192;
    for (const Choice choice : {Choice::native, Choice::cublaslt}) {
      if (choice == Choice::cublaslt && !cuda::cublaslt().available) {
        std::cerr << "cuBLASLt: " << cuda::cublaslt().detail << "\n";
        continue;
      }
      cuda::CudaOps ops(options_.device, DType::bf16, choice);
      Buffers buffers(ops, random_bytes());
      if (choice == Choice::native) {
        std::cerr << ops.device_name() << ", " << ops.isa_name() << ", " << ops.threads() << " multiprocessors\n";
        measure(copy_ceiling(copied), "ceiling", "bytes", buffers);
      }
      Case gemm = gemm_ceiling(side, DType::bf16);
      gemm.kernel += std::string(" ") + ops.gemm_name();
      measure(gemm, "ceiling", "bf16", buffers);
    }
  }

  void measure(const Case& one, const std::string& model, const std::string& dtype, Buffers& buffers) {
    if (model != "ceiling" && one.kernel.find(options_.only) == std::string::npos) return;
    std::cerr << model << " " << dtype << " " << one.kernel << " " << one.shape << ": " << std::flush;
    out_ << identity(one, model, dtype);
    try {
      const std::vector<float> times = time(one, buffers, effort_);
      buffers.clear();
      const double middle = median(times), least = static_cast<double>(times.front()),
                   most = static_cast<double>(times.back());
      out_ << ", \"median_ms\": " << number(middle) << ", \"min_ms\": " << number(least)
           << ", \"max_ms\": " << number(most) << ", \"spread\": " << number((most - least) / middle)
           << ", \"repetitions\": " << times.size() << "}" << std::endl;
      std::cerr << number(middle) << " ms, " << number(one.cost.bytes / middle / 1e6) << " GB/s, "
                << number(one.cost.flops / middle / 1e9) << " TFLOP/s\n";
    } catch (const Error& e) {
      ++failed_;
      out_ << ", \"error\": " << json_quote(e.what()) << "}" << std::endl;
      std::cerr << "FAILED " << e.what() << "\n";
      // After a fault on the GPU the process cannot go on; a shape that does not fit is the case's own problem.
      if (e.code() == Code::cuda) throw;
      buffers.clear();
    }
  }

  const Options& options_;
  std::ostream& out_;
  Effort effort_;
  int failed_ = 0;
};

int run(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (const auto& files = options.report; !files.empty())
    return report({files[0], files[1], files[2], files[3]}, options.out) == 0 ? 0 : 1;

  const Json file = Json::load(options.shapes);
  std::vector<Shapes> models = read_shapes(options.quick ? file.at("quick") : file);
  std::erase_if(models, [&](const Shapes& s) { return !options.model.empty() && s.model != options.model; });
  if (models.empty()) throw Error(Code::invalid_argument, options.shapes + " has no model \"" + options.model + "\"");
  std::ofstream stream;
  if (!options.out.empty()) {
    stream.open(options.out);
    if (!stream) throw Error(Code::io, "cannot write " + options.out);
  }
  const bool good = Run(options, options.out.empty() ? std::cout : stream).run(models);
  return good ? 0 : 1;
}

}  // namespace
}  // namespace fire::bench

int main(int argc, char** argv) {
  try {
    return fire::bench::run(argc, argv);
  } catch (const fire::Error& e) {
    std::cerr << fire::to_string(e.code()) << ": " << e.what() << "\n";
    return 2;
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return 2;
  }
}
