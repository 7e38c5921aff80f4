// What the two passes of key-only attention share: the problem as it comes in, its cut into segments, the logits.
#pragma once

#include "stretches.h"

namespace fewpairs {

struct KeyOnlyProblem {
  int64_t b, h, n, d;
  int32_t kind, threads;
  Tensor k, v, gate, saliency, mask;  // mask: bytes [b h n] or null
  float* pooled;                             // [b h d]
  // [b h] or, where every channel has its own logits, [b h d]: large logits leave a float no digits for their weights.
  double* log_sum;
};

struct KeyOnlyGradients {
  Tensor grad, dk, dv, dgate, dlogits;  // null where there is none
  double* dvector;                             // [h d] or null
  int32_t gate_is_key;
};

enum Kind : int { vector = 0, logits = 1, channels = 2 };

struct Plan {
  const KeyOnlyProblem& p;
  int64_t wide;       // numbers of a row, whole vectors
  int64_t own;        // numbers of a row of maxima and sums
  int64_t positions;  // of a segment
  int64_t segments;   // of a head

  explicit Plan(const KeyOnlyProblem& problem) : p(problem), wide(whole(p.d)), own(p.kind == channels ? wide : W) {
    positions = std::max<int64_t>(ROWS, SEGMENT / wide / ROWS * ROWS);
    segments = (p.n + positions - 1) / positions;
  }
  int64_t heads() const { return p.b * p.h; }
  int64_t tasks() const { return heads() * segments; }
  int64_t end(int64_t segment) const { return std::min(p.n, (segment + 1) * positions); }
  int64_t numbers() const { return heads() * p.n * p.d; }
  Rows rows(const Tensor& x, int64_t head) const { return Rows(x, head / p.h, head % p.h, p.d); }
  Written written(const Tensor& x, int64_t head, float* room) const {
    return Written(x, head / p.h, head % p.h, p.d, room, numbers() >= AROUND_CACHE);
  }
  bool counts(int64_t head, int64_t position) const {
    const int64_t* step = p.mask.step;
    return !p.mask.at ||
           static_cast<const uint8_t*>(p.mask.at)[head / p.h * step[0] + head % p.h * step[1] + position * step[2]];
  }
};

inline void clear(float* from, int64_t count) { std::memset(from, 0, sizeof(float) * count); }

// The vector of a head's saliency, or zeros.
inline void read_vector(const Plan& plan, int64_t head, float* to) {
  clear(to, plan.wide);
  if (plan.p.kind != vector) return;
  const Tensor& x = plan.p.saliency;
  const Rows rows(x, 0, head % plan.p.h, plan.p.d);
  for (int64_t p = 0; p < plan.p.d; ++p) {
    const void* at = rows.place(rows.at, p * x.step[3]);
    to[p] = x.is_half() ? widen(*static_cast<const bfloat16*>(at)) : *static_cast<const float*>(at);
  }
}

// Logits of `count` positions, then -inf up to whole vectors: [ROWS].
inline void find_logits(const Plan& plan, int64_t head, int64_t first, int64_t count, Piece keys, const Rows& given,
                        const float* direction, float* to) {
  for (int64_t r = 0; r < count; ++r) {
    if (plan.p.kind == vector) {
      Vec total = {};
      for (int64_t c = 0; c < plan.wide; c += W) total += keys.load(r, c) * load(direction + c);
      to[r] = sum(total);
    } else {
      to[r] = given.number(first + r);
    }
    if (!plan.counts(head, first + r)) to[r] = -INF;
  }
  for (int64_t r = count; r < ROWS; ++r) to[r] = -INF;
}

// Logits of each channel, [ROWS, wide].
inline void find_channels(const Plan& plan, int64_t head, int64_t first, int64_t count, const Rows& given, float* room,
                          float* to) {
  const Piece piece = given.read(first, count, room);
  for (int64_t r = 0; r < count; ++r) {
    const bool counts = plan.counts(head, first + r);
    for (int64_t c = 0; c < plan.wide; c += W) store(to + r * plan.wide + c, counts ? piece.load(r, c) : splat(-INF));
  }
}

// Buffers of a thread, [ROWS, wide] each, and the vector of the saliency.
struct Room {
  static constexpr int64_t PARTS = 9;
  float* at;
  int64_t part;
  float* direction;
  static int64_t size(const Plan& plan) { return (PARTS * ROWS + 1) * plan.wide; }
  Room(float* from, const Plan& plan) : at(from), part(ROWS * plan.wide), direction(from + PARTS * part) {}
  float* operator[](int64_t i) const { return at + i * part; }
};

}  // namespace fewpairs
