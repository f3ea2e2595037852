#include "cpu/gemm.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <string>

#include "cpu/onednn.h"
#include "tensor/error.h"

namespace fire::cpu {
namespace {

/// Rows of C that share one packing of B. A's packed band (kBandRows x kGroupK) stays within a few MiB.
constexpr int64_t kBandRows = 1024;
/// K packed at once; a multiple of Gemm::kBlockK.
constexpr int64_t kGroupK = 4 * Gemm::kBlockK;
/// Columns of B packed at once by one worker: with kBlockK they fill part of a 1 MiB L2.
constexpr int64_t kSlabCols = 128;
/// Rows that `serial` packs at once.
constexpr int64_t kSerialRows = 168;
/// Rows of B packed at a time when its columns are contiguous; even, for the pair layout.
constexpr int64_t kPackRows = 16;
/// Fewer rows than this do not pay for packing B again.
constexpr int64_t kMinTaskRows = 96;
/// Tasks per worker that let a slow core fall behind without being waited for.
constexpr int64_t kTasksPerWorker = 4;
/// Register tiles of rows, at most, that take a packed panel of B together: their A, up to 32 KiB each, stays in L2.
constexpr int64_t kFewTiles = 16;
constexpr int kCacheLine = 64;
/// Below this many multiply-adds waking the pool costs more than it gives.
constexpr int64_t kMinParallelWork = 1 << 18;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/// C = beta * C, for products with nothing to add.
void scale(int64_t m, int64_t n, float beta, float* c, int64_t ldc) {
  if (beta == 1.0f) return;
  for (int64_t i = 0; i < m; ++i) {
    float* row = c + i * ldc;
    if (beta == 0.0f) {
      std::fill_n(row, n, 0.0f);
    } else {
      for (int64_t j = 0; j < n; ++j) row[j] *= beta;
    }
  }
}

/// `total` rows cut into tiles of at most `most` rows whose heights differ by at most one: a last tile of one or two
/// rows would cost nearly as much as a full one.
class RowTiles {
 public:
  RowTiles(int64_t total, int most) : total_(total), count_(ceil_div(total, most)) {}
  int64_t count() const { return count_; }
  int64_t begin(int64_t tile) const { return total_ * tile / count_; }

 private:
  int64_t total_;
  int64_t count_;
};

/// The columns of B as lanes, from (k, col).
PackSource columns_of(const Operand& b, int64_t k, int64_t col) {
  return PackSource{b.data, b.dtype, b.col_stride, b.row_stride}.at(col, k);
}

/// Square tiles of C handed to oneDNN; fixed, so that the number of threads changes nothing.
constexpr int64_t kOneDnnTile = 512;
/// oneDNN's cost per call shows below this.
constexpr int64_t kOneDnnMinSide = 64;

/// An operand in the terms of BLAS.
struct BlasView {
  explicit BlasView(const Operand& x)
      : trans(x.col_stride == 1 ? 'N' : 'T'),
        ld(x.col_stride == 1 ? x.row_stride : x.col_stride),
        valid(x.col_stride == 1 || x.row_stride == 1) {}
  char trans;
  int64_t ld;
  bool valid;
};

}  // namespace

void PackBuffer::Free::operator()(void* data) const { std::free(data); }

void* PackBuffer::reserve(size_t bytes) {
  if (bytes > size_) {
    const size_t size = (bytes + 4095) / 4096 * 4096;
    data_.reset();
    size_ = 0;
    data_.reset(std::aligned_alloc(4096, size));
    if (!data_) {
      throw Error(Code::out_of_memory,
                  "could not allocate " + std::to_string(size >> 10) + " KiB to pack a matrix product")
          .with("bytes", std::to_string(size));
    }
    size_ = size;
  }
  return data_.get();
}

PackedMatrix::PackedMatrix(const KernelSet& kernels, int64_t k, int64_t n)
    : kernels_(kernels), k_(k), n_(n), bytes_(kernels.panel_layout().bytes(k, n)) {
  panels_ = static_cast<char*>(buffer_.reserve(bytes_));
}

bool PackedMatrix::covers(const PackedPart& part, int64_t k) const {
  const int64_t end = part.row + k;
  return part.col % kernels_.nr == 0 && part.row % Gemm::kBlockK == 0 && (end % Gemm::kBlockK == 0 || end == k_);
}

char* PackedMatrix::panel(int64_t k, int64_t col) const {
  const int64_t depth = std::min(Gemm::kBlockK, k_ - k), panels = ceil_div(n_, kernels_.nr);
  return panels_ + panels * kernels_.panel_bytes(kernels_.nr, k) +
         col / kernels_.nr * kernels_.panel_bytes(kernels_.nr, depth);
}

struct Gemm::Problem {
  int64_t m, n, k;
  float alpha;
  Operand a, b;
  float beta;
  float* c;
  int64_t ldc;

