// Key-value attention, backward, from what was taken from each row's scores and the total that was left.
//
// The gradient comes in divided by that total. With P_ij = exp(S_ij - highest_i), dP = grad v^T, delta = grad . out and
// dS = P (dP - delta) the gradients are dv = P^T grad and dk = c (dS + dS^T) k. Each block of S serves its rows and its
// columns, and the sum G = dS + dS^T, formed tile by tile, spares one product with the keys: 3.5 products of n x n
// where dense attention takes 5. Biases of pairs take this way too; their own gradient alone costs two more.
//
// A key with more than half of a row's weight is the row's top. There dP - delta cancels; but a row's dS sum to 0, so
// that the top's is what the others leave. It is added when all of them are known.
#pragma once

#include "heads.h"

namespace fewpairs {

// What the rows of a head bring to the backward pass, [n] each, then zeros, but for the two last.
struct Known {
  float* highest;
  float* delta;     // grad . out, both divided by the total
  float* key_bias;  // zeros where there is none, then -inf
  float* half;      // of the total, then +inf: what is more belongs to the row's top
};

// Rows from `first` on: their tops, and the sums of dS over the other keys, as lanes or as numbers.
struct Tops {
  int64_t first;
  float *key, *rest;
};

// P_ij = exp(S_ij + bias - highest_i), dS_ij = P_ij (dP_ij - delta_i), for the tile from (i, j) on and, where that is
// another one, for its mirror image, all in the order of the tile: `scores` becomes P_ij, `changes` dS_ij + dS_ji,
// `mirror` P_ji. `down` and `across[rows][W]` take the sums of dS over the queries, the rests `[rows][W]`
// of the rows and `[columns]` of the columns those over the keys. The dS of a top counts as 0.
inline void differentiate(bool twice, int64_t rows, int64_t wide, const Known& r, const Known& c, const Bias& bias,
                          const float* biases, const float* turned, float* scores, float* changes, float* mirror,
                          float* across, float* down, const Tops& row_tops, const Tops& column_tops) {
  for (int64_t v = 0; v < wide; ++v) {
    const Vec shift = load(c.key_bias + v * W), highest = load(c.highest + v * W), delta = load(c.delta + v * W);
    const Vec half = load(c.half + v * W);
    Vec below = {}, rest = {};
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = i * BLOCK + v * W;
      const Vec score = load(scores + at);
      const Vec p = weight(bias.join(score + shift, biases + at) - r.highest[i]);
      Vec change = p * (load(changes + at) - r.delta[i]);
      store(scores + at, p);
      if (const uint32_t top = bits(p > splat(r.half[i]))) {
        row_tops.key[i] = static_cast<float>(column_tops.first + v * W + __builtin_ctz(top) + 1);
        change = select(p > splat(r.half[i]), Vec{}, change);
      }
      store(row_tops.rest + i * W, load(row_tops.rest + i * W) + change);
      below += change;
      if (twice) {
        const Vec q = weight(bias.join(score + r.key_bias[i], turned + at) - highest);
        Vec other = q * (load(mirror + at) - delta);
        store(mirror + at, q);
        if (const uint32_t top = bits(q > half)) {
          for (int lane = 0; lane < W; ++lane)
            if (top >> lane & 1) column_tops.key[v * W + lane] = static_cast<float>(row_tops.first + i + 1);
          other = select(q > half, Vec{}, other);
        }
        rest += other;
        store(across + i * W, load(across + i * W) + other);
        change += other;
      }
      store(changes + at, change);
    }
    store(down + v * W, load(down + v * W) + below);
    if (twice) store(column_tops.rest + v * W, load(column_tops.rest + v * W) + rest);
  }
}

// A row that has no key: its scores are -inf.
inline float shift_of(float highest) { return highest == -INF ? 0 : highest; }

// A weight above it is more than half of the row's.
inline float half_of(float total) { return total > 0 ? total / 2 : INF; }

struct Gradients {
  float* keys;    // [n, padded(d)], to be multiplied by c
  float* values;  // [n, padded(e)]
  float* bias;    // of the keys, [n]
  float* rest;    // the sum of each row's dS but for its top, [n]
  float* top;     // 1 more than the key that is the row's top, or 0; [n]
  static int64_t room(const Shape& s) { return s.length() * (padded(s.d) + padded(s.e) + 3); }
  Gradients(float* at, const Shape& s)
      : keys(at), values(at + s.length() * padded(s.d)), bias(values + s.length() * padded(s.e)),
        rest(bias + s.length()), top(rest + s.length()) {}
};

