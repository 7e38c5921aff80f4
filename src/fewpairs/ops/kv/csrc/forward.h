// Key-value attention, forward: S_ij = c k_i . k_j + key_bias_j + bias_ij with c = gain * scale, and out_i =
// sum_j softmax_j(S_ij) v_j.
//
// The products of the keys with themselves are symmetric, so each block of them is computed once and serves its rows
// and its columns. The exponentials too are taken once a pair: with a_i = c |k_i|^2 / 2 the number
//
//     E_ij = exp(c k_i . k_j - a_i - a_j) = exp(-c |k_i - k_j|^2 / 2) <= 1
//
// is symmetric, and out_i = sum_j E_ij w_j v_j / sum_j E_ij w_j with w_j = exp(a_j + key_bias_j - the largest such
// exponent). E_ii is 1, so the denominator is at least w_i: no maximum is needed while the exponents of w differ by
// less than REACH. With c < 0, a is 0, and the scores themselves must be as small. Where exponents differ by more,
// where a number is not finite and where each pair has its bias, the form with a running maximum is taken.
#pragma once

#include <cmath>

#include "heads.h"

namespace fewpairs {

constexpr int64_t STRETCH = 384;  // columns of a tile with a running maximum
constexpr float REACH = 30;       // exp(REACH) and its reciprocal leave room on both sides of a float's range
constexpr float HIGHEST = 1000;   // exponents beyond it would lose digits that the running maximum keeps

// The symmetric form of one head, or the finding that it does not serve.
struct Symmetric {
  float c;
  float* a;       // [n], then zeros
  float* w;       // [n], then zeros
  float highest;  // of the exponents that made w

