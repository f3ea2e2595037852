#include "cuda/cublaslt.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "cuda/watch.h"
#include "ops/ops.h"
#include "tensor/error.h"

namespace fire::cuda {
namespace {

// The values of the library's enumerations that are used (documented in NVIDIA's cuBLAS manual and fixed by its ABI).
constexpr int kReal32F = 0, kReal16BF = 14;  // cudaDataType
constexpr int kCompute32F = 68;              // cublasComputeType_t
constexpr int kTransA = 3, kTransB = 4;      // cublasLtMatmulDescAttributes_t, values int32
constexpr int32_t kOpN = 0, kOpT = 1;        // cublasOperation_t
constexpr int kMaxWorkspace = 1;             // cublasLtMatmulPreferenceAttributes_t: uint64
constexpr int kReductionMask = 3;            // uint32
constexpr int kAlignA = 5, kAlignB = 6;      // uint32, bytes
constexpr int kAlignC = 7, kAlignD = 8;
constexpr uint32_t kNoReduction = 0;                  // cublasLtReductionScheme_t: K is not split
constexpr int kSplitK = 2;                            // cublasLtMatmulAlgoConfigAttributes_t: int32
constexpr int kNotSupported = 15, kInvalidValue = 7;  // cublasStatus_t

constexpr size_t kWorkspaceBytes = cublaslt_workspace;
/// Numbers of rows remembered at once, for each weight. Training sees as many as there are batch sizes.
constexpr size_t kMaxBatches = 256;
/// The number of rows that algorithms are chosen for, and how many of the best are looked at.
constexpr int64_t kCanonicalRows = 4096;
constexpr int kCandidates = 8;

template <class F>
bool find(void* library, const char* symbol, F*& function) {
  function = reinterpret_cast<F*>(dlsym(library, symbol));
  return function != nullptr;
}

/// "13.1.1" of 130101 (since 12.0: major * 10000 + minor * 100 + patch).
std::string version_text(size_t v) {
  return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
}

/// Empty when `file` was loaded into `out`, else why not. A loaded library is never closed.
std::string load(const std::string& file, CublasLtLibrary& out) {
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* message = dlerror();
    return message ? message : file + ": cannot be opened";
  }
  size_t (*version)() = nullptr;
  const bool complete = find(library, "cublasLtGetVersion", version) && find(library, "cublasLtCreate", out.create) &&
                        find(library, "cublasLtDestroy", out.destroy) &&
                        find(library, "cublasLtMatmulDescCreate", out.desc_create) &&
                        find(library, "cublasLtMatmulDescDestroy", out.desc_destroy) &&
                        find(library, "cublasLtMatmulDescSetAttribute", out.desc_set) &&
                        find(library, "cublasLtMatrixLayoutCreate", out.layout_create) &&
                        find(library, "cublasLtMatrixLayoutDestroy", out.layout_destroy) &&
                        find(library, "cublasLtMatmulPreferenceCreate", out.preference_create) &&
                        find(library, "cublasLtMatmulPreferenceDestroy", out.preference_destroy) &&
                        find(library, "cublasLtMatmulPreferenceSetAttribute", out.preference_set) &&
                        find(library, "cublasLtMatmulAlgoGetHeuristic", out.heuristic) &&
                        find(library, "cublasLtMatmulAlgoCheck", out.algorithm_check) &&
                        find(library, "cublasLtMatmulAlgoConfigGetAttribute", out.algorithm_get) &&
                        find(library, "cublasLtMatmul", out.matmul);
  if (!complete) return file + ": is not cuBLASLt, or lacks some of its functions";
  const size_t number = version();
  const size_t major = number / 10000;
  if (major != 12 && major != 13)
    return file + ": version " + version_text(number) + " is not known, need 12.x or 13.x";
  out.detail = "cuBLASLt " + version_text(number) + " (" + file + ")";
  return {};
}

CublasLtLibrary look() {
  std::vector<std::string> files = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
  const char* chosen = std::getenv("FIRE_CUBLASLT_LIB");
  if (chosen != nullptr && *chosen != '\0') files = {chosen};
  std::string reasons;
  for (const std::string& file : files) {
    CublasLtLibrary found;
    const std::string reason = load(file, found);
    if (reason.empty()) {
      found.available = true;
      return found;
    }
    reasons += (reasons.empty() ? "" : "; ") + reason;
  }
  CublasLtLibrary none;
  none.detail = reasons;
  return none;
}

/// The largest power of two up to 16 that divides the address. No kernel gains from more, and what a tensor happens to
/// have more of must not choose another algorithm.
uint32_t alignment(const void* p) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(p) | 16;
  return static_cast<uint32_t>(address & (~address + 1));
}

}  // namespace

