// The matrix product of gemm.h as compute capability 9.0 computes it (gemm_hopper.cuh): what its launcher needs to
// know.
#pragma once

#include "cuda/gemm.h"

namespace fire::cuda {

/// The rows and columns of Y that a block computes at a time, and the blocks of a multiprocessor.
struct HopperTileSize {
  int rows, columns, blocks;
};
/// Of a launch of `count` products with m rows and n[i] columns.
HopperTileSize hopper_tile_size(GemmForm form, int m, const int* n, int count, int multiprocessors);

/// Whether this build has the kernel's body for the current device.
bool has_gemm_hopper();

namespace detail {

struct GemmArguments;

/// Whether TMA can fetch all factors: bf16, rows of whole 16 bytes, nothing dropped.
bool takes_gemm_hopper(const GemmArguments& args);
void launch_gemm_hopper(Stream stream, const GemmDevice& device, GemmForm form, const GemmArguments& args, int parts);

/// The same where a factor is under dropout, A in nt or B in tn, and there is no A' B' (gemm_hopper_dropout.cu).
bool takes_gemm_hopper_dropped(GemmForm form, const GemmArguments& args);
void launch_gemm_hopper_dropped(Stream stream, const GemmDevice& device, GemmForm form, const GemmArguments& args,
                                int parts);

}  // namespace detail
}  // namespace fire::cuda
