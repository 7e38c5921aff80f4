// The problem as it comes in, and how it is divided.
#pragma once

#include "../../csrc/gemm.h"
#include "../../csrc/tensor.h"

namespace fewpairs {

enum Number : int32_t { float32 = 0, brain16 = 1 };
enum Biased : int32_t { unbiased = 0, added = 1, allowed = 2 };

// What both passes are told.
struct KnnProblem {
  int64_t b, h, n, m, d, e, topk;
  float scale;
  int32_t number, biased, threads;
  Tensor q, k, v, bias;
  // Kept for the backward pass: lists of `topk` keys a row, `[b h n topk]`, where `index` is not null, else the cut.
  int16_t* index;
  float* weight;
  float* threshold;
  int32_t* last;
  float* log_sum;
};

struct KnnGradients {
  Tensor out, grad, dq, dk, dv;
  // Contiguous `[#b #h n m]` float32, zero at first; null where the bias does not learn. The steps are those of bias.
  float* dbias;
};

constexpr int64_t BLOCK_SCORES = 1 << 16;  // 256 KiB of scores: a quarter of the cache that a core has for itself
constexpr int64_t SEGMENT_ROWS = 1024;     // rows of one task
constexpr int64_t FEW_HEADS = 4;           // with fewer, the backward pass divides a head's rows among several tasks
constexpr int64_t NEAR = 8192;             // floats that lie in the nearest cache: 32 KiB

inline int64_t rows_of_block(int64_t n, int64_t m) {
  const int64_t most = std::min<int64_t>(60, BLOCK_SCORES / padded(m));
  return std::min<int64_t>(std::max<int64_t>(most / TALL * TALL, TALL), (n + FLAT - 1) / FLAT * FLAT);
}

// How many keys are looked at together: rows of `wide` floats that fill `room`, and about two dozen kept keys a row, so
// that a tile costs more than the step to it.
inline int64_t keys_of_tile(const KnnProblem& p, int64_t wide, int64_t room) {
  return std::max<int64_t>(room / wide, 24 * p.m / p.topk);
}

template <class T>
const T* place(const Tensor& x, int64_t image, int64_t head, int64_t row = 0) {
  return static_cast<const T*>(x.at) + image * x.step[0] + head * x.step[1] + row * x.step[2];
}

template <class T>
T* place(Tensor& x, int64_t image, int64_t head, int64_t row = 0) {
  return static_cast<T*>(x.at) + image * x.step[0] + head * x.step[1] + row * x.step[2];
}

template <class T>
void write_row(const float* from, float factor, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i) narrow(to + i, from[i] * factor);
}

}  // namespace fewpairs
