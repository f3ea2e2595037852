#include "cpu/cpu_features.h"

#include <cstdlib>
#include <fstream>
#include <string_view>

#include "tensor/error.h"

namespace fire::cpu {
namespace {

constexpr Isa kAll[] = {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512bf16};

std::string known_names() {
  std::string names;
  for (const Isa isa : kAll) names += std::string(names.empty() ? "" : ", ") + name(isa);
  return names;
}

}  // namespace

const char* name(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return "portable";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512bf16:
      return "avx512bf16";
  }
  return "?";
}

bool supported(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  switch (isa) {
    case Isa::portable:
      return true;
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::avx512:
      return avx512;
    case Isa::avx512bf16:
      return avx512 && __builtin_cpu_supports("avx512bf16");
  }
  return false;
#else
  return isa == Isa::portable;
#endif
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : kAll) {
    if (supported(isa)) isas.push_back(isa);
  }
  return isas;
}

Isa selected_isa() {
  const char* forced = std::getenv("FIRE_CPU_ISA");
  if (forced == nullptr || *forced == '\0') return supported_isas().back();
  for (const Isa isa : kAll) {
    if (std::string_view(forced) != name(isa)) continue;
    if (supported(isa)) return isa;
    throw Error(Code::invalid_argument, std::string("FIRE_CPU_ISA=") + forced +
                                            ": this processor cannot run it; unset the variable or choose a lower one");
  }
  throw Error(Code::invalid_argument,
              std::string("FIRE_CPU_ISA=") + forced + ": unknown instruction set; known are " + known_names());
}

std::vector<std::string> cpu_features() {
  std::vector<std::string> features;
#if defined(__x86_64__)
  __builtin_cpu_init();
#define FIRE_FEATURE(feature) \
  if (__builtin_cpu_supports(feature)) features.emplace_back(feature)
  FIRE_FEATURE("avx2");
  FIRE_FEATURE("fma");
  FIRE_FEATURE("avx512f");
  FIRE_FEATURE("avx512bw");
  FIRE_FEATURE("avx512vl");
  FIRE_FEATURE("avx512dq");
  FIRE_FEATURE("avx512vnni");
  FIRE_FEATURE("avx512bf16");
#undef FIRE_FEATURE
#elif defined(__aarch64__)
  features.emplace_back("neon");
#endif
  return features;
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const size_t colon = line.find(':');
    if (colon != std::string::npos && colon + 2 <= line.size()) return line.substr(colon + 2);
  }
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "unknown processor";
#endif
}

}  // namespace fire::cpu
