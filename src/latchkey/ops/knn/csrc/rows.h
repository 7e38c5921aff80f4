// Sums over the few rows of a matrix that a list names: the part of k-NN attention that costs k, not m.
#pragma once

#include "../../csrc/gemm.h"

namespace latchkey {

#if defined(__clang__)
#define LATCHKEY_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define LATCHKEY_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (IVec){__VA_ARGS__})
#endif

// a0 b0 a1 b1 ... of the lower halves of two vectors, and of the upper halves.
#if defined(__AVX512F__)
inline Vec lower(Vec a, Vec b) {
  return LATCHKEY_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline Vec upper(Vec a, Vec b) {
  return LATCHKEY_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif defined(__AVX2__)
inline Vec lower(Vec a, Vec b) { return LATCHKEY_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline Vec upper(Vec a, Vec b) { return LATCHKEY_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
inline Vec lower(Vec a, Vec b) { return LATCHKEY_SHUFFLE(a, b, 0, 4, 1, 5); }
inline Vec upper(Vec a, Vec b) { return LATCHKEY_SHUFFLE(a, b, 2, 6, 3, 7); }
#endif

constexpr int reversed(int lane) {
  int out = 0;
  for (int bit = 1; bit < W; bit *= 2) out = out * 2 + (lane / bit & 1);
  return out;
}

// The sums of W vectors as one vector: lane i holds the sum of the vector that was put at `reversed(i)`.
template <int N>
inline Vec sums_of(Vec* x) {
  if constexpr (N == 1) {
    return x[0];
  } else {
    for (int i = 0; i < N / 2; ++i) x[i] = lower(x[2 * i], x[2 * i + 1]) + upper(x[2 * i], x[2 * i + 1]);
    return sums_of<N / 2>(x);
  }
}

// Rows of `wide` vectors each, `step` numbers apart.
struct Rows {
  float* at;
  int64_t step;
};

// out += sum_i weight[i] * rows[index[i]], for WIDE vectors of the columns.
template <int WIDE>
inline void blend_part(const int32_t* index, const float* weight, int64_t count, const float* rows, int64_t step,
                       float* out) {
  Vec even[WIDE], odd[WIDE] = {};
  for (int v = 0; v < WIDE; ++v) even[v] = load(out + v * W);
  int64_t i = 0;
  for (; i + 2 <= count; i += 2) {
    const float *a = rows + index[i] * step, *b = rows + index[i + 1] * step;
    const Vec x = splat(weight[i]), y = splat(weight[i + 1]);
    for (int v = 0; v < WIDE; ++v) even[v] += x * load(a + v * W);
    for (int v = 0; v < WIDE; ++v) odd[v] += y * load(b + v * W);
  }
  if (i < count) {
    const float* a = rows + index[i] * step;
    const Vec x = splat(weight[i]);
    for (int v = 0; v < WIDE; ++v) even[v] += x * load(a + v * W);
  }
  for (int v = 0; v < WIDE; ++v) store(out + v * W, even[v] + odd[v]);
}

inline void blend(const int32_t* index, const float* weight, int64_t count, Rows rows, int64_t wide, float* out) {
  int64_t v = 0;
  for (; v + 4 <= wide; v += 4) blend_part<4>(index, weight, count, rows.at + v * W, rows.step, out + v * W);
  for (; v + 2 <= wide; v += 2) blend_part<2>(index, weight, count, rows.at + v * W, rows.step, out + v * W);
  for (; v < wide; ++v) blend_part<1>(index, weight, count, rows.at + v * W, rows.step, out + v * W);
}

// rows[index[i]] += weight[i] * x, for WIDE vectors of the columns.
template <int WIDE>
inline void scatter_part(const int32_t* index, const float* weight, int64_t count, const float* x, float* rows,
                         int64_t step) {
  Vec mine[WIDE];
  for (int v = 0; v < WIDE; ++v) mine[v] = load(x + v * W);
  for (int64_t i = 0; i < count; ++i) {
    float* to = rows + index[i] * step;
    const Vec y = splat(weight[i]);
    for (int v = 0; v < WIDE; ++v) store(to + v * W, load(to + v * W) + y * mine[v]);
  }
}

inline void scatter(const int32_t* index, const float* weight, int64_t count, const float* x, int64_t wide, Rows rows) {
  int64_t v = 0;
  for (; v + 4 <= wide; v += 4) scatter_part<4>(index, weight, count, x + v * W, rows.at + v * W, rows.step);
  for (; v + 2 <= wide; v += 2) scatter_part<2>(index, weight, count, x + v * W, rows.at + v * W, rows.step);
  for (; v < wide; ++v) scatter_part<1>(index, weight, count, x + v * W, rows.at + v * W, rows.step);
}

template <int WIDE>
inline Vec dot_part(Vec sofar, const float* x, const float* row) {
  for (int v = 0; v < WIDE; ++v) sofar += load(x + v * W) * load(row + v * W);
  return sofar;
}

// out[i] = x . rows[index[i]]; the index is read, and out written, up to a whole vector.
inline void dots(const int32_t* index, int64_t count, const float* x, int64_t wide, Rows rows, float* out) {
  for (int64_t first = 0; first < count; first += W) {
    Vec partial[W];
    for (int lane = 0; lane < W; ++lane) {
      const int64_t i = std::min<int64_t>(first + lane, count - 1);
      const float* row = rows.at + index[i] * rows.step;
      Vec total = {};
      int64_t v = 0;
      for (; v + 4 <= wide; v += 4) total = dot_part<4>(total, x + v * W, row + v * W);
      for (; v < wide; ++v) total = dot_part<1>(total, x + v * W, row + v * W);
      partial[reversed(lane)] = total;
    }
    store(out + first, sums_of<W>(partial));
  }
}

}  // namespace latchkey
