// Key-only attention, backward: the gradient of the pooled value, then in one pass everything else.
#pragma once

#include <cmath>

#include "plan.h"

namespace fewpairs {

// Adds grad * sigmoid(gate) of a segment up, [wide].
inline void sum_gated(const Plan& plan, const KeyOnlyGradients& g, int64_t head, int64_t segment, const Room& room,
                      float* to) {
  const Rows gate = plan.rows(plan.p.gate, head), grad = plan.rows(g.grad, head);
  clear(to, plan.wide);
  for (int64_t first = segment * plan.positions; first < plan.end(segment); first += ROWS) {
    const int64_t count = std::min(ROWS, plan.end(segment) - first);
    const Piece opened = gate.read(first, count, room[0]), sent = grad.read(first, count, room[1]);
    for (int64_t r = 0; r < count; ++r)
      for (int64_t c = 0; c < plan.wide; c += W)
        store(to + c, load(to + c) + sent.load(r, c) * sigmoid(opened.load(r, c)));
  }
}

// What is known of a head: [wide] each, zeros beyond d, but for the log-sum-exp of all channels.
struct Known {
  float *pooled, *log_sum, *d_pooled;
  float* lost;  // what the rounding of the log-sum-exp to a float took, as a factor of the weights
  static int64_t size(const Plan& plan) { return 4 * plan.wide; }
  Known(float* at, const Plan& plan)
      : pooled(at), log_sum(at + plan.wide), d_pooled(log_sum + plan.wide), lost(d_pooled + plan.wide) {}
  void read(const Plan& plan, int64_t head) const {
    const int64_t d = plan.p.d, logs = plan.p.kind == channels ? d : 1;
    clear(pooled, size(plan));
    std::copy(plan.p.pooled + d * head, plan.p.pooled + d * (head + 1), pooled);
    for (int64_t i = 0; i < logs; ++i) {
      const double given = plan.p.log_sum[logs * head + i];
      const double finite = given == -INF ? 0 : given;  // where nothing counts all logits are -inf
      log_sum[i] = static_cast<float>(finite);
      lost[i] = static_cast<float>(std::exp(log_sum[i] - finite));
    }
  }
  // The weights' factor goes to what each of them is multiplied by.
  void scale(const Plan& plan) const {
    for (int64_t p = 0; p < plan.p.d; ++p) d_pooled[p] *= lost[plan.p.kind == channels ? p : 0];
  }
};

// d_value = weight * d_pooled, d_logit = weight * (value - pooled) * d_pooled, channel by channel.
inline void unpool_channels(const Plan& plan, const Known& known, const float* logit, Piece values, int64_t count,
                            Written& dv, Written& dlogits) {
  for (int64_t r = 0; r < count; ++r)
    for (int64_t c = 0; c < plan.wide; c += W) {
      const Vec sent = weight(load(logit + r * plan.wide + c) - load(known.log_sum + c)) * load(known.d_pooled + c);
      dv.put(r, c, sent);
      dlogits.put(r, c, sent * (values.load(r, c) - load(known.pooled + c)));
    }
}

// The same with one logit a position: logits [ROWS] become their gradients.
inline void unpool_positions(const Plan& plan, const Known& known, float* logit, Piece values, int64_t count,
                             Written& dv) {
  for (int64_t r = 0; r < ROWS; r += W) store(logit + r, weight(load(logit + r) - known.log_sum[0]));
  for (int64_t r = 0; r < count; ++r) {
    Vec slope = {};
    for (int64_t c = 0; c < plan.wide; c += W) {
      const Vec sent = load(known.d_pooled + c);
      dv.put(r, c, sent * logit[r]);
      slope += sent * (values.load(r, c) - load(known.pooled + c));
    }
    logit[r] *= sum(slope);
  }
}

// d_gate = grad * pooled * s * (1 - s) with s = sigmoid(gate).
inline Vec through_gate(Vec gate, Vec grad, Vec pooled) {
  const Vec opened = sigmoid(gate);
  return grad * pooled * opened * (1.0f - opened);
}

inline void unpool_segment(const Plan& plan, const KeyOnlyGradients& g, int64_t head, int64_t segment,
                           const Room& room, const Known& known, float* d_vector) {
  const bool directed = plan.p.kind == vector, one = g.gate_is_key;
  const Rows keys = plan.rows(plan.p.k, head), values = plan.rows(plan.p.v, head), gate = plan.rows(plan.p.gate, head);
  const Rows given = plan.rows(plan.p.saliency, head), grad = plan.rows(g.grad, head);
  Written dk = plan.written(g.dk, head, room[4]), dv = plan.written(g.dv, head, room[5]);
  Written dgate = plan.written(one ? g.dk : g.dgate, head, room[6]), dlogits = plan.written(g.dlogits, head, room[7]);
  read_vector(plan, head, room.direction);
  clear(d_vector, plan.wide);
  for (int64_t first = segment * plan.positions; first < plan.end(segment); first += ROWS) {
    const int64_t count = std::min(ROWS, plan.end(segment) - first);
    const Piece value = values.read(first, count, room[0]), sent = grad.read(first, count, room[1]);
    const Piece opened = gate.read(first, count, room[2]);
    const Piece key = one ? opened : directed ? keys.read(first, count, room[3]) : Piece{};
    float logit[ROWS];
    dv.begin(first);
    if (plan.p.kind == channels) {
      find_channels(plan, head, first, count, given, room[3], room[8]);
      dlogits.begin(first);
      unpool_channels(plan, known, room[8], value, count, dv, dlogits);
      dlogits.end(count);
    } else {
      find_logits(plan, head, first, count, key, given, room.direction, logit);
      unpool_positions(plan, known, logit, value, count, dv);
      if (!directed) dlogits.numbers(first, logit, count);
    }
    dv.end(count);
    if (one || directed) dk.begin(first);
    if (!one) dgate.begin(first);
    for (int64_t r = 0; r < count; ++r)
      for (int64_t c = 0; c < plan.wide; c += W) {
        const Vec through = through_gate(opened.load(r, c), sent.load(r, c), load(known.pooled + c));
        if (!one) dgate.put(r, c, through);
        if (!directed) {
          if (one) dk.put(r, c, through);
          continue;
        }
        const Vec turned = load(room.direction + c) * logit[r];
        dk.put(r, c, one ? turned + through : turned);
        store(d_vector + c, load(d_vector + c) + key.load(r, c) * logit[r]);
      }
    if (one || directed) dk.end(count);
    if (!one) dgate.end(count);
  }
  Written::finish();
}

inline int backward(const KeyOnlyProblem& problem, const KeyOnlyGradients& g) {
  const Plan plan(problem);
  const int64_t own = Room::size(plan);
  Scratch scratch;
  float* const rooms = scratch.floats(own * std::min<int64_t>(std::max(problem.threads, 1), plan.tasks()));
  float* const sums = scratch.floats(plan.wide * plan.tasks());
  float* const all_known = scratch.floats(Known::size(plan) * plan.heads());
  if (!scratch.ok()) return no_memory;
  for (const Tensor* x : {&g.dk, &g.dv, &g.dgate}) Written::spread(*x, plan.numbers());
  if (problem.kind == channels) Written::spread(g.dlogits, plan.numbers());
  auto add_up = [&](int64_t task, int thread) {
    sum_gated(plan, g, task / plan.segments, task % plan.segments, Room(rooms + own * thread, plan),
              sums + plan.wide * task);
  };
  auto join = [&](int64_t head) {
    const Known known(all_known + Known::size(plan) * head, plan);
    known.read(plan, head);
    const float* parts = sums + plan.wide * plan.segments * head;
    for (int64_t segment = 0; segment < plan.segments; ++segment)
      for (int64_t c = 0; c < plan.wide; ++c) known.d_pooled[c] += parts[plan.wide * segment + c];
    known.scale(plan);
  };
  auto send = [&](int64_t task, int thread) {
    const int64_t head = task / plan.segments;
    unpool_segment(plan, g, head, task % plan.segments, Room(rooms + own * thread, plan),
                   Known(all_known + Known::size(plan) * head, plan), sums + plan.wide * task);
  };
  if (plan.segments == 1) {
    parallel(plan.heads(), problem.threads, [&](int64_t head, int thread) {
      add_up(head, thread);
      join(head);
      send(head, thread);
    });
  } else {
    parallel(plan.tasks(), problem.threads, add_up);
    for (int64_t head = 0; head < plan.heads(); ++head) join(head);
    parallel(plan.tasks(), problem.threads, [&](int64_t task, int thread) { send(plan.tasks() - 1 - task, thread); });
  }
  if (g.dvector)
    for (int64_t task = 0; task < plan.tasks(); ++task)
      for (int64_t p = 0; p < problem.d; ++p)
        g.dvector[task / plan.segments % problem.h * problem.d + p] += sums[plan.wide * task + p];
  return done;
}

}  // namespace fewpairs