// The top of each row has what its other keys leave, for dS sums to 0.
template <class T>
void add_tops(const Shape& s, const T* keys, int64_t step, const Gradients& to) {
  const int64_t d = padded(s.d);
  for (int64_t i = 0; i < s.n; ++i) {
    const int64_t j = static_cast<int64_t>(to.top[i]) - 1;
    if (j < 0) continue;
    for (int64_t p = 0; p < s.d; ++p) {
      to.keys[i * d + p] -= to.rest[i] * widen(keys[j * step + p]);
      to.keys[j * d + p] -= to.rest[i] * widen(keys[i * step + p]);
    }
    to.bias[j] -= to.rest[i];
  }
}

constexpr int TILES = 5;

inline void add_gradients(const Shape& s, int64_t head, int64_t part, const Side& keys, const Side& values,
                          const Side& grads, const Known& known, float c, const Bias& bias, float* tiles, float* across,
                          const Gradients& to) {
  float *scores = tiles, *changes = tiles + BLOCK * BLOCK, *mirror = changes + BLOCK * BLOCK;
  float *biases = mirror + BLOCK * BLOCK, *turned = biases + BLOCK * BLOCK;
  const int64_t d = padded(s.d), e = padded(s.e);
  clear(to.keys, Gradients::room(s));
  if (bias.kind) clear(biases, 2 * BLOCK * BLOCK);
  auto from = [&](int64_t i) {
    return Known{known.highest + i, known.delta + i, known.key_bias + i, known.half + i};
  };
  float* const rests = across + BLOCK * W;
  for (int64_t block = 0; block < s.blocks(); ++block) {
    if (!mine(block, part, s)) continue;
    const int64_t i = block * BLOCK, rows = std::min(BLOCK, s.n - i);
    clear(across, 2 * BLOCK * W);
    for (int64_t j = 0; j <= i; j += BLOCK) {
      const bool twice = j < i;
      const int64_t columns = std::min(BLOCK, s.n - j), wide = vectors(columns);
      multiply(rows, wide, s.d, keys.left(i), keys.columns(j), c, false, scores, BLOCK);
      multiply(rows, wide, s.e, grads.left(i), values.columns(j), 1, false, changes, BLOCK);
      if (twice) multiply(rows, wide, s.e, values.left(i), grads.columns(j), 1, false, mirror, BLOCK);
      if (bias.kind) bias.read(head, s, i, rows, j, columns, false, biases, BLOCK);
      if (bias.kind && twice) bias.read(head, s, i, rows, j, columns, true, turned, BLOCK);
      differentiate(twice, rows, wide, from(i), from(j), bias, biases, turned, scores, changes, mirror, across,
                    to.bias + j, {i, to.top + i, rests}, {j, to.top + j, to.rest + j});
      multiply(columns, vectors(s.e), rows, mirrored(scores), grads.depth(i), 1, true, to.values + j * e, e);
      if (twice) multiply(rows, vectors(s.e), columns, as_is(mirror, BLOCK), grads.depth(j), 1, true,
                          to.values + i * e, e);
      multiply(rows, vectors(s.d), columns, as_is(changes, BLOCK), keys.depth(j), 1, true, to.keys + i * d, d);
      multiply(columns, vectors(s.d), rows, mirrored(changes), keys.depth(i), 1, true, to.keys + j * d, d);
    }
    for (int64_t r = 0; r < rows; ++r) {
      to.bias[i + r] += sum(load(across + r * W));
      to.rest[i + r] += sum(load(rests + r * W));
    }
  }
}

// x_i . y_i of each row, summed in the order of `multiply`: where one key has all the weight, it is dP to the last bit.
template <class T>
void products(const Side& x, const T* y, int64_t y_step, int64_t n, float* to) {
  constexpr int64_t AT_ONCE = 8;
  for (int64_t i = 0; i < n; i += AT_ONCE) {
    const int64_t count = std::min(AT_ONCE, n - i);
    float total[AT_ONCE] = {};
    for (int64_t p = 0; p < x.d; ++p)
      for (int64_t r = 0; r < count; ++r) total[r] += x.row(i + r)[p] * widen(y[(i + r) * y_step + p]);
    std::copy(total, total + count, to + i);
  }
}

