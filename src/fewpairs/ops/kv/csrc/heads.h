// What the two passes of key-value attention share: the problem as it comes in, heads as the products want them, tiles.
#pragma once

#include "gemm.h"
#include "parallel.h"
#include "tensor.h"

namespace fewpairs {

struct KvProblem {
  int64_t b, h, n, d, e;
  double scale;
  int32_t is_half, bias_kind, threads;
  const float* gain;      // [h] or null
  const float* key_bias;  // [n], for each head key_bias_step further on, or null
  int64_t key_bias_step;
  Tensor k, v, bias;
  float* highest;  // [b h n]: the number that was taken from each row's scores before their exponentials
  float* totals;   // [b h n]: the sum of these
};

struct KvGradients {
  Tensor out, grad, dk, dv;
  double* dgain;      // [b h] or null
  double* dkey_bias;  // zeros [n] or [h n], or null
  float* dbias;       // [bias_b bias_h n n] or null
  int64_t bias_b, bias_h;
};

constexpr int64_t BLOCK = 96;  // rows and columns of a tile: whole tiles of registers, whole vectors
constexpr int64_t TASKS = 12;  // heads are cut into parts until there are as many; fixed, so that bits are too

struct Shape {
  int64_t b, h, n, d, e;
  explicit Shape(const KvProblem& p) : b(p.b), h(p.h), n(p.n), d(p.d), e(p.e) {}
  int64_t heads() const { return b * h; }
  int64_t blocks() const { return (n + BLOCK - 1) / BLOCK; }
  int64_t length() const { return blocks() * BLOCK; }
  int64_t parts() const { return std::max<int64_t>(1, std::min((blocks() + 1) / 2, (TASKS + heads() - 1) / heads())); }
};

// Heads of a tensor [b h n d]; d lies side by side.
template <class T>
struct Heads {
  T* at;
  const int64_t* step;
  explicit Heads(const Tensor& x) : at(static_cast<T*>(x.at)), step(x.step) {}
  T* head(int64_t head, const Shape& s) const { return at + head / s.h * step[0] + head % s.h * step[1]; }
};

// What is added to each pair: nothing, or a tensor [b h n n] with four steps.
struct Bias {
  enum Kind : int { none = 0, mask = 1, single = 2, half = 3 };
  int kind;
  const void* at;
  const int64_t* step;
  explicit Bias(const KvProblem& p) : kind(p.bias_kind), at(p.bias.at), step(p.bias.step) {}

  float number(int64_t place) const {
    if (kind == mask) return static_cast<const uint8_t*>(at)[place] ? 0 : -INF;
    if (kind == single) return static_cast<const float*>(at)[place];
    return widen(static_cast<const bfloat16*>(at)[place]);
  }

  // The tile [rows, columns] from (i, j) on, or that of the mirrored pairs, BLOCK or STRETCH numbers a row.
  void read(int64_t head, const Shape& s, int64_t i, int64_t rows, int64_t j, int64_t columns, bool mirrored, float* to,
            int64_t to_step) const {
    const int64_t down = step[mirrored ? 3 : 2], across = step[mirrored ? 2 : 3];
    const int64_t first = head / s.h * step[0] + head % s.h * step[1] + i * down + j * across;
    const bool copied = kind == single && across == 1;
    for (int64_t r = 0; r < rows; ++r) {
      float* row = to + r * to_step;
      if (copied)
        std::memcpy(row, static_cast<const float*>(at) + first + r * down, sizeof(float) * columns);
      else
        for (int64_t c = 0; c < columns; ++c) row[c] = number(first + r * down + c * across);
    }
  }

  // A mask replaces the score, whatever that is.
  Vec join(Vec score, const float* bias) const {
    if (kind == none) return score;
    const Vec term = load(bias);
    return kind == mask ? select(term < Vec{}, term, score) : score + term;
  }
};

// exp(x) with exact zeros: of what is below -87, so also of -inf. NaN stays NaN.
inline Vec weight(Vec x) { return select(x >= splat(-87.0f), exponential(x), select(x == x, Vec{}, x)); }

inline float dot(const float* x, const float* y, int64_t wide) {
  Vec total = {};
  for (int64_t v = 0; v < wide; ++v) total += load(x + v * W) * load(y + v * W);
  return sum(total);
}

inline void clear(float* from, int64_t count) { std::memset(from, 0, sizeof(float) * count); }

inline void add(float* to, const float* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

// x / total; 0 where that is 0.
inline void divide(float* x, float total, int64_t count) {
  const float share = total == 0 ? 0 : 1 / total;
  for (int64_t i = 0; i < count; i += W) store(x + i, load(x + i) * share);
}

// One head's rows as floats, in the two orders in which the products want them.
struct Side {
  float* rows;
  float* turned;
  int64_t d;

  static int64_t room(const Shape& s, int64_t d) { return s.length() * (padded(d) + d); }
  Side(float* room, const Shape& s, int64_t width) : rows(room), turned(room + s.length() * padded(width)), d(width) {}
  template <class T>
  void pack(const T* from, int64_t step, int64_t n) {
    pack_rows(from, step, n, d, rows);
    pack_transposed(from, step, n, d, turned);
  }
  // Rows divided by their totals; 0 where that is 0.
  template <class T>
  void pack_shares(const T* from, int64_t step, int64_t n, const float* totals) {
    pack_rows(from, step, n, d, rows);
    for (int64_t i = 0; i < n; ++i) divide(rows + i * padded(d), totals[i], padded(d));
    pack_transposed(rows, padded(d), n, d, turned);
  }
  const float* row(int64_t i) const { return rows + i * padded(d); }
  Left left(int64_t i) const { return {row(i), padded(d), 1}; }
  Right columns(int64_t j) const { return panels(turned + j * d, d); }
  Right depth(int64_t j) const { return rows_of(row(j), d); }
};

inline Left as_is(const float* tile, int64_t step) { return {tile, step, 1}; }

inline Left mirrored(const float* tile) { return {tile, 1, BLOCK}; }

// The parts of a head share its blocks: with block i goes block (last - i), so that each pair is the same work.
inline bool mine(int64_t block, int64_t part, const Shape& s) {
  return std::min(block, s.blocks() - 1 - block) % s.parts() == part;
}

}  // namespace fewpairs
