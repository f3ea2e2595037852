// Golden folders against the engine on any device, without Node: the table of `fire-train verify`.
//
//   fire_verify DIR... [--device cpu|cuda|cuda:N|auto] [--dtype f32|bf16] [--gemm native|cublaslt]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "verify/verify.h"

using namespace fire;

namespace {

struct Options {
  std::vector<std::string> folders;
  DeviceSpec device{DeviceKind::cuda, 0, ComputeType::f32, 0, GemmBackend::automatic, false, PackWeights::off, 0};
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (!name.starts_with("--")) {
      options.folders.push_back(name);
      continue;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    const auto either = [&](const char* first, const char* second) {
      if (value != first && value != second)
        throw Error(Code::invalid_argument, name + " is " + first + " or " + second + ", not \"" + value + "\"");
      return value == second;
    };
    if (name == "--device") {
      set_device(options.device, value);
    } else if (name == "--dtype") {
      options.device.dtype = either("f32", "bf16") ? ComputeType::bf16 : ComputeType::f32;
    } else if (name == "--gemm") {
      options.device.gemm = either("native", "cublaslt") ? GemmBackend::cublaslt : GemmBackend::native;
    } else {
      throw Error(Code::invalid_argument, "unknown option " + name);
    }
  }
  if (options.folders.empty()) throw Error(Code::invalid_argument, "which golden folder?");
  return options;
}

std::string difference(double value) {
  if (std::isnan(value)) return "-";
  char text[32];
  std::snprintf(text, sizeof text, value == 0 ? "%.0f" : "%.2e", value);
  return text;
}

void print(const std::vector<VerifyRow>& rows) {
  std::vector<std::vector<std::string>> cells{{"group", "tensors", "max abs", "max rel", "tolerance", "result"}};
  for (const VerifyRow& row : rows)
    cells.push_back({row.group, std::to_string(row.tensors), difference(row.max_abs), difference(row.max_rel),
                     row.tolerance, row.pass ? "pass" : "MISS  " + row.worst});
  std::vector<size_t> widths(cells[0].size());
  for (const auto& line : cells)
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  for (const auto& line : cells) {
    for (size_t i = 0; i + 1 < line.size(); ++i) std::printf("%-*s  ", static_cast<int>(widths[i]), line[i].c_str());
    std::printf("%s\n", line.back().c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  int passed = 0, failed = 0;
  try {
    const Options options = parse(argc, argv);
    for (const std::string& folder : options.folders) {
      std::printf("%s, %s, %s\n", folder.c_str(), open_device(options.device)->device_name().c_str(),
                  options.device.dtype == ComputeType::bf16 ? "bf16" : "f32");
      std::vector<VerifyRow> rows;
      try {
        rows = verify({folder, options.device}, {});
      } catch (const Error& e) {
        std::printf("%s: %s\n", to_string(e.code()), e.what());
      }
      print(rows);
      const int good = static_cast<int>(std::count_if(rows.begin(), rows.end(), [](const auto& r) { return r.pass; }));
      passed += good;
      // A folder that compared nothing is a failure, not a success of no tests.
      failed += rows.empty() ? 1 : static_cast<int>(rows.size()) - good;
    }
  } catch (const Error& e) {
    std::printf("%s: %s\n", to_string(e.code()), e.what());
    ++failed;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
