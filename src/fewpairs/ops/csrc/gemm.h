// Products of small matrices that stay in registers, for blocks of rows that stay in cache.
//
// Every element of a result is one chain of fused multiply-adds over the depth, in order: its bits do not depend on
// where in a tile it lies, on the block it belongs to or on the number of threads.
#pragma once

#include <algorithm>

#include "vector.h"

namespace fewpairs {

#if defined(__AVX512F__)
constexpr int TALL = 12;  // rows of a tile that is two vectors wide: 24 of 32 registers hold sums
constexpr int FLAT = 6;   // rows of a flat tile, which is four vectors wide
#else
constexpr int TALL = 6;  // 12 of 16 registers
constexpr int FLAT = 6;
#endif
constexpr int BROAD = W == 16 ? 4 : 2;  // vectors of a flat tile

// Where the left factor has its element (row, p): at[row * row_step + p * depth_step].
struct Left {
  const float* at;
  int64_t row_step;
  int64_t depth_step;
};

// Where the right factor has its vector v of depth p: at[v * vector_step + p * depth_step].
struct Right {
  const float* at;
  int64_t vector_step;
  int64_t depth_step;
};

inline int64_t vectors(int64_t n) { return (n + W - 1) / W; }

inline int64_t padded(int64_t n) { return vectors(n) * W; }

// sums[r][v] += left(r, p) * right(p, v) over the depth.
template <int ROWS, int WIDE>
inline void accumulate(Vec (&sums)[ROWS][WIDE], Left left, Right right, int64_t depth) {
  const float* a = left.at;
  const float* b = right.at;
  for (int64_t p = 0; p < depth; ++p) {
    Vec wide[WIDE];
    for (int v = 0; v < WIDE; ++v) wide[v] = load(b + v * right.vector_step);
    for (int r = 0; r < ROWS; ++r) {
      const Vec x = splat(a[r * left.row_step]);
      for (int v = 0; v < WIDE; ++v) sums[r][v] += x * wide[v];
    }
    a += left.depth_step;
    b += right.depth_step;
  }
}

// One tile of `out = factor * left @ right` (or `out += ...` where `add`); out has `out_step` numbers a row.
template <int ROWS, int WIDE>
inline void tile(Left left, Right right, int64_t depth, float factor, bool add, float* out, int64_t out_step) {
  Vec sums[ROWS][WIDE] = {};
  accumulate<ROWS, WIDE>(sums, left, right, depth);
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < WIDE; ++v) {
      float* to = out + r * out_step + v * W;
      store(to, add ? load(to) + sums[r][v] * factor : sums[r][v] * factor);
    }
}

template <int ROWS>
inline void strip(int64_t rows_from, int64_t wide, Left left, Right right, int64_t depth, float factor, bool add,
                  float* out, int64_t out_step) {
  left.at += rows_from * left.row_step;
  out += rows_from * out_step;
  constexpr int WIDE = ROWS <= FLAT ? BROAD : 2;
  int64_t v = 0;
  for (; v + WIDE <= wide; v += WIDE) {
    tile<ROWS, WIDE>(left, right, depth, factor, add, out + v * W, out_step);
    right.at += WIDE * right.vector_step;
  }
  for (; v < wide; ++v) {
    tile<ROWS, 1>(left, right, depth, factor, add, out + v * W, out_step);
    right.at += right.vector_step;
  }
}

// out = factor * left @ right, or out += it where `add`: `[rows, depth] @ [depth, wide * W]`. `out` takes whole
// vectors: padded columns of `right` become columns of `out`. Where there are four vectors or fewer the tiles are flat
// (values: few columns, great depth), else tall (scores: many columns, small depth).
inline void multiply(int64_t rows, int64_t wide, int64_t depth, Left left, Right right, float factor, bool add,
                     float* out, int64_t out_step) {
  int64_t r = 0;
  if (wide > 4)
    for (; r + TALL <= rows; r += TALL) strip<TALL>(r, wide, left, right, depth, factor, add, out, out_step);
  for (; r + FLAT <= rows; r += FLAT) strip<FLAT>(r, wide, left, right, depth, factor, add, out, out_step);
  for (; r < rows; ++r) strip<1>(r, wide, left, right, depth, factor, add, out, out_step);
}

// Packs rows `[m d]` (row_step numbers apart) as panels of W rows side by side, `[m/W d W]`, for use as the right
// factor of scores; rows beyond m are zero.
template <class T>
inline void pack_transposed(const T* from, int64_t row_step, int64_t m, int64_t d, float* to) {
  for (int64_t first = 0; first < m; first += W, to += d * W) {
    const int64_t count = std::min<int64_t>(W, m - first);
    if (count < W) std::memset(to, 0, sizeof(float) * d * W);
    for (int64_t lane = 0; lane < count; ++lane) {
      const T* row = from + (first + lane) * row_step;
      for (int64_t p = 0; p < d; ++p) to[p * W + lane] = widen(row[p]);
    }
  }
}

// The right factor that `pack_transposed` made.
inline Right panels(const float* packed, int64_t d) { return {packed, d * W, W}; }

// Copies rows `[m d]` as rows of `padded(d)` floats; the columns beyond d are zero.
template <class T>
inline void pack_rows(const T* from, int64_t row_step, int64_t m, int64_t d, float* to) {
  const int64_t step = padded(d);
  for (int64_t r = 0; r < m; ++r, to += step, from += row_step) {
    for (int64_t p = 0; p < d; ++p) to[p] = widen(from[p]);
    for (int64_t p = d; p < step; ++p) to[p] = 0;
  }
}

// The right factor that `pack_rows` made.
inline Right rows_of(const float* packed, int64_t d) { return {packed, W, padded(d)}; }

}  // namespace fewpairs
