// Vectors of floats as wide as the compiler's target has them: 16 (AVX-512), 8 (AVX2), 4 (anything else).
//
// GCC's vector extensions carry the arithmetic, so there is one source; what they cannot say (compressing the lanes
// that a comparison chose) has one version for each width.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace fewpairs {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * W)));
typedef int32_t IVec __attribute__((vector_size(4 * W)));

constexpr float INF = std::numeric_limits<float>::infinity();

inline Vec load(const float* from) {
  Vec x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

inline void store(float* to, Vec x) { std::memcpy(to, &x, sizeof x); }

inline void store(int32_t* to, IVec x) { std::memcpy(to, &x, sizeof x); }

inline Vec splat(float x) { return x - Vec{}; }

inline IVec splat(int32_t x) { return x - IVec{}; }

inline IVec iota() {
  IVec x;
  for (int i = 0; i < W; ++i) x[i] = i;
  return x;
}

inline Vec select(IVec where, Vec yes, Vec no) { return where ? yes : no; }

inline Vec maximum(Vec a, Vec b) { return a > b ? a : b; }

inline Vec minimum(Vec a, Vec b) { return a < b ? a : b; }

// The first `count` of W numbers, the rest as in `otherwise`.
inline Vec load_part(const float* from, int count, float otherwise) {
  Vec x = splat(otherwise);
  std::memcpy(&x, from, sizeof(float) * count);
  return x;
}

inline void store_part(float* to, Vec x, int count) { std::memcpy(to, &x, sizeof(float) * count); }

inline float sum(Vec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)x);
#else
  float total = 0;
  for (int i = 0; i < W; ++i) total += x[i];
  return total;
#endif
}

inline int32_t sum(IVec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_epi32((__m512i)x);
#else
  int32_t total = 0;
  for (int i = 0; i < W; ++i) total += x[i];
  return total;
#endif
}

inline float highest(Vec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)x);
#endif
  float top = x[0];
  for (int i = 1; i < W; ++i) top = x[i] > top ? x[i] : top;
  return top;
}

inline float lowest(Vec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_min_ps((__m512)x);
#endif
  float low = x[0];
  for (int i = 1; i < W; ++i) low = x[i] < low ? x[i] : low;
  return low;
}

// exp(x) to 2 units in the last place for x in [-87, 88]; what lies below counts as -87, so that no result is a
// denormal number, which a CPU is slow with. NaN counts as -87 too: who may have one looks for it before.
inline Vec exponential(Vec x) {
  x = maximum(x, splat(-87.0f));
  x = minimum(x, splat(88.0f));
  const float magic = 12582912.0f;  // 1.5 * 2^23: its low bits hold the rounded power of two
  const Vec shifted = x * 1.44269504088896341f + magic;
  const Vec power = shifted - magic;
  Vec r = x - power * 0.693359375f;
  r = r - power * -2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return (Vec)((IVec)p + ((IVec)shifted << 23));
}

// How many lanes hold a number >= t, added to `count` lane by lane.
inline IVec count_from(IVec count, Vec x, Vec t) {
#if defined(__AVX512F__)
  const __mmask16 in = _mm512_cmp_ps_mask((__m512)x, (__m512)t, _CMP_GE_OQ);
  return (IVec)_mm512_mask_sub_epi32((__m512i)count, in, (__m512i)count, _mm512_set1_epi32(-1));
#else
  return count - (IVec)(x >= t);
#endif
}

#if defined(__AVX2__) && !defined(__AVX512F__)
// For each mask of 8 lanes: the lanes that are set, in order.
struct Lanes {
  alignas(32) int32_t of[256][8];
  Lanes() {
    for (int mask = 0; mask < 256; ++mask) {
      int n = 0;
      for (int lane = 0; lane < 8; ++lane)
        if (mask >> lane & 1) of[mask][n++] = lane;
      while (n < 8) of[mask][n++] = 0;
    }
  }
};
inline const Lanes& lanes() {
  static const Lanes table;
  return table;
}
#endif

// Choices of lanes, as a bit each.
inline uint32_t bits(IVec where) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)where, (__m512i)where);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps((__m256)where));
#else
  uint32_t out = 0;
  for (int i = 0; i < W; ++i) out |= (where[i] ? 1u : 0u) << i;
  return out;
#endif
}

inline uint32_t lanes_from(Vec x, Vec t) {  // x >= t
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)x, (__m512)t, _CMP_GE_OQ);
#else
  return bits(x >= t);
#endif
}

// Writes the chosen lanes side by side; up to W numbers are written, of which the first popcount(chosen) count. Where
// FEW, no more than four lanes are chosen, and four numbers are written: short stores seldom cross a cache line.
template <bool FEW = false>
inline void compress(float* to, Vec x, uint32_t chosen) {
#if defined(__AVX512F__)
  const __m512 packed = _mm512_maskz_compress_ps(static_cast<__mmask16>(chosen), (__m512)x);
  if (FEW)
    _mm_storeu_ps(to, _mm512_castps512_ps128(packed));
  else
    _mm512_storeu_ps(to, packed);
#elif defined(__AVX2__)
  const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes().of[chosen]));
  store(to, (Vec)_mm256_permutevar8x32_ps((__m256)x, order));
#else
  for (int i = 0, n = 0; i < W; ++i)
    if (chosen >> i & 1) to[n++] = x[i];
#endif
}

template <bool FEW = false>
inline void compress(int32_t* to, IVec x, uint32_t chosen) {
#if defined(__AVX512F__)
  const __m512i packed = _mm512_maskz_compress_epi32(static_cast<__mmask16>(chosen), (__m512i)x);
  if (FEW)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_castsi512_si128(packed));
  else
    _mm512_storeu_si512(to, packed);
#elif defined(__AVX2__)
  const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes().of[chosen]));
  store(to, (IVec)_mm256_permutevar8x32_epi32((__m256i)x, order));
#else
  for (int i = 0, n = 0; i < W; ++i)
    if (chosen >> i & 1) to[n++] = x[i];
#endif
}

// Numbers as they lie in a tensor: 32 bits, or 16 bits (bfloat16: the upper half of a float).
struct bfloat16 {
  uint16_t bits;
};

inline float widen(float x) { return x; }

inline float widen(bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

inline void narrow(float* to, float x) { *to = x; }

// Rounds to nearest, ties to even, as PyTorch does; NaN stays NaN.
inline void narrow(bfloat16* to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  to->bits = x != x ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace fewpairs
