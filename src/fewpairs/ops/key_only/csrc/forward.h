// Key-only attention, forward: the pooling of each segment, their joining, and the gate.
#pragma once

#include <cmath>

#include "plan.h"

namespace fewpairs {

// What is known of some positions of a head: maxima and sums of the weights, [own] each, and the weighed sum of values.
struct State {
  float *highest, *total, *mean;
  static int64_t size(const Plan& plan) { return 2 * plan.own + plan.wide; }
  State(float* at, const Plan& plan) : highest(at), total(at + plan.own), mean(at + 2 * plan.own) {}
};

inline Vec shift_of(Vec highest) { return select(highest == splat(-INF), Vec{}, highest); }

// By how much what was summed below `before` shrinks beside `shift`.
inline Vec shrinkage(Vec before, Vec shift) { return select(before == splat(-INF), Vec{}, weight(before - shift)); }

// sums[c] = sums[c] * shrink + sum_r factors[r] rows[r][c]
inline void add_rows(Piece rows, const float* factors, int64_t count, int64_t wide, Vec shrink, float* sums) {
  constexpr int AT_ONCE = 4;
  int64_t c = 0;
  for (; c + AT_ONCE * W <= wide; c += AT_ONCE * W) {
    Vec total[AT_ONCE];
    for (int v = 0; v < AT_ONCE; ++v) total[v] = load(sums + c + v * W) * shrink;
    for (int64_t r = 0; r < count; ++r)
      for (int v = 0; v < AT_ONCE; ++v) total[v] += rows.load(r, c + v * W) * factors[r];
    for (int v = 0; v < AT_ONCE; ++v) store(sums + c + v * W, total[v]);
  }
  for (; c < wide; c += W) {
    Vec total = load(sums + c) * shrink;
    for (int64_t r = 0; r < count; ++r) total += rows.load(r, c) * factors[r];
    store(sums + c, total);
  }
}

// The same where each channel has its logits, [ROWS, wide].
inline void pool_channels(const Plan& plan, const float* logit, Piece values, int64_t count, const State& state) {
  for (int64_t c = 0; c < plan.wide; c += W) {
    const Vec before = load(state.highest + c);
    Vec top = before;
    for (int64_t r = 0; r < count; ++r) top = maximum(load(logit + r * plan.wide + c), top);
    const Vec shift = shift_of(top), shrink = shrinkage(before, shift);
    Vec total = load(state.total + c) * shrink, mean = load(state.mean + c) * shrink;
    for (int64_t r = 0; r < count; ++r) {
      const Vec raised = weight(load(logit + r * plan.wide + c) - shift);
      total += raised;
      mean += raised * values.load(r, c);
    }
    store(state.highest + c, top);
    store(state.total + c, total);
    store(state.mean + c, mean);
  }
}

// Logits [ROWS], which become weights, and values of `count` positions join what is known.
inline void pool_positions(const Plan& plan, float* logit, Piece values, int64_t count, const State& state) {
  const Vec before = load(state.highest);
  Vec top = before;
  for (int64_t r = 0; r < ROWS; r += W) top = maximum(load(logit + r), top);
  top = splat(highest(top));
  const Vec shift = shift_of(top), shrink = shrinkage(before, shift);
  Vec total = {};
  for (int64_t r = 0; r < ROWS; r += W) {
    const Vec raised = weight(load(logit + r) - shift);
    store(logit + r, raised);
    total += raised;
  }
  store(state.highest, top);
  store(state.total, load(state.total) * shrink + sum(total));
  add_rows(values, logit, count, plan.wide, shrink, state.mean);
}

inline void pool_segment(const Plan& plan, int64_t head, int64_t segment, const Room& room, const State& state) {
  const Rows keys = plan.rows(plan.p.k, head), values = plan.rows(plan.p.v, head);
  const Rows given = plan.rows(plan.p.saliency, head);
  std::fill(state.highest, state.highest + plan.own, -INF);
  clear(state.total, plan.own + plan.wide);
  read_vector(plan, head, room.direction);
  for (int64_t first = segment * plan.positions; first < plan.end(segment); first += ROWS) {
    const int64_t count = std::min(ROWS, plan.end(segment) - first);
    const Piece value = values.read(first, count, room[0]);
    if (plan.p.kind == channels) {
      find_channels(plan, head, first, count, given, room[1], room[2]);
      pool_channels(plan, room[2], value, count, state);
      continue;
    }
    float logit[ROWS];
    const Piece key = plan.p.kind == vector ? keys.read(first, count, room[1]) : Piece{};
    find_logits(plan, head, first, count, key, given, room.direction, logit);
    pool_positions(plan, logit, value, count, state);
  }
}

// Joins the segments of a head, in order, into its pooled value [wide] and the log-sum-exp of its logits.
inline void join(const Plan& plan, int64_t head, float* states, float* pooled, double* log_sum) {
  bool any = false;
  for (int64_t n = 0; n < plan.p.n && !any; ++n) any = plan.counts(head, n);
  for (int64_t c = 0; c < plan.wide; c += W) {
    const int64_t at = plan.p.kind == channels ? c : 0;
    Vec top = splat(-INF), total = {}, mean = {};
    for (int64_t segment = 0; segment < plan.segments; ++segment)
      top = maximum(load(State(states + segment * State::size(plan), plan).highest + at), top);
    const Vec shift = shift_of(top);
    for (int64_t segment = 0; segment < plan.segments; ++segment) {
      const State state(states + segment * State::size(plan), plan);
      const Vec shrink = shrinkage(load(state.highest + at), shift);
      total += load(state.total + at) * shrink;
      mean += load(state.mean + c) * shrink;
    }
    const IVec none = total == Vec{};
    store(pooled + c, select(none, any ? total / total : mean, mean / total));
    const int64_t logs = plan.p.kind == channels ? plan.p.d : 1;
    for (int64_t i = c; i < std::min(c + W, logs); ++i)
      log_sum[i] = std::log(static_cast<double>(total[i - c])) + top[i - c];
  }
}

inline void gate_segment(const Plan& plan, int64_t head, int64_t segment, const Room& room, const float* pooled,
                         const Tensor& result) {
  const Rows gate = plan.rows(plan.p.gate, head);
  Written out = plan.written(result, head, room[1]);
  for (int64_t first = segment * plan.positions; first < plan.end(segment); first += ROWS) {
    const int64_t count = std::min(ROWS, plan.end(segment) - first);
    const Piece piece = gate.read(first, count, room[0]);
    out.begin(first);
    for (int64_t r = 0; r < count; ++r)
      for (int64_t c = 0; c < plan.wide; c += W) out.put(r, c, sigmoid(piece.load(r, c)) * load(pooled + c));
    out.end(count);
  }
  Written::finish();
}

inline int forward(const KeyOnlyProblem& problem, const Tensor& out) {
  const Plan plan(problem);
  const int64_t own = Room::size(plan);
  Scratch scratch;
  float* const rooms = scratch.floats(own * std::min<int64_t>(std::max(problem.threads, 1), plan.tasks()));
  float* const states = scratch.floats(State::size(plan) * plan.tasks());
  float* const joined = scratch.floats(plan.wide * plan.heads());
  if (!scratch.ok()) return no_memory;
  Written::spread(out, plan.numbers());
  auto join_head = [&](int64_t head) {
    float* const pooled = joined + plan.wide * head;
    const int64_t logs = problem.kind == channels ? problem.d : 1;
    join(plan, head, states + State::size(plan) * plan.segments * head, pooled, problem.log_sum + logs * head);
    std::copy(pooled, pooled + problem.d, problem.pooled + problem.d * head);
  };
  auto pool = [&](int64_t task, int thread) {
    pool_segment(plan, task / plan.segments, task % plan.segments, Room(rooms + own * thread, plan),
                 State(states + State::size(plan) * task, plan));
  };
  auto gate = [&](int64_t task, int thread) {
    const int64_t head = task / plan.segments;
    gate_segment(plan, head, task % plan.segments, Room(rooms + own * thread, plan), joined + plan.wide * head, out);
  };
  if (plan.segments == 1) {
    parallel(plan.heads(), problem.threads, [&](int64_t head, int thread) {
      pool(head, thread);
      join_head(head);
      gate(head, thread);
    });
    return done;
  }
  parallel(plan.tasks(), problem.threads, pool);
  for (int64_t head = 0; head < plan.heads(); ++head) join_head(head);
  parallel(plan.tasks(), problem.threads, [&](int64_t task, int thread) { gate(plan.tasks() - 1 - task, thread); });
  return done;
}

}  // namespace fewpairs
