// Sums over the few rows of a matrix that a list names: the part of k-NN attention that costs k, not m.
#pragma once

#include "../../csrc/gemm.h"

namespace fewpairs {

#if defined(__clang__)
#define FEWPAIRS_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FEWPAIRS_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (IVec){__VA_ARGS__})
#endif

// a0 b0 a1 b1 ... of the lower halves of two vectors, and of the upper halves.
#if defined(__AVX512F__)
inline Vec lower(Vec a, Vec b) {
  return FEWPAIRS_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline Vec upper(Vec a, Vec b) {
  return FEWPAIRS_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif defined(__AVX2__)
inline Vec lower(Vec a, Vec b) { return FEWPAIRS_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline Vec upper(Vec a, Vec b) { return FEWPAIRS_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
inline Vec lower(Vec a, Vec b) { return FEWPAIRS_SHUFFLE(a, b, 0, 4, 1, 5); }
inline Vec upper(Vec a, Vec b) { return FEWPAIRS_SHUFFLE(a, b, 2, 6, 3, 7); }
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
#pragma GCC unroll 8
    for (int i = 0; i < N / 2; ++i) x[i] = lower(x[2 * i], x[2 * i + 1]) + upper(x[2 * i], x[2 * i + 1]);
    return sums_of<N / 2>(x);
  }
}

// The first place at or after `from` of an ascending index that is not below `until`; the index has room for a vector
// beyond its end.
inline int64_t reach(const int32_t* index, int64_t from, int64_t count, int64_t until) {
  const IVec limit = splat(static_cast<int32_t>(until));
  for (; from < count; from += W) {
    IVec x;
    std::memcpy(&x, index + from, sizeof x);
    const int below = __builtin_popcount(bits(x < limit));
    if (below < W) return std::min(from + __builtin_ctz(~bits(x < limit)), count);
  }
  return count;
}

// Rows of `wide` vectors each, `step` numbers apart.
struct Rows {
  const float* at;
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

inline void scatter(const int32_t* index, const float* weight, int64_t count, const float* x, int64_t wide, float* rows,
                    int64_t step) {
  int64_t v = 0;
  for (; v + 4 <= wide; v += 4) scatter_part<4>(index, weight, count, x + v * W, rows + v * W, step);
  for (; v + 2 <= wide; v += 2) scatter_part<2>(index, weight, count, x + v * W, rows + v * W, step);
  for (; v < wide; ++v) scatter_part<1>(index, weight, count, x + v * W, rows + v * W, step);
}

// out[i] = x . rows[index[i]] over `wide` vectors, for W rows at a time; the last of them are the last row once more.
template <int WIDE>
inline void dots_of(const int32_t* index, int64_t count, const float* x, int64_t wide, Rows rows, float* out) {
  Vec mine[WIDE ? WIDE : 1];
  for (int v = 0; v < WIDE; ++v) mine[v] = load(x + v * W);
  for (int64_t first = 0; first < count; first += W) {
    Vec partial[W];
    const auto total = [&](int64_t i) {
      const float* row = rows.at + index[i] * rows.step;
      Vec found = {};
      for (int v = 0; v < WIDE; ++v) found += mine[v] * load(row + v * W);
      if (!WIDE)
        for (int64_t v = 0; v < wide; ++v) found += load(x + v * W) * load(row + v * W);
      return found;
    };
    if (count - first >= W) {
#pragma GCC unroll 16
      for (int lane = 0; lane < W; ++lane) partial[reversed(lane)] = total(first + lane);
    } else {
#pragma GCC unroll 16
      for (int lane = 0; lane < W; ++lane) partial[reversed(lane)] = total(std::min(first + lane, count - 1));
    }
    store(out + first, sums_of<W>(partial));
  }
}

// The same for any width; the index is read, and out written, up to a whole vector.
inline void dots(const int32_t* index, int64_t count, const float* x, int64_t wide, Rows rows, float* out) {
  switch (wide) {
    case 2: return dots_of<2>(index, count, x, wide, rows, out);
    case 4: return dots_of<4>(index, count, x, wide, rows, out);
    case 8: return dots_of<8>(index, count, x, wide, rows, out);
    default: return dots_of<0>(index, count, x, wide, rows, out);
  }
}

}  // namespace fewpairs