template <class T>
struct Inputs {
  Heads<const T> k, v, grad, out;
  const float* highest;
  const float* totals;
  const float* gain;
  const float* key_bias;
  int64_t key_bias_step;
  Bias bias;
  double scale;
  int threads;
  Inputs(const KvProblem& p, const KvGradients& g)
      : k(p.k), v(p.v), grad(g.grad), out(g.out), highest(p.highest), totals(p.totals), gain(p.gain),
        key_bias(p.key_bias), key_bias_step(p.key_bias_step), bias(p), scale(p.scale), threads(p.threads) {}
  float c(int64_t head, const Shape& s) const { return static_cast<float>(scale * (gain ? gain[head % s.h] : 1)); }
};

// The gradient of the pairs' bias, [bb bh n n] in floats, summed over the heads that share it, in order.
template <class T>
int bias_gradient(const Shape& s, const Inputs<T>& in, const float* deltas, const float* rests, int64_t bb, int64_t bh,
                  float* to) {
  const int64_t tasks = bb * bh * s.blocks(), tile = BLOCK * BLOCK;
  const int64_t own = BLOCK * (2 * padded(s.d) + 2 * padded(s.e)) + 4 * tile;
  Scratch scratch;
  float* const rooms = scratch.floats(own * std::min<int64_t>(std::max(in.threads, 1), tasks));
  if (!scratch.ok()) return no_memory;
  parallel(tasks, in.threads, [&](int64_t task, int thread) {
    float* keys = rooms + own * thread;
    float* turned_keys = keys + BLOCK * padded(s.d);
    float* grads = turned_keys + BLOCK * padded(s.d);
    float* turned_values = grads + BLOCK * padded(s.e);
    float* scores = turned_values + BLOCK * padded(s.e);
    float *changes = scores + tile, *biases = changes + tile, *total = biases + tile;
    const int64_t shared = task / s.blocks(), i = task % s.blocks() * BLOCK, rows = std::min(BLOCK, s.n - i);
    clear(biases, tile);
    for (int64_t j = 0; j < s.n; j += BLOCK) {
      const int64_t columns = std::min(BLOCK, s.n - j);
      clear(total, tile);
      for (int64_t head = 0; head < s.heads(); ++head) {
        if ((bb == 1 ? 0 : head / s.h) != shared / bh || (bh == 1 ? 0 : head % s.h) != shared % bh) continue;
        pack_rows(in.k.head(head, s) + i * in.k.step[2], in.k.step[2], rows, s.d, keys);
        pack_rows(in.grad.head(head, s) + i * in.grad.step[2], in.grad.step[2], rows, s.e, grads);
        for (int64_t r = 0; r < rows; ++r)
          divide(grads + r * padded(s.e), in.totals[head * s.n + i + r], padded(s.e));
        pack_transposed(in.k.head(head, s) + j * in.k.step[2], in.k.step[2], columns, s.d, turned_keys);
        pack_transposed(in.v.head(head, s) + j * in.v.step[2], in.v.step[2], columns, s.e, turned_values);
        multiply(rows, vectors(columns), s.d, {keys, padded(s.d), 1}, panels(turned_keys, s.d), in.c(head, s), false,
                 scores, BLOCK);
        multiply(rows, vectors(columns), s.e, {grads, padded(s.e), 1}, panels(turned_values, s.e), 1, false, changes,
                 BLOCK);
        in.bias.read(head, s, i, rows, j, columns, false, biases, BLOCK);
        const float* shift = in.key_bias ? in.key_bias + head % s.h * in.key_bias_step + j : nullptr;
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t m = 0; m < columns; m += W) {
            const int64_t at = r * BLOCK + m, row = head * s.n + i + r;
            const int64_t count = std::min<int64_t>(W, columns - m);
            const Vec base = shift ? load_part(shift + m, static_cast<int>(count), 0) : Vec{};
            const Vec score = in.bias.join(load(scores + at) + base, biases + at);
            const Vec p = weight(score - shift_of(in.highest[row]));
            const IVec top = p > splat(half_of(in.totals[row]));
            const Vec change = select(top, splat(-rests[row]), p * (load(changes + at) - deltas[row]));
            store(total + at, load(total + at) + change);
          }
      }
      for (int64_t r = 0; r < rows; ++r)
        std::memcpy(to + (shared * s.n + i + r) * s.n + j, total + r * BLOCK, sizeof(float) * columns);
    }
  });
  return done;
}