const CublasLtLibrary& cublaslt() {
  static const CublasLtLibrary library = look();
  return library;
}

/// The part of a product that knows its rows: A and D, and whether the fixed algorithm takes so many.
struct CublasLt::Batch {
  explicit Batch(const CublasLtLibrary& library) : library(library) {}
  ~Batch() {
    for (const CublasLtLibrary::Layout layout : {second, result})
      if (layout != nullptr) library.layout_destroy(layout);
  }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  const CublasLtLibrary& library;
  CublasLtLibrary::Layout second = nullptr, result = nullptr;
  bool taken = false;
};

/// What a weight needs at every call. `supported` false: the library has no kernel for it that leaves K whole.
struct CublasLt::Fixed {
  Fixed(const CublasLtLibrary& library, const Weight& weight) : library(library), weight(weight) {}
  ~Fixed() {
    if (desc != nullptr) library.desc_destroy(desc);
    if (first != nullptr) library.layout_destroy(first);
  }
  Fixed(const Fixed&) = delete;
  Fixed& operator=(const Fixed&) = delete;

  const CublasLtLibrary& library;
  const Weight weight;
  CublasLtLibrary::Desc desc = nullptr;
  CublasLtLibrary::Layout first = nullptr;
  CublasLtLibrary::Algorithm algorithm{};
  bool supported = false;
  std::map<int64_t, std::unique_ptr<Batch>> batches;
};

CublasLt::CublasLt(const CublasLtLibrary& library) : library_(library) {
  if (!library.available)
    throw Error(Code::unsupported,
                "cuBLASLt cannot be loaded (" + library.detail +
                    "); install the CUDA libraries, set FIRE_CUBLASLT_LIB to the file, or use gemm: native");
  workspace_ = allocate(kWorkspaceBytes);
  if (workspace_ == nullptr)
    throw Error(Code::out_of_memory, "the GPU has no 32 MiB left for cuBLASLt's workspace; use gemm: native");
  const int status = library.create(&handle_);
  if (status != 0) {
    release(workspace_);
    succeed(status, "cublasLtCreate");
  }
}

CublasLt::~CublasLt() {
  fixed_.clear();
  library_.destroy(handle_);
  release(workspace_);
}

void CublasLt::succeed(int status, const char* call) const {
  if (status == 0) return;
  throw Error(Code::cuda, std::string(call) + " failed with status " + std::to_string(status) + " (" + library_.detail +
                              "); use gemm: native")
      .with("cublas", std::to_string(status));
}

CublasLtLibrary::Layout CublasLt::layout(DType type, int64_t rows, int64_t cols) const {
  CublasLtLibrary::Layout made = nullptr;
  succeed(library_.layout_create(&made, type == DType::f32 ? kReal32F : kReal16BF, static_cast<uint64_t>(rows),
                                 static_cast<uint64_t>(cols), rows),
          "cublasLtMatrixLayoutCreate");
  return made;
}

