// A block of rows: scores made in cache, cut, and weighed.
#pragma once

#include "../../csrc/parallel.h"
#include "problem.h"
#include "rows.h"
#include "select.h"

namespace fewpairs {

// One block of score rows of one head: made, and cut row by row. Each row's list of best keys takes the scores' place.
template <class T>
class Block {
 public:
  Block(const KnnProblem& p, Scratch& scratch, bool needed = true)
      : p_(p), wanted_(p.topk, p.m), wide_(padded(p.m)), step_(wide_ + W), rows_(rows_of_block(p.n, p.m)) {
    if (!needed) return;
    queries_ = scratch.floats(rows_ * p.d);
    scores_ = scratch.floats(rows_ * step_);
    index_ = scratch.many<int32_t>(rows_ * step_);
    count_ = scratch.many<int64_t>(rows_);
  }

  int64_t rows() const { return rows_; }
  List list(int64_t r) const { return {index_ + r * step_, scores_ + r * step_, count_[r]}; }

  // Scores of `count` rows from `first` on.
  void make(int64_t image, int64_t head, int64_t first, int64_t count, const float* keys) {
    const int64_t filled = (count + FLAT - 1) / FLAT * FLAT;
    const T* from = place<const T>(p_.q, image, head, first);
    for (int64_t r = 0; r < filled; ++r)
      for (int64_t c = 0; c < p_.d; ++c) queries_[r * p_.d + c] = r < count ? widen(from[r * p_.q.step[2] + c]) : 0.0f;
    multiply(filled, wide_ / W, p_.d, {queries_, p_.d, 1}, panels(keys, p_.d), p_.scale, false, scores_, step_);
    for (int64_t r = 0; r < count; ++r) finish(image, head, first + r, scores_ + r * step_);
  }

  // Cuts the r-th row to its list, whose scores become weights, not yet divided by their sum, which is returned. NaN
  // where the row is broken.
  float choose(int64_t r, Cut& cut, float& most) {
    List found = list(r);
    const Row row = select(found.score, p_.m, wanted_, found, cut, most);
    if (row == Row::broken) cut.threshold = most = NAN;
    return row == Row::broken ? spoil(r) : raise(r, found, most);
  }

  // The same list from the cut; weights divided by their sum, whose logarithm is `log_sum`.
  void choose_again(int64_t r, Cut cut, float log_sum) {
    List found = list(r);
    if (cut.threshold != cut.threshold) return void(spoil(r));
    reselect(found.score, p_.m, cut, found);
    raise(r, found, log_sum);
  }

 private:
  const KnnProblem& p_;
  const Wanted wanted_;
  int64_t wide_, step_, rows_;
  float *queries_ = nullptr, *scores_ = nullptr;
  int32_t* index_ = nullptr;
  int64_t* count_ = nullptr;

  // Adds the bias, and closes the row with -inf.
  void finish(int64_t image, int64_t head, int64_t row, float* x) const {
    if (p_.biased == added) {
      const float* bias = place<const float>(p_.bias, image, head, row);
      for (int64_t c = 0; c < p_.m; ++c) x[c] += bias[c];
    } else if (p_.biased == allowed) {
      const uint8_t* bias = place<const uint8_t>(p_.bias, image, head, row);
      for (int64_t c = 0; c < p_.m; ++c) x[c] = bias[c] ? x[c] : -INF;
    }
    for (int64_t c = p_.m; c < wide_; ++c) x[c] = -INF;
  }

  float spoil(int64_t r) {
    count_[r] = p_.topk;
    List found = list(r);
    for (int64_t i = 0; i < found.count; ++i) found.index[i] = static_cast<int32_t>(i), found.score[i] = NAN;
    return NAN;
  }

  // exp(score - less) of the list, and its sum.
  float raise(int64_t r, List found, float less) {
    count_[r] = found.count;
    close(found);
    const Vec shift = splat(less);
    Vec total[2] = {};
    int64_t c = 0;
    for (; c + 2 * W <= found.count; c += 2 * W)
      for (int i = 0; i < 2; ++i) {
        const Vec y = exponential(load(found.score + c + i * W) - shift);
        store(found.score + c + i * W, y);
        total[i] += y;
      }
    for (; c < found.count; c += W) {
      const Vec y = exponential(load(found.score + c) - shift);
      store(found.score + c, y);
      total[0] += found.count - c >= W ? y : load_part(found.score + c, static_cast<int>(found.count - c), 0);
    }
    return sum(total[0] + total[1]);
  }
};

// The weighed means of a block's rows: values are taken some keys at a time, which stay in the nearest cache while all
// rows of the block look at them.
class Means {
 public:
  Means(const KnnProblem& p, int64_t rows, Scratch& scratch) : wide_(padded(p.e)), m_(p.m) {
    keys_ = keys_of_tile(p, wide_, NEAR);
    sums_ = scratch.floats(rows * wide_);
    next_ = scratch.many<int64_t>(rows);
  }

  const float* row(int64_t r) const { return sums_ + r * wide_; }

  template <class T>
  void take(Block<T>& block, int64_t count, const float* values) {
    std::memset(sums_, 0, sizeof(float) * count * wide_);
    for (int64_t r = 0; r < count; ++r) next_[r] = 0;
    for (int64_t until = keys_;; until += keys_) {
      for (int64_t r = 0; r < count; ++r) {
        const List list = block.list(r);
        const int64_t from = next_[r];
        const int64_t to = next_[r] = until >= m_ ? list.count : reach(list.index, from, list.count, until);
        blend(list.index + from, list.score + from, to - from, {values, wide_}, wide_ / W, sums_ + r * wide_);
      }
      if (until >= m_) break;
    }
  }

 private:
  int64_t wide_, m_, keys_;
  float* sums_;
  int64_t* next_;
};

}  // namespace fewpairs
