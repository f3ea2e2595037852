#include "cuda/activation.h"
#include "cuda/swiglu.cuh"
#include "cuda/vector.cuh"

namespace fire::cuda {
namespace {

constexpr int threads = 256;

/// The first element of this thread's chunk.
template <int N>
__device__ inline int64_t chunk_start() {
  return (static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x) * N;
}

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <class T, bool Vector>
__global__ void __launch_bounds__(threads) swiglu_kernel(const T* gate, const T* up, T* y, int64_t size) {
  constexpr int N = chunk_of<T>;
  const int64_t at = chunk_start<N>();
  if (at >= size) return;
  const Chunk<T, N> g = load_chunk<Vector, N>(gate + at, size - at), u = load_chunk<Vector, N>(up + at, size - at);
  float value[N];
#pragma unroll
  for (int i = 0; i < N; ++i) value[i] = swiglu<T>(g[i], u[i]);
  store_chunk<Vector>(y + at, size - at, value);
}

template <class T, bool Vector>
__global__ void __launch_bounds__(threads)
    swiglu_backward_kernel(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t size) {
  constexpr int N = chunk_of<T>;
  const int64_t at = chunk_start<N>();
  if (at >= size) return;
  const Chunk<T, N> d = load_chunk<Vector, N>(dy + at, size - at), g = load_chunk<Vector, N>(gate + at, size - at),
                    u = load_chunk<Vector, N>(up + at, size - at);
  float to_gate[N], to_up[N];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const SwigluGradients gradients = swiglu_gradients<T>(d[i], g[i], u[i]);
    to_gate[i] = gradients.gate, to_up[i] = gradients.up;
  }
  store_chunk<Vector>(dgate + at, size - at, to_gate);
  store_chunk<Vector>(dup + at, size - at, to_up);
}

/// 0.5 (1 + tanh(u)) = sigmoid(2u).
struct GeluTanh {
  __device__ static float apply(float x) {
    const float u = 0.79788456080286536f * (x + 0.044715f * x * x * x);
    return x * sigmoid(2.0f * u);
  }
};

struct GeluErf {
  __device__ static float apply(float x) { return x * (0.5f * erfcf(x * -0.70710678118654752f)); }
};

struct GeluQuick {
  __device__ static float apply(float x) { return x * sigmoid(1.702f * x); }
};

template <class F, class T, bool Vector>
__global__ void __launch_bounds__(threads) map_kernel(T* x, int64_t size) {
  constexpr int N = chunk_of<T>;
  const int64_t at = chunk_start<N>();
  if (at >= size) return;
  const Chunk<T, N> in = load_chunk<Vector, N>(x + at, size - at);
  float value[N];
#pragma unroll
  for (int i = 0; i < N; ++i) value[i] = F::apply(in[i]);
  store_chunk<Vector>(x + at, size - at, value);
}

template <class T>
unsigned blocks_of(int64_t size) {
  return blocks_for(size, int64_t{threads} * chunk_of<T>);
}

template <class F>
void launch_map(const char* name, Stream stream, DType type, void* x, int64_t size) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_flag(aligned(x), [&](auto vector) {
      gpu::launch(name, dim3(blocks_of<T>(size)), dim3(threads), 0, stream, map_kernel<F, T, decltype(vector)::value>,
                  static_cast<T*>(x), size);
    });
  });
}

}  // namespace

void launch_swiglu(Stream stream, DType type, const void* gate, const void* up, void* y, int64_t size) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_flag(aligned(gate, up, y), [&](auto vector) {
      gpu::launch("swiglu", dim3(blocks_of<T>(size)), dim3(threads), 0, stream,
                  swiglu_kernel<T, decltype(vector)::value>, static_cast<const T*>(gate), static_cast<const T*>(up),
                  static_cast<T*>(y), size);
    });
  });
}

void launch_swiglu_backward(Stream stream, DType type, const void* dy, const void* gate, const void* up, void* dgate,
                            void* dup, int64_t size) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_flag(aligned(dy, gate, up, dgate, dup), [&](auto vector) {
      gpu::launch("swiglu_backward", dim3(blocks_of<T>(size)), dim3(threads), 0, stream,
                  swiglu_backward_kernel<T, decltype(vector)::value>, static_cast<const T*>(dy),
                  static_cast<const T*>(gate), static_cast<const T*>(up), static_cast<T*>(dgate), static_cast<T*>(dup),
                  size);
    });
  });
}

void launch_gelu_tanh(Stream stream, DType type, void* x, int64_t size) {
  launch_map<GeluTanh>("gelu_tanh", stream, type, x, size);
}

void launch_gelu_erf(Stream stream, DType type, void* x, int64_t size) {
  launch_map<GeluErf>("gelu_erf", stream, type, x, size);
}

void launch_gelu_quick(Stream stream, DType type, void* x, int64_t size) {
  launch_map<GeluQuick>("gelu_quick", stream, type, x, size);
}

}  // namespace fire::cuda
