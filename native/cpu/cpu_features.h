#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fire::cpu {

/// Instruction sets the products are written for, from the least to the most demanding.
enum class Isa : uint8_t { portable, avx2, avx512, avx512bf16 };

/// The spelling that FIRE_CPU_ISA takes.
const char* name(Isa isa);

/// Whether this processor (and its operating system) can run it.
bool supported(Isa isa);

/// Supported instruction sets in ascending order; always begins with portable.
std::vector<Isa> supported_isas();

/// The best supported instruction set, or the one the environment variable FIRE_CPU_ISA names. Read on every call, so
/// that a test can change it. Throws Error invalid_argument when the variable names an unknown or unsupported one.
Isa selected_isa();

/// Processor features of interest that are present, for reports: "avx2", "fma", "avx512f", ...
std::vector<std::string> cpu_features();

/// The processor's model name, or the architecture where the system does not tell.
std::string cpu_model();

}  // namespace fire::cpu