template <class T>
int backward(const KvProblem& problem, const KvGradients& to) {
  const Shape s(problem);
  const Inputs<T> in(problem, to);
  const Heads<T> dk(to.dk), dv(to.dv);
  double *const dgain = to.dgain, *const dkey_bias = to.dkey_bias;
  const int64_t length = s.length(), parts = s.parts(), tasks = s.heads() * parts, result = Gradients::room(s);
  const int64_t own = Side::room(s, s.d) + 2 * Side::room(s, s.e) + 4 * length + TILES * BLOCK * BLOCK + 2 * BLOCK * W +
                      (parts > 1 ? 0 : result);
  Scratch scratch;
  float* const rooms = scratch.floats(own * std::min<int64_t>(std::max(in.threads, 1), tasks));
  float* const results = parts > 1 ? scratch.floats(result * tasks) : rooms;
  float* const deltas = scratch.floats(s.heads() * s.n);
  float* const rests = scratch.floats(s.heads() * s.n);
  float* const shifts = dkey_bias ? scratch.floats(s.heads() * s.n) : rooms;
  double* const gains = scratch.many<double>(s.heads());
  if (!scratch.ok()) return no_memory;

  auto finish = [&](int64_t head, const Gradients& from) {
    const T* keys = in.k.head(head, s);
    add_tops(s, keys, in.k.step[2], from);
    std::memcpy(rests + head * s.n, from.rest, sizeof(float) * s.n);
    const float c = in.c(head, s);
    double gain = 0;
    for (int64_t i = 0; i < s.n; ++i) {
      const T* key = keys + i * in.k.step[2];
      const float* change = from.keys + i * padded(s.d);
      for (int64_t p = 0; p < s.d; ++p) narrow(dk.head(head, s) + i * dk.step[2] + p, change[p] * c);
      for (int64_t p = 0; p < s.e; ++p)
        narrow(dv.head(head, s) + i * dv.step[2] + p, from.values[i * padded(s.e) + p]);
      if (dgain)
        for (int64_t p = 0; p < s.d; ++p) gain += static_cast<double>(widen(key[p])) * change[p];
    }
    gains[head] = gain * in.scale / 2;
    if (dkey_bias) std::memcpy(shifts + head * s.n, from.bias, sizeof(float) * s.n);
  };

  parallel(tasks, in.threads, [&](int64_t task, int thread) {
    const int64_t head = task / parts, part = task % parts;
    float* room = rooms + own * thread;
    auto take = [&](int64_t count) { return (room += count) - count; };
    Side keys(take(Side::room(s, s.d)), s, s.d), values(take(Side::room(s, s.e)), s, s.e);
    Side grads(take(Side::room(s, s.e)), s, s.e);
    keys.pack(in.k.head(head, s), in.k.step[2], s.n);
    values.pack(in.v.head(head, s), in.v.step[2], s.n);
    grads.pack_shares(in.grad.head(head, s), in.grad.step[2], s.n, in.totals + head * s.n);
    const Known known{take(length), take(length), take(length), take(length)};
    clear(known.highest, 3 * length);
    std::fill(known.key_bias + s.n, known.key_bias + length, -INF);
    std::fill(known.half, known.half + length, INF);
    const float* shift = in.key_bias ? in.key_bias + head % s.h * in.key_bias_step : nullptr;
    for (int64_t i = 0; i < s.n; ++i) {
      known.highest[i] = shift_of(in.highest[head * s.n + i]);
      known.half[i] = half_of(in.totals[head * s.n + i]);
      if (shift) known.key_bias[i] = shift[i];
    }
    products(grads, in.out.head(head, s), in.out.step[2], s.n, known.delta);
    if (part == 0) std::memcpy(deltas + head * s.n, known.delta, sizeof(float) * s.n);
    float* tiles = take(TILES * BLOCK * BLOCK);
    float* across = take(2 * BLOCK * W);
    const Gradients mine(parts > 1 ? results + result * task : take(result), s);
    add_gradients(s, head, part, keys, values, grads, known, in.c(head, s), in.bias, tiles, across, mine);
    if (parts == 1) finish(head, mine);
  });
  if (parts > 1)
    parallel(s.heads(), in.threads, [&](int64_t head, int) {
      float* all = results + result * head * parts;
      for (int64_t part = 1; part < parts; ++part) add(all, all + result * part, result);
      finish(head, Gradients(all, s));
    });

  if (dgain) std::memcpy(dgain, gains, sizeof(double) * s.heads());
  if (dkey_bias)
    for (int64_t head = 0; head < s.heads(); ++head) {
      double* to = dkey_bias + head % s.h * (in.key_bias_step ? s.n : 0);
      for (int64_t i = 0; i < s.n; ++i) to[i] += shifts[head * s.n + i];
    }
  return to.dbias ? bias_gradient(s, in, deltas, rests, to.bias_b, to.bias_h, to.dbias) : static_cast<int>(done);
}

}  // namespace fewpairs