// cuBLASLt thinks in columns. A row-major D[M,N] is a column-major [N,M], so it is asked for D^T = op(B)^T A^T: its
// first operand is our B and its second our A.
std::unique_ptr<CublasLt::Fixed> CublasLt::fix(const Weight& weight) {
  const auto& [n, k, b_layout, d_type, align_a, align_b, align_d] = weight;
  auto p = std::make_unique<Fixed>(library_, weight);
  succeed(library_.desc_create(&p->desc, kCompute32F, kReal32F), "cublasLtMatmulDescCreate");
  const bool transposed = b_layout == Operand::transposed;
  const int32_t first_op = transposed ? kOpT : kOpN, second_op = kOpN;
  succeed(library_.desc_set(p->desc, kTransA, &first_op, sizeof first_op), "cublasLtMatmulDescSetAttribute");
  succeed(library_.desc_set(p->desc, kTransB, &second_op, sizeof second_op), "cublasLtMatmulDescSetAttribute");
  p->first = layout(DType::bf16, transposed ? k : n, transposed ? n : k);

  CublasLtLibrary::Preference preference = nullptr;
  succeed(library_.preference_create(&preference), "cublasLtMatmulPreferenceCreate");
  const std::unique_ptr<void, int (*)(CublasLtLibrary::Preference)> owned(preference, library_.preference_destroy);
  const auto prefer = [&](int attribute, const void* value, size_t bytes) {
    succeed(library_.preference_set(preference, attribute, value, bytes), "cublasLtMatmulPreferenceSetAttribute");
  };
  const uint64_t workspace_bytes = kWorkspaceBytes;
  prefer(kMaxWorkspace, &workspace_bytes, sizeof workspace_bytes);
  prefer(kReductionMask, &kNoReduction, sizeof kNoReduction);
  prefer(kAlignA, &align_b, sizeof align_b);
  prefer(kAlignB, &align_a, sizeof align_a);
  prefer(kAlignC, &align_d, sizeof align_d);
  prefer(kAlignD, &align_d, sizeof align_d);

  Batch canonical(library_);
  canonical.second = layout(DType::bf16, k, kCanonicalRows);
  canonical.result = layout(d_type, n, kCanonicalRows);
  CublasLtLibrary::HeuristicResult found[kCandidates] = {};
  int count = 0;
  const int status = library_.heuristic(handle_, p->desc, p->first, canonical.second, canonical.result,
                                        canonical.result, preference, kCandidates, found, &count);
  if (status != kNotSupported && status != kInvalidValue) succeed(status, "cublasLtMatmulAlgoGetHeuristic");
  for (int i = 0; status == 0 && i < count && !p->supported; ++i) {
    int32_t parts = 1;  // an algorithm that does not know the word does not split
    size_t written = 0;
    library_.algorithm_get(&found[i].algorithm, kSplitK, &parts, sizeof parts, &written);
    p->supported = found[i].state == 0 && parts <= 1;
    if (p->supported) p->algorithm = found[i].algorithm;
  }
  return p;
}

std::unique_ptr<CublasLt::Batch> CublasLt::batch(const Fixed& fixed, int64_t m) {
  const auto& [n, k, b_layout, d_type, align_a, align_b, align_d] = fixed.weight;
  auto b = std::make_unique<Batch>(library_);
  if (!fixed.supported) return b;
  b->second = layout(DType::bf16, k, m);
  b->result = layout(d_type, n, m);
  CublasLtLibrary::HeuristicResult checked{};
  const int status = library_.algorithm_check(handle_, fixed.desc, fixed.first, b->second, b->result, b->result,
                                              &fixed.algorithm, &checked);
  if (status != kNotSupported && status != kInvalidValue) succeed(status, "cublasLtMatmulAlgoCheck");
  b->taken = status == 0 && checked.state == 0 && checked.workspace_bytes <= kWorkspaceBytes;
  return b;
}

bool CublasLt::matmul(const bf16* a, const bf16* b, Operand layout, void* d, DType d_type, int64_t m, int64_t n,
                      int64_t k, float beta, Stream stream) {
  if (d_type != DType::f32 && d_type != DType::bf16)
    throw Error(Code::internal, std::string("cuBLASLt asked for a product of type ") + name(d_type));
  if (m == 0 || n == 0) return true;
  if (k == 0) return false;
  const Weight weight{n, k, layout, d_type, alignment(a), alignment(b), alignment(d)};
  auto found = fixed_.find(weight);
  if (found == fixed_.end()) found = fixed_.emplace(weight, fix(weight)).first;
  Fixed& p = *found->second;
  auto known = p.batches.find(m);
  if (known == p.batches.end()) {
    if (p.batches.size() >= kMaxBatches) p.batches.clear();
    known = p.batches.emplace(m, batch(p, m)).first;
  }
  const Batch& rows = *known->second;
  if (!rows.taken) return false;
  const float alpha = 1;
  launching("cublasLtMatmul", stream);
  succeed(library_.matmul(handle_, p.desc, &alpha, b, p.first, a, rows.second, &beta, d, rows.result, d, rows.result,
                          &p.algorithm, workspace_, kWorkspaceBytes, stream),
          "cublasLtMatmul");
  launched("cublasLtMatmul", stream);
  return true;
}

}  // namespace fire::cuda