  PackSource a_lanes() const { return {a.data, a.dtype, a.row_stride, a.col_stride}; }
  bool b_is_packed() const { return b.packed.matrix && b.packed.matrix->covers(b.packed, k); }
};

Gemm::Gemm(ThreadPool& pool, Precision precision, Backend backend)
    : pool_(pool),
      kernels_(kernel_set(selected_isa(), precision)),
      precision_(precision),
      workers_(static_cast<size_t>(pool.size())) {
  if (backend != Backend::onednn) return;
  const OneDnn& library = onednn();
  if (!library.available) {
    throw Error(Code::unsupported,
                "oneDNN cannot be loaded (" + library.detail +
                    "); install libdnnl, set FIRE_ONEDNN_LIB to its file, or use the native backend");
  }
  onednn_ = &library;
}

Gemm::~Gemm() = default;

/// Packs rows [row, row + rows) of A over [k, k + depth) as the panels of RowTiles, one behind the other.
void Gemm::pack_a(const Problem& p, int64_t row, int64_t rows, int64_t k, int64_t depth, void* panels) const {
  const RowTiles tiles(rows, kernels_.mr);
  const int64_t bytes = kernels_.panel_bytes(kernels_.a_width, depth);
  const PackSource source = p.a_lanes().at(row, k);
  for (int64_t t = 0; t < tiles.count(); ++t) {
    const int lanes = static_cast<int>(tiles.begin(t + 1) - tiles.begin(t));
    kernels_.pack(source.at(tiles.begin(t), 0), lanes, kernels_.a_width, depth, static_cast<char*>(panels) + t * bytes);
  }
}

/// Packs `cols` columns of B over one block of K as panels, one behind the other. Where columns are contiguous all
/// panels take some rows before any takes the next ones: a row of B is often alone in its page.
void Gemm::pack_b(const PackSource& source, int64_t cols, int64_t depth, char* panels) const {
  const int nr = kernels_.nr;
  const int64_t bytes = kernels_.panel_bytes(nr, depth);
  const int64_t chunk = source.lane_stride == 1 ? kPackRows : depth;
  for (int64_t k0 = 0; k0 < depth; k0 += chunk) {
    char* out = panels + kernels_.panel_bytes(nr, k0);
    for (int64_t j = 0; j < cols; j += nr, out += bytes) {
      const int lanes = static_cast<int>(std::min<int64_t>(nr, cols - j));
      kernels_.pack(source.at(j, k0), lanes, nr, std::min(chunk, depth - k0), out);
    }
  }
}

/// Columns [col, col + cols) of B over [k, k + depth): as they were packed once, or now, in the worker's slab.
const char* Gemm::panels_of_b(const Problem& p, int worker, int64_t col, int64_t cols, int64_t k, int64_t depth) {
  if (p.b_is_packed()) return p.b.packed.matrix->panel(p.b.packed.row + k, p.b.packed.col + col);
  char* slab = static_cast<char*>(workers_[static_cast<size_t>(worker)].b.reserve(
      static_cast<size_t>(kernels_.panel_bytes(kernels_.nr, kBlockK) * ceil_div(kSlabCols, kernels_.nr))));
  pack_b(columns_of(p.b, k, col), cols, depth, slab);
  return slab;
}

PackedMatrix Gemm::pack(int64_t k, int64_t n, const Operand& b) {
  PackedMatrix packed(kernels_, k, n);
  const int64_t blocks = ceil_div(k, kBlockK), slabs = ceil_div(n, kSlabCols);
  pool_.parallel_for(blocks * slabs, [&](int64_t task, int) {
    const int64_t row = task / slabs * kBlockK, col = task % slabs * kSlabCols;
    pack_b(columns_of(b, row, col), std::min(kSlabCols, n - col), std::min(kBlockK, k - row), packed.panel(row, col));
  });
  return packed;
}

/// One block of K for the tile of C at (row, col). Many rows take the panels of B one after another for each register
/// tile; they then come from L2. Few rows take all their tiles for each panel, and a panel that was packed once comes
/// from memory: the next one is fetched meanwhile, for memory alone would take as long as the arithmetic.
void Gemm::multiply_block(const Problem& p, int worker, int64_t row, int64_t rows, int64_t col, int64_t cols, int64_t k,
                          int64_t depth, const void* a_panels) {
  const int nr = kernels_.nr;
  const int64_t panels = ceil_div(cols, nr);
  const int64_t b_bytes = kernels_.panel_bytes(nr, depth);
  const int64_t a_bytes = kernels_.panel_bytes(kernels_.a_width, depth);
  const char* b = panels_of_b(p, worker, col, cols, k, depth);
  const RowTiles tiles(rows, kernels_.mr);
  const auto run = [&](int64_t tile, int64_t panel, const char* soon) {
    const int64_t i = tiles.begin(tile), j = panel * nr;
    kernels_.run({.rows = static_cast<int>(tiles.begin(tile + 1) - i),
                  .cols = static_cast<int>(std::min<int64_t>(nr, cols - j)),
                  .k = depth,
                  .a = static_cast<const char*>(a_panels) + tile * a_bytes,
                  .b = b + panel * b_bytes,
                  .soon = soon,
                  .alpha = p.alpha,
                  .beta = k == 0 ? p.beta : 1.0f,
                  .c = p.c + (row + i) * p.ldc + col + j,
                  .ldc = p.ldc});
  };
  if (!p.b_is_packed() || tiles.count() > kFewTiles) {
    for (int64_t tile = 0; tile < tiles.count(); ++tile)
      for (int64_t panel = 0; panel < panels; ++panel) run(tile, panel, b + panel * b_bytes);
    return;
  }
  const int64_t fetched = kernels_.panel_bytes(kCacheLine / 4, depth);  // in one tile
  for (int64_t panel = 0; panel < panels; ++panel) {
    const char* here = b + panel * b_bytes;
    const char* next = panel + 1 < panels ? here + b_bytes : panels_behind(p, col, cols, k, depth);
    for (int64_t tile = 0; tile < tiles.count(); ++tile)
      run(tile, panel, next && tile * fetched < b_bytes ? next + tile * fetched : here);
  }
}

/// Of a packed B, what a lone worker reads after these columns over this block; nullptr at the end.
const char* Gemm::panels_behind(const Problem& p, int64_t col, int64_t cols, int64_t k, int64_t depth) const {
  const PackedPart& part = p.b.packed;
  if (k + depth < p.k) return part.matrix->panel(part.row + k + depth, part.col + col);
  return col + cols < p.n ? part.matrix->panel(part.row, part.col + col + cols) : nullptr;
}

/// Rows [row, row + rows) of C: A is packed once for everyone, then tiles of C are handed out, each of which packs the
/// B it needs. So W is read once per band, and no worker waits for another inside a group of K.
void Gemm::multiply_band(const Problem& p, int64_t row, int64_t rows) {
  const int64_t wanted = pool_.size() > 1 ? kTasksPerWorker * pool_.size() : 1;
  int64_t task_cols = kSlabCols;
  int64_t row_parts = 1;
  const auto task_count = [&] { return ceil_div(p.n, task_cols) * row_parts; };
  while (task_count() < wanted && rows / (row_parts * 2) >= kMinTaskRows) row_parts *= 2;
  while (task_count() < wanted && task_cols / 2 >= kernels_.nr) task_cols /= 2;
  const auto part_begin = [&](int64_t part) { return rows * part / row_parts; };

  for (int64_t k0 = 0; k0 < p.k; k0 += kGroupK) {
    const int64_t blocks = ceil_div(std::min(kGroupK, p.k - k0), kBlockK);
    const int64_t part_bytes =
        RowTiles(ceil_div(rows, row_parts), kernels_.mr).count() * kernels_.panel_bytes(kernels_.a_width, kBlockK);
    char* packed = static_cast<char*>(shared_a_.reserve(static_cast<size_t>(part_bytes * row_parts * blocks)));
    const auto depth_of = [&](int64_t block) { return std::min(kBlockK, p.k - k0 - block * kBlockK); };
    const auto panels_of = [&](int64_t part, int64_t block) { return packed + (part * blocks + block) * part_bytes; };

    const auto pack_task = [&](int64_t task, int) {
      const int64_t part = task / blocks, block = task % blocks;
      pack_a(p, row + part_begin(part), part_begin(part + 1) - part_begin(part), k0 + block * kBlockK, depth_of(block),
             panels_of(part, block));
    };
    pool_.parallel_for(row_parts * blocks, pack_task);

    const int64_t col_tasks = ceil_div(p.n, task_cols);
    pool_.parallel_for(row_parts * col_tasks, [&](int64_t task, int worker) {
      const int64_t part = task % row_parts, col = task / row_parts * task_cols;
      for (int64_t block = 0; block < blocks; ++block) {
        multiply_block(p, worker, row + part_begin(part), part_begin(part + 1) - part_begin(part), col,
                       std::min(task_cols, p.n - col), k0 + block * kBlockK, depth_of(block), panels_of(part, block));
      }
    });
  }
}

void Gemm::serial(int worker, int64_t m, int64_t n, int64_t k, float alpha, Operand a, Operand b, float beta, float* c,
                  int64_t ldc) {
  if (m <= 0 || n <= 0) return;
  if (k <= 0 || alpha == 0.0f) return scale(m, n, beta, c, ldc);
  const Problem p{m, n, k, alpha, a, b, beta, c, ldc};
  const RowTiles largest(std::min(m, kSerialRows), kernels_.mr);
  void* packed = workers_[static_cast<size_t>(worker)].a.reserve(
      static_cast<size_t>(largest.count() * kernels_.panel_bytes(kernels_.a_width, std::min(k, kBlockK))));
  for (int64_t row = 0; row < m; row += kSerialRows) {
    const int64_t rows = std::min(kSerialRows, m - row);
    for (int64_t k0 = 0; k0 < k; k0 += kBlockK) {
      const int64_t depth = std::min(kBlockK, k - k0);
      pack_a(p, row, rows, k0, depth, packed);
      for (int64_t col = 0; col < n; col += kSlabCols) {
        multiply_block(p, worker, row, rows, col, std::min(kSlabCols, n - col), k0, depth, packed);
      }
    }
  }
}

void Gemm::operator()(int64_t m, int64_t n, int64_t k, float alpha, Operand a, Operand b, float beta, float* c,
                      int64_t ldc) {
  if (m <= 0 || n <= 0) return;
  if (k <= 0 || alpha == 0.0f) return scale(m, n, beta, c, ldc);
  if (m * n * k < kMinParallelWork) return serial(0, m, n, k, alpha, a, b, beta, c, ldc);
  const Problem p{m, n, k, alpha, a, b, beta, c, ldc};
  if (onednn_ && try_onednn(p)) return;
  const int64_t bands = ceil_div(m, kBandRows);
  for (int64_t band = 0; band < bands; ++band) {
    const int64_t begin = m * band / bands;
    multiply_band(p, begin, m * (band + 1) / bands - begin);
  }
}

/// Returns false for what oneDNN is not asked to do: bf16, views whose rows and columns are both strided, small sides.
bool Gemm::try_onednn(const Problem& p) {
  if (precision_ != Precision::f32 || p.a.dtype != DType::f32 || p.b.dtype != DType::f32) return false;
  if (std::min({p.m, p.n, p.k}) < kOneDnnMinSide) return false;
  const BlasView a(p.a), b(p.b);
  if (!a.valid || !b.valid) return false;
  const int64_t row_tiles = ceil_div(p.m, kOneDnnTile), col_tiles = ceil_div(p.n, kOneDnnTile);
  pool_.parallel_for(row_tiles * col_tiles, [&](int64_t task, int) {
    onednn_->single_thread();
    const int64_t i = task % row_tiles * kOneDnnTile, j = task / row_tiles * kOneDnnTile;
    const int status = onednn_->sgemm(a.trans, b.trans, std::min(kOneDnnTile, p.m - i), std::min(kOneDnnTile, p.n - j),
                                      p.k, p.alpha, static_cast<const float*>(p.a.data) + i * p.a.row_stride, a.ld,
                                      static_cast<const float*>(p.b.data) + j * p.b.col_stride, b.ld, p.beta,
                                      p.c + i * p.ldc + j, p.ldc);
    if (status != 0) throw Error(Code::internal, "dnnl_sgemm failed with status " + std::to_string(status));
  });
  return true;
}

}  // namespace fire::cpu