  // `key_bias` may be null.
  bool prepare(const Side& keys, float factor, const float* key_bias, const Shape& s) {
    c = factor;
    float low = INF, largest = 0;
    highest = -INF;
    clear(a, s.length());
    clear(w, s.length());
    bool finite = true;
    for (int64_t i = 0; i < s.n; ++i) {
      const float square = dot(keys.row(i), keys.row(i), vectors(s.d)) * std::fabs(c);
      a[i] = c > 0 ? square / 2 : 0;
      w[i] = a[i] + (key_bias ? key_bias[i] : 0);
      finite = finite && std::isfinite(w[i]) && std::isfinite(square);
      largest = std::max(largest, square);
      low = std::min(low, w[i]);
      highest = std::max(highest, w[i]);
    }
    const float spread = highest - low + (c < 0 ? largest : 0);
    if (!finite || !(spread <= REACH) || !(largest <= HIGHEST)) return false;
    for (int64_t i = 0; i < s.length(); i += W) store(w + i, exponential(load(w + i) - highest));
    for (int64_t i = s.n; i < s.length(); ++i) w[i] = 0;
    return true;
  }
};

// Scores become E. `across[rows][W]` takes the sums of E_ij w_j, `down` those of E_ij w_i where it is not null.
inline void raise(float* tile, int64_t rows, int64_t wide, const float* a_rows, const float* w_rows,
                  const float* a_columns, const float* w_columns, float* across, float* down) {
  for (int64_t v = 0; v < wide; ++v) {
    const Vec a = load(a_columns + v * W), w = load(w_columns + v * W);
    Vec below = {};
    for (int64_t r = 0; r < rows; ++r) {
      float* at = tile + r * BLOCK + v * W;
      const Vec e = exponential(load(at) - (splat(a_rows[r]) + a));
      store(at, e);
      store(across + r * W, load(across + r * W) + e * w);
      below += e * w_rows[r];
    }
    if (down) store(down + v * W, load(down + v * W) + below);
  }
}

// Adds one part's share to `sums` [n, padded(e)] and `totals` [n]; `weighed` holds w_j v_j.
inline void add_symmetric(const Shape& s, int64_t part, const Side& keys, const float* weighed, const Symmetric& f,
                          float* tile, float* across, float* sums, float* totals) {
  const int64_t step = padded(s.e), wide = vectors(s.e);
  clear(sums, s.n * step);
  clear(totals, s.length());
  for (int64_t block = 0; block < s.blocks(); ++block) {
    if (!mine(block, part, s)) continue;
    const int64_t i = block * BLOCK, rows = std::min(BLOCK, s.n - i);
    clear(across, BLOCK * W);
    for (int64_t j = 0; j <= i; j += BLOCK) {
      const int64_t columns = std::min(BLOCK, s.n - j);
      multiply(rows, vectors(columns), s.d, keys.left(i), keys.columns(j), f.c, false, tile, BLOCK);
      raise(tile, rows, vectors(columns), f.a + i, f.w + i, f.a + j, f.w + j, across, j < i ? totals + j : nullptr);
      multiply(rows, wide, columns, as_is(tile, BLOCK), rows_of(weighed + j * step, s.e), 1, true, sums + i * step,
               step);
      if (j < i)
        multiply(columns, wide, rows, mirrored(tile), rows_of(weighed + i * step, s.e), 1, true, sums + j * step, step);
    }
    for (int64_t r = 0; r < rows; ++r) totals[i + r] += sum(load(across + r * W));
  }
}

// One row of scores joins what is known of its row: returns by how much that shrinks. The tile's row becomes weights.
inline float join_row(float* row, int64_t columns, float& highest, float& total) {
  const int64_t wide = vectors(columns);
  for (int64_t j = columns; j < wide * W; ++j) row[j] = -INF;
  Vec top = splat(highest);
  for (int64_t v = 0; v < wide; ++v) top = maximum(load(row + v * W), top);
  const float found = fewpairs::highest(top), shift = found == -INF ? 0 : found;
  const float shrink = highest == -INF ? 0 : exponential(splat(highest - shift))[0];
  Vec added = {};
  for (int64_t v = 0; v < wide; ++v) {
    const Vec x = weight(load(row + v * W) - shift);
    store(row + v * W, x);
    added += x;
  }
  highest = found;
  total = total * shrink + sum(added);
  return shrink;
}

// Rows [i, i + rows) of a head with a running maximum; `tile` and `biases` have BLOCK * STRETCH numbers.
template <class T>
void run_block(const Shape& s, int64_t head, int64_t i, int64_t rows, const Side& keys, const float* values, float c,
               const float* key_bias, const Bias& bias, float* tile, float* biases, float* sums, T* out,
               int64_t out_step, float* highest, float* total) {
  const int64_t step = padded(s.e), wide = vectors(s.e);
  highest += i;
  total += i;
  std::fill(highest, highest + rows, -INF);
  std::fill(total, total + rows, 0.0f);
  clear(sums, rows * step);
  for (int64_t j = 0; j < s.n; j += STRETCH) {
    const int64_t columns = std::min(STRETCH, s.n - j);
    multiply(rows, vectors(columns), s.d, keys.left(i), keys.columns(j), c, false, tile, STRETCH);
    if (bias.kind) bias.read(head, s, i, rows, j, columns, false, biases, STRETCH);
    for (int64_t r = 0; r < rows; ++r) {
      float* row = tile + r * STRETCH;
      if (key_bias)
        for (int64_t m = 0; m < columns; ++m) row[m] += key_bias[j + m];
      if (bias.kind) {
        for (int64_t m = columns; m < padded(columns); ++m) biases[r * STRETCH + m] = 0;
        for (int64_t m = 0; m < columns; m += W) store(row + m, bias.join(load(row + m), biases + r * STRETCH + m));
      }
      const float shrink = join_row(row, columns, highest[r], total[r]);
      for (int64_t v = 0; v < wide; ++v) store(sums + r * step + v * W, load(sums + r * step + v * W) * shrink);
    }
    multiply(rows, wide, columns, as_is(tile, STRETCH), rows_of(values + j * step, s.e), 1, true, sums, step);
  }
  for (int64_t r = 0; r < rows; ++r) {
    divide(sums + r * step, total[r], step);
    for (int64_t p = 0; p < s.e; ++p) narrow(out + (i + r) * out_step + p, sums[r * step + p]);
  }
}

// The sum of a_i and the largest exponent is rounded; what that takes goes to the total, so that the two together are
// exact.
template <class T>
void finish(const Shape& s, const Symmetric& f, float* sums, const float* totals, T* out, int64_t out_step,
            float* highest, float* total) {
  const int64_t step = padded(s.e);
  for (int64_t i = 0; i < s.n; ++i) {
    divide(sums + i * step, totals[i], step);
    for (int64_t p = 0; p < s.e; ++p) narrow(out + i * out_step + p, sums[i * step + p]);
    const double exact = static_cast<double>(f.a[i]) + f.highest;
    highest[i] = static_cast<float>(exact);
    total[i] = totals[i] + totals[i] * static_cast<float>(exact - highest[i]);
  }
}

template <class T>
int forward(const KvProblem& problem, const Tensor& result_tensor) {
  const Shape s(problem);
  const Heads<const T> k(problem.k), v(problem.v);
  const Heads<T> out(result_tensor);
  const Bias bias(problem);
  const int threads = problem.threads;
  const int64_t length = s.length(), step = padded(s.e), parts = s.parts(), tasks = s.heads() * parts;
  const int64_t result = length * (step + 1);  // sums and totals of a part
  const int64_t tile = BLOCK * STRETCH;
  const int64_t own = Side::room(s, s.d) + length * step + 2 * length + 2 * tile + BLOCK * (W + step) + result;
  Scratch scratch;
  float* const rooms = scratch.floats(own * std::min<int64_t>(std::max(threads, 1), tasks));
  float* const results = parts > 1 ? scratch.floats(result * tasks) : rooms;
  bool* const pending = scratch.many<bool>(s.heads());
  if (!scratch.ok()) return no_memory;

  struct Packed {
    float* at;
    float* take(int64_t count) { return (at += count) - count; }
  };
  // Keys packed, and whether the symmetric form serves them.
  auto prepare = [&](int64_t head, Packed& room, Side& keys, Symmetric& form, const float*& shift) {
    const float c = static_cast<float>(problem.scale * (problem.gain ? problem.gain[head % s.h] : 1));
    shift = problem.key_bias ? problem.key_bias + head % s.h * problem.key_bias_step : nullptr;
    keys = Side(room.take(Side::room(s, s.d)), s, s.d);
    keys.pack(k.head(head, s), k.step[2], s.n);
    form.a = room.take(length);
    form.w = room.take(length);
    return form.prepare(keys, c, shift, s) && !bias.kind;
  };

  parallel(tasks, threads, [&](int64_t task, int thread) {
    const int64_t head = task / parts, part = task % parts;
    Packed room{rooms + own * thread};
    Side keys(nullptr, s, s.d);
    Symmetric form{};
    const float* shift = nullptr;
    const bool symmetric = prepare(head, room, keys, form, shift);
    float* values = room.take(length * step);
    pack_rows(v.head(head, s), v.step[2], s.n, s.e, values);
    float* scores = room.take(tile);
    float* biases = room.take(tile);
    float* across = room.take(BLOCK * W);
    float* sums = room.take(BLOCK * step);
    if (part == 0) pending[head] = symmetric && parts > 1;
    if (symmetric) {
      for (int64_t j = 0; j < s.n; ++j)
        for (int64_t p = 0; p < step; p += W) store(values + j * step + p, load(values + j * step + p) * form.w[j]);
      float* all = parts > 1 ? results + result * task : room.take(result);
      add_symmetric(s, part, keys, values, form, scores, across, all, all + length * step);
      if (parts == 1)
        finish(s, form, all, all + length * step, out.head(head, s), out.step[2], problem.highest + head * s.n,
               problem.totals + head * s.n);
      return;
    }
    for (int64_t block = 0; block < s.blocks(); ++block)
      if (mine(block, part, s))
        run_block(s, head, block * BLOCK, std::min(BLOCK, s.n - block * BLOCK), keys, values, form.c, shift, bias,
                  scores, biases, sums, out.head(head, s), out.step[2], problem.highest + head * s.n,
               problem.totals + head * s.n);
  });

  if (parts > 1)
    parallel(s.heads(), threads, [&](int64_t head, int thread) {
      if (!pending[head]) return;
      Packed room{rooms + own * thread};
      Side keys(nullptr, s, s.d);
      Symmetric form{};
      const float* shift = nullptr;
      prepare(head, room, keys, form, shift);
      float* all = results + result * head * parts;
      for (int64_t part = 1; part < parts; ++part) add(all, all + result * part, result);
      finish(s, form, all, all + length * step, out.head(head, s), out.step[2], problem.highest + head * s.n,
               problem.totals + head * s.n);
    });
  return done;
}

}  // namespace fewpairs
