// The forward pass.
#pragma once

#include "block.h"

namespace fewpairs {

// Keeps a list for the backward pass; a row with fewer keys is filled up with the first key and no weight.
inline void keep(List list, float factor, int64_t topk, int16_t* index, float* weight) {
  for (int64_t i = 0; i < list.count; ++i) index[i] = static_cast<int16_t>(list.index[i]);
  for (int64_t i = 0; i < list.count; ++i) weight[i] = list.score[i] * factor;
  for (int64_t i = list.count; i < topk; ++i) index[i] = 0, weight[i] = 0;
}

// What a thread needs for the forward pass.
template <class T>
struct Desk {
  Desk(const KnnProblem& p, Scratch& scratch)
      : keys(scratch.floats(padded(p.m) * p.d)), values(scratch.floats(p.m * padded(p.e))), block(p, scratch),
        factor(scratch.floats(block.rows())), means(p, block.rows(), scratch) {}
  float *keys, *values;
  Block<T> block;
  float* factor;
  Means means;
};

template <class T>
int forward(const KnnProblem& p, Tensor out) {
  const int64_t segments = (p.n + SEGMENT_ROWS - 1) / SEGMENT_ROWS, span = (p.n + segments - 1) / segments;
  Failure failure;
  Rooms<Desk<T>> desks(p.threads);
  parallel(p.b * p.h * segments, p.threads, [&](int64_t task, int thread) {
    const int64_t image = task / segments / p.h, head = task / segments % p.h;
    const int64_t start = task % segments * span, end = std::min(p.n, start + span);
    Desk<T>* desk = desks.get(thread, [&](Scratch& scratch) { return Desk<T>(p, scratch); });
    if (!desk) return failure.set(no_memory);
    auto& [keys, values, block, factor, means] = *desk;
    pack_transposed(place<const T>(p.k, image, head), p.k.step[2], p.m, p.d, keys);
    pack_rows(place<const T>(p.v, image, head), p.v.step[2], p.m, p.e, values);
    for (int64_t first = start; first < end; first += block.rows()) {
      const int64_t count = std::min(block.rows(), end - first), row = (image * p.h + head) * p.n + first;
      block.make(image, head, first, count, keys);
      for (int64_t r = 0; r < count; ++r) {
        Cut cut;
        float most;
        const float total = block.choose(r, cut, most);
        const bool empty = block.list(r).count == 0;
        factor[r] = empty ? 0 : 1 / total;
        if (p.threshold) {
          p.threshold[row + r] = cut.threshold;
          p.last[row + r] = cut.last;
          p.log_sum[row + r] = empty ? 0 : most + std::log(total);
        }
      }
      means.take(block, count, values);
      for (int64_t r = 0; r < count; ++r) {
        write_row(means.row(r), factor[r], p.e, place<T>(out, image, head, first + r));
        if (p.index) keep(block.list(r), factor[r], p.topk, p.index + (row + r) * p.topk, p.weight + (row + r) * p.topk);
      }
    }
  });
  return failure.status();
}

}  // namespace fewpairs
