// Key-only attention in stretches of positions: how a stretch is read as floats and written as whatever it is.
#pragma once

#include <algorithm>
#include <sys/mman.h>
#include <unistd.h>

#include "parallel.h"
#include "tensor.h"
#include "vector.h"

namespace fewpairs {

constexpr int64_t ROWS = 32;               // positions at once: some vectors of logits, a few pages of keys
constexpr int64_t SEGMENT = 1 << 16;       // numbers of the keys in a segment, which fit a core's cache
constexpr int64_t AROUND_CACHE = 1 << 22;  // a result of so many numbers goes to memory past the caches

inline int64_t whole(int64_t d) { return (d + W - 1) / W * W; }

// A piece [rows, whole(d)] of floats, `step` apart; in place where the tensor has it so, else a copy.
struct Piece {
  const float* at;
  int64_t step;
  Vec load(int64_t row, int64_t column) const { return fewpairs::load(at + row * step + column); }
};

// The rows of one head.
struct Rows {
  const void* at;
  int64_t step, d;
  bool is_half;

  Rows(const Tensor& x, int64_t b, int64_t h, int64_t width)
      : at(nullptr), step(x.step[2]), d(width), is_half(x.is_half()) {
    if (x.at) at = place(x.at, b * x.step[0] + h * x.step[1]);
  }
  const void* place(const void* from, int64_t numbers) const {
    return static_cast<const char*>(from) + numbers * (is_half ? 2 : 4);
  }
  // `room` has ROWS * whole(d) numbers.
  Piece read(int64_t first, int64_t rows, float* room) const {
    const int64_t wide = whole(d);
    const void* from = place(at, first * step);
    if (!is_half && wide == d) return {static_cast<const float*>(from), step};
    for (int64_t r = 0; r < rows; ++r) {
      if (is_half)
        widen_row(static_cast<const bfloat16*>(from) + r * step, room + r * wide);
      else
        widen_row(static_cast<const float*>(from) + r * step, room + r * wide);
    }
    return {room, wide};
  }
  // Single numbers [rows], `step` apart.
  float number(int64_t i) const {
    return is_half ? widen(static_cast<const bfloat16*>(at)[i * step]) : static_cast<const float*>(at)[i * step];
  }

 private:
  template <class T>
  void widen_row(const T* from, float* to) const {
    for (int64_t p = 0; p < d; ++p) to[p] = widen(from[p]);
    for (int64_t p = d; p < whole(d); ++p) to[p] = 0;
  }
};

// Rows that are written: straight to their place, past the caches where there are many, or through a buffer.
struct Written {
  Rows rows;
  float* room;  // ROWS * whole(d) numbers
  bool in_place, past_caches;
  int64_t first = 0;
  float* to = nullptr;
  int64_t step = 0;

  Written(const Tensor& x, int64_t b, int64_t h, int64_t d, float* buffer, bool many)
      : rows(x, b, h, d), room(buffer), in_place(!rows.is_half && whole(d) == d), past_caches(false) {
#if defined(__AVX512F__) || defined(__AVX2__)
    past_caches = many && in_place && reinterpret_cast<uintptr_t>(rows.at) % sizeof(Vec) == 0 && rows.step % W == 0;
#endif
  }
  void begin(int64_t position) {
    first = position;
    to = in_place ? static_cast<float*>(const_cast<void*>(rows.at)) + position * rows.step : room;
    step = in_place ? rows.step : whole(rows.d);
  }
  // Asks for large pages for new memory of the whole tensor, `numbers` from its start on: to be given 16 MiB in pages
  // of 4 KiB takes longer than to read and write them all.
  static void spread(const Tensor& x, int64_t numbers) {
    if (!x.at || numbers < AROUND_CACHE) return;
    const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const uintptr_t from = (reinterpret_cast<uintptr_t>(x.at) + page - 1) / page * page;
    const uintptr_t to = (reinterpret_cast<uintptr_t>(x.at) + numbers * (x.is_half() ? 2 : 4)) / page * page;
    madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);  // where it cannot be had nothing changes
  }
  void put(int64_t row, int64_t column, Vec x) {
    float* at = to + row * step + column;
#if defined(__AVX512F__)
    if (past_caches) return _mm512_stream_ps(at, (__m512)x);
#elif defined(__AVX2__)
    if (past_caches) return _mm256_stream_ps(at, (__m256)x);
#endif
    store(at, x);
  }
  void end(int64_t count) {
    if (in_place) return;
    void* out = const_cast<void*>(rows.place(rows.at, first * rows.step));
    for (int64_t r = 0; r < count; ++r)
      for (int64_t p = 0; p < rows.d; ++p) {
        const float x = room[r * step + p];
        if (rows.is_half)
          narrow(static_cast<bfloat16*>(out) + r * rows.step + p, x);
        else
          static_cast<float*>(out)[r * rows.step + p] = x;
      }
  }
  // Single numbers [rows] from a position on.
  void numbers(int64_t position, const float* x, int64_t count) const {
    for (int64_t r = 0; r < count; ++r) {
      void* out = const_cast<void*>(rows.place(rows.at, (position + r) * rows.step));
      if (rows.is_half)
        narrow(static_cast<bfloat16*>(out), x[r]);
      else
        *static_cast<float*>(out) = x[r];
    }
  }
  // What went past the caches is seen by others.
  static void finish() {
#if defined(__AVX512F__) || defined(__AVX2__)
    _mm_sfence();
#endif
  }
};

// exp(x) with exact zeros: of what is below -87, so also of -inf. NaN stays NaN.
inline Vec weight(Vec x) { return select(x >= splat(-87.0f), exponential(x), select(x == x, Vec{}, x)); }

// 1 / (1 + exp(-x)) to 4e-7 of itself, where exp stops at 87 on both sides; NaN stays NaN.
inline Vec sigmoid(Vec x) {
#if defined(__AVX512F__)
  // In as few instructions as there can be: the gate is what the whole kernel waits for.
  const __m512 most = _mm512_set1_ps(87), least = _mm512_set1_ps(-87);
  x = (Vec)_mm512_max_ps(least, _mm512_min_ps(most, (__m512)x));  // where one is NaN, the second operand is taken
  const __m512 power = _mm512_roundscale_ps((__m512)(x * -1.44269504088896341f), 0);
  const Vec r = -x - (Vec)power * 0.693147182464599609f;
  Vec p = splat(8.3125204821e-3f);  // exp(r) to 1e-7
  p = p * r + 4.1890157597e-2f;
  p = p * r + 1.6667114649e-1f;
  p = p * r + 4.9999231488e-1f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Vec below = (Vec)_mm512_scalef_ps((__m512)p, power) + 1.0f;
  const Vec rough = (Vec)_mm512_rcp14_ps((__m512)below);
  return rough + rough * (1.0f - below * rough);
#else
  return select(x == x, 1.0f / (exponential(-x) + 1.0f), x);
#endif
}

}  // namespace fewpairs
