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
constexpr uint32_t kReduceInComputeType = 2;          // cublasLtReductionScheme_t: a split K is summed in f32
constexpr int kNotSupported = 15, kInvalidValue = 7;  // cublasStatus_t

constexpr size_t kWorkspaceBytes = cublaslt_workspace;
/// Shapes remembered at once. Training sees a handful of weights and as many row counts as there are batch sizes.
constexpr size_t kMaxPlans = 4096;

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
  const bool complete =
      find(library, "cublasLtGetVersion", version) && find(library, "cublasLtCreate", out.create) &&
      find(library, "cublasLtDestroy", out.destroy) && find(library, "cublasLtMatmulDescCreate", out.desc_create) &&
      find(library, "cublasLtMatmulDescDestroy", out.desc_destroy) &&
      find(library, "cublasLtMatmulDescSetAttribute", out.desc_set) &&
      find(library, "cublasLtMatrixLayoutCreate", out.layout_create) &&
      find(library, "cublasLtMatrixLayoutDestroy", out.layout_destroy) &&
      find(library, "cublasLtMatmulPreferenceCreate", out.preference_create) &&
      find(library, "cublasLtMatmulPreferenceDestroy", out.preference_destroy) &&
      find(library, "cublasLtMatmulPreferenceSetAttribute", out.preference_set) &&
      find(library, "cublasLtMatmulAlgoGetHeuristic", out.heuristic) && find(library, "cublasLtMatmul", out.matmul);
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

/// The largest power of two up to 256 that divides the address.
uint32_t alignment(const void* p) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(p) | 256;
  return static_cast<uint32_t>(address & (~address + 1));
}

}  // namespace

const CublasLtLibrary& cublaslt() {
  static const CublasLtLibrary library = look();
  return library;
}

/// What a shape needs at every call. `supported` false: the library has no kernel for it.
struct CublasLt::Plan {
  explicit Plan(const CublasLtLibrary& library) : library(library) {}
  ~Plan() {
    if (desc != nullptr) library.desc_destroy(desc);
    for (const CublasLtLibrary::Layout layout : {first, second, result})
      if (layout != nullptr) library.layout_destroy(layout);
    if (preference != nullptr) library.preference_destroy(preference);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  const CublasLtLibrary& library;
  CublasLtLibrary::Desc desc = nullptr;
  CublasLtLibrary::Layout first = nullptr, second = nullptr, result = nullptr;
  CublasLtLibrary::Preference preference = nullptr;
  CublasLtLibrary::HeuristicResult choice{};
  bool supported = false;
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
  plans_.clear();
  library_.destroy(handle_);
  release(workspace_);
}

void CublasLt::succeed(int status, const char* call) const {
  if (status == 0) return;
  throw Error(Code::cuda, std::string(call) + " failed with status " + std::to_string(status) + " (" + library_.detail +
                              "); use gemm: native")
      .with("cublas", std::to_string(status));
}

// cuBLASLt thinks in columns. A row-major D[M,N] is a column-major [N,M], so it is asked for D^T = op(B)^T A^T: its
// first operand is our B and its second our A.
std::unique_ptr<CublasLt::Plan> CublasLt::plan(const Shape& shape) {
  const auto& [m, n, k, b_layout, d_type, accumulate, align_a, align_b, align_d] = shape;
  auto p = std::make_unique<Plan>(library_);
  succeed(library_.desc_create(&p->desc, kCompute32F, kReal32F), "cublasLtMatmulDescCreate");
  const bool transposed = b_layout == Operand::transposed;
  const int32_t first_op = transposed ? kOpT : kOpN, second_op = kOpN;
  succeed(library_.desc_set(p->desc, kTransA, &first_op, sizeof first_op), "cublasLtMatmulDescSetAttribute");
  succeed(library_.desc_set(p->desc, kTransB, &second_op, sizeof second_op), "cublasLtMatmulDescSetAttribute");
  const auto layout = [&](CublasLtLibrary::Layout& out, int type, int64_t rows, int64_t cols) {
    succeed(library_.layout_create(&out, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), rows),
            "cublasLtMatrixLayoutCreate");
  };
  layout(p->first, kReal16BF, transposed ? k : n, transposed ? n : k);
  layout(p->second, kReal16BF, k, m);
  layout(p->result, d_type == DType::f32 ? kReal32F : kReal16BF, n, m);

  succeed(library_.preference_create(&p->preference), "cublasLtMatmulPreferenceCreate");
  const auto prefer = [&](int attribute, const void* value, size_t bytes) {
    succeed(library_.preference_set(p->preference, attribute, value, bytes), "cublasLtMatmulPreferenceSetAttribute");
  };
  const uint64_t workspace_bytes = kWorkspaceBytes;
  prefer(kMaxWorkspace, &workspace_bytes, sizeof workspace_bytes);
  prefer(kReductionMask, &kReduceInComputeType, sizeof kReduceInComputeType);
  prefer(kAlignA, &align_b, sizeof align_b);
  prefer(kAlignB, &align_a, sizeof align_a);
  prefer(kAlignC, &align_d, sizeof align_d);
  prefer(kAlignD, &align_d, sizeof align_d);
  int found = 0;
  const int status = library_.heuristic(handle_, p->desc, p->first, p->second, p->result, p->result, p->preference, 1,
                                        &p->choice, &found);
  if (status != kNotSupported && status != kInvalidValue) succeed(status, "cublasLtMatmulAlgoGetHeuristic");
  p->supported = status == 0 && found > 0 && p->choice.state == 0;
  return p;
}

bool CublasLt::matmul(const bf16* a, const bf16* b, Operand layout, void* d, DType d_type, int64_t m, int64_t n,
                      int64_t k, float beta, Stream stream) {
  if (d_type != DType::f32 && d_type != DType::bf16)
    throw Error(Code::internal, std::string("cuBLASLt asked for a product of type ") + name(d_type));
  if (m == 0 || n == 0) return true;
  if (k == 0) return false;
  const Shape shape{m, n, k, layout, d_type, beta != 0, alignment(a), alignment(b), alignment(d)};
  auto it = plans_.find(shape);
  if (it == plans_.end()) {
    if (plans_.size() >= kMaxPlans) plans_.clear();
    it = plans_.emplace(shape, plan(shape)).first;
  }
  const Plan& p = *it->second;
  if (!p.supported) return false;
  const float alpha = 1;
  launching("cublasLtMatmul", stream);
  succeed(library_.matmul(handle_, p.desc, &alpha, b, p.first, a, p.second, &beta, d, p.result, d, p.result,
                          &p.choice.algorithm, workspace_, kWorkspaceBytes, stream),
          "cublasLtMatmul");
  launched("cublasLtMatmul", stream);
  return true;
}

}  // namespace fire::cuda
