// Which keys a row of scores keeps: exactly the k largest, of equal ones those of the lowest index, never one of -inf.
//
// Nothing is sorted. Where the k-th value lies is guessed from the row's mean and variance, as if the scores were
// normal, and corrected by counting how many lie above the guess, until the keys above it are few more than k. These
// are compressed into a list, and the search ends on the list. Any number that has exactly k scores above it will do as
// a threshold; only where scores are equal is the k-th value itself needed.
#pragma once

#include <cmath>

#include "../../csrc/vector.h"

namespace fewpairs {

// Kept are the scores above `threshold`, and those equal to it up to the key index `last`.
struct Cut {
  float threshold;
  int32_t last;
};

// Keys of a row, in ascending order, with their scores; room for m numbers and a vector more each.
struct List {
  int32_t* index;
  float* score;
  int64_t count;
};

enum class Row { ordinary, broken };

inline int32_t ordered(float x) {
  int32_t i;
  std::memcpy(&i, &x, 4);
  return i < 0 ? i ^ 0x7fffffff : i;
}

inline float unordered(int32_t i) {
  i = i < 0 ? i ^ 0x7fffffff : i;
  float x;
  std::memcpy(&x, &i, 4);
  return x;
}

// The number half way between two in the order of floats, above `lo`.
inline float between(float lo, float hi) {
  const int64_t a = ordered(lo), b = ordered(hi);
  return unordered(static_cast<int32_t>(a + (b - a + 1) / 2));
}

inline bool neighbours(float lo, float hi) { return static_cast<int64_t>(ordered(hi)) - ordered(lo) <= 1; }

// How many of `vecs` vectors' numbers are >= t.
inline int64_t count_from(const float* x, int64_t vecs, float t) {
  const Vec wide = splat(t);
  IVec counts[4] = {};
  int64_t v = 0;
  for (; v + 4 <= vecs; v += 4)
    for (int i = 0; i < 4; ++i) counts[i] = count_from(counts[i], load(x + (v + i) * W), wide);
  for (; v < vecs; ++v) counts[0] = count_from(counts[0], load(x + v * W), wide);
  return sum((counts[0] + counts[1]) + (counts[2] + counts[3]));
}

// The point above which the share p of a standard normal distribution lies, to three digits (Abramowitz and Stegun,
// Handbook of Mathematical Functions, 26.2.23); p from 0 to 1.
inline float normal_quantile(float p) {
  const bool upper = p <= 0.5f;
  const float t = std::sqrt(-2.0f * std::log(std::fmax(upper ? p : 1 - p, 1e-12f)));
  const float z = t - (2.515517f + t * (0.802853f + t * 0.010328f)) /
                          (1 + t * (1.432788f + t * (0.189269f + t * 0.001308f)));
  return upper ? z : -z;
}

struct Statistics {
  float least, most, mean, spread;
  int64_t valid;  // numbers above -inf
  Row row;
};

// Of rows that hold -inf, +inf or NaN, or numbers whose squares are beyond a float: the same over what is above -inf.
// The last vector reads what follows the row, which is -inf.
inline Statistics careful_statistics(const float* x, int64_t m) {
  Vec least = splat(INF), most = splat(-INF), total = {}, squares = {};
  IVec valid = {}, broken = {};
  for (int64_t c = 0; c < m; c += W) {
    const Vec y = load(x + c);
    const IVec in = y > splat(-INF);
    const Vec finite = select(in, y, Vec{});
    broken |= ~(y < splat(INF));
    valid -= in;
    least = minimum(least, select(in, y, splat(INF)));
    most = maximum(most, y);
    total += finite;
    squares += finite * finite;
  }
  Statistics found{lowest(least), highest(most), 0, 0, sum(valid), bits(broken) ? Row::broken : Row::ordinary};
  if (found.valid) {
    const float count = static_cast<float>(found.valid);
    found.mean = sum(total) / count;
    found.spread = std::sqrt(std::fmax(sum(squares) / count - found.mean * found.mean, 0.0f));
  }
  return found;
}

inline Statistics statistics(const float* x, int64_t m) {
  Vec least[2], most[2], total[2] = {}, squares[2] = {};
  for (int i = 0; i < 2; ++i) least[i] = most[i] = splat(x[0]);
  const auto take = [&](Vec y, int i) {
    least[i] = minimum(least[i], y);
    most[i] = maximum(most[i], y);
    total[i] += y;
    squares[i] += y * y;
  };
  int64_t c = 0;
  for (; c + 2 * W <= m; c += 2 * W) {
    take(load(x + c), 0);
    take(load(x + c + W), 1);
  }
  for (; c + W <= m; c += W) take(load(x + c), 0);
  int64_t extra = 0;
  if (c < m) {
    take(load_part(x + c, static_cast<int>(m - c), x[0]), 1);
    extra = W - (m - c);
  }
  const float all = sum(squares[0] + squares[1]);
  if (!(all < INF)) return careful_statistics(x, m);
  const float count = static_cast<float>(m + extra), mean = sum(total[0] + total[1]) / count;
  return {lowest(minimum(least[0], least[1])), highest(maximum(most[0], most[1])), mean,
          std::sqrt(std::fmax(all / count - mean * mean, 0.0f)), m, Row::ordinary};
}

// A threshold and what is known of it: `above` numbers are >= value.
struct Bound {
  float value;
  int64_t above;
};

// Narrows [lo, hi) until at most `enough` numbers are >= lo, or no number lies between; lo.above >= k > hi.above. The
// first steps go from `guess` by the density that the numbers are thought to have there, later ones by interpolation
// between the bounds; every third halves what is left, whatever the distribution.
inline void narrow(const float* x, int64_t vecs, int64_t k, int64_t enough, Bound& lo, Bound& hi, float guess,
                   float density) {
  const float aim = 0.5f * static_cast<float>(k + enough);
  bool below = false, beyond = false;  // whether a bound was counted here
  for (int step = 0; lo.above > enough && !neighbours(lo.value, hi.value); ++step) {
    if (!(guess > lo.value && guess < hi.value)) guess = between(lo.value, hi.value);
    const int64_t above = count_from(x, vecs, guess);
    if (above >= k)
      lo = {guess, above}, below = true;
    else
      hi = {guess, above}, beyond = true;
    if (step % 3 == 2)
      guess = between(lo.value, hi.value);
    else if (density > 0 && !(below && beyond))
      guess -= (aim - static_cast<float>(above)) / density;
    else
      guess = lo.value + (hi.value - lo.value) * ((static_cast<float>(lo.above) - aim + 0.5f) /
                                                  static_cast<float>(lo.above - hi.above));
  }
}

// The keys with scores >= t. The list's scores may lie where x does.
inline void gather_from(const float* x, int64_t vecs, float t, bool sparse, List& list) {
  const Vec wide = splat(t);
  IVec index = iota();
  int64_t n = 0;
  for (int64_t v = 0; v < vecs; ++v, index += W) {
    const Vec y = load(x + v * W);
    const uint32_t chosen = lanes_from(y, wide);
    const int count = __builtin_popcount(chosen);
    if (sparse && count <= 4) {
      compress<true>(list.score + n, y, chosen);
      compress<true>(list.index + n, index, chosen);
    } else {
      compress(list.score + n, y, chosen);
      compress(list.index + n, index, chosen);
    }
    n += count;
  }
  list.count = n;
}

// Leaves out of a list what lies beyond the cut.
inline void trim(List& list, Cut cut) {
  const Vec wide = splat(cut.threshold);
  const IVec last = splat(cut.last);
  const int64_t count = list.count;
  int64_t n = 0;
  for (int64_t c = 0; c < count; c += W) {
    const Vec y = load(list.score + c);
    IVec index;
    std::memcpy(&index, list.index + c, sizeof index);
    uint32_t chosen = bits((y > wide) | ((y == wide) & (index <= last)));
    if (count - c < W) chosen &= (1u << (count - c)) - 1;
    compress(list.score + n, y, chosen);
    compress(list.index + n, index, chosen);
    n += __builtin_popcount(chosen);
  }
  list.count = n;
}

// Pads a list's scores with -inf up to a whole vector, so that they can be counted.
inline int64_t close(List& list) {
  store(list.score + list.count, splat(-INF));
  return (list.count + W - 1) / W;
}

// How many keys of a row are wanted, and what follows from it for rows of ordinary scores.
struct Wanted {
  int64_t k;
  int64_t enough;  // so many keys are few enough to be compressed
  float quantile;  // where, in standard deviations from the mean, a normal distribution has `aim` keys above
  float height;    // its density there

  Wanted(int64_t k_, int64_t valid) : k(k_) {
    const float share = static_cast<float>(k) / static_cast<float>(valid);
    const float doubt = std::sqrt(static_cast<float>(k) * (1 - share));
    enough = few(valid) ? k + 2 * W + static_cast<int64_t>(3 * doubt) : k;
    quantile = normal_quantile(0.5f * static_cast<float>(k + enough) / static_cast<float>(valid));
    height = 0.39894228f * std::exp(-0.5f * quantile * quantile);
  }

  bool few(int64_t valid) const { return 4 * k <= valid; }
};

// The k largest of a row of m scores, which is followed by -inf up to a whole vector: the cut, the list and the largest
// score; or Row::broken where a score is NaN or +inf. `wanted` is for m scores. The list's scores may lie where x does.
inline Row select(const float* x, int64_t m, const Wanted& ordinary, List& list, Cut& cut, float& most) {
  const Statistics found = statistics(x, m);
  const int64_t k = ordinary.k, vecs = (m + W - 1) / W;
  list.count = 0;
  most = found.most;
  cut = {-std::numeric_limits<float>::max(), static_cast<int32_t>(m)};
  if (found.row == Row::broken) return Row::broken;
  if (found.valid <= k) {
    gather_from(x, vecs, cut.threshold, false, list);
    return Row::ordinary;
  }
  const Wanted wanted = found.valid == m ? ordinary : Wanted(k, found.valid);
  Bound lo{found.least, found.valid}, hi{unordered(ordered(found.most) + 1), 0};
  const float density = static_cast<float>(found.valid) * wanted.height / found.spread;
  narrow(x, vecs, k, wanted.enough, lo, hi, found.mean + found.spread * wanted.quantile, density < INF ? density : 0);
  gather_from(x, vecs, lo.value, 16 * k <= m * 2, list);
  if (lo.above > k) {
    const int64_t few = close(list);
    const float share = static_cast<float>(lo.above - k) / static_cast<float>(lo.above - hi.above);
    narrow(list.score, few, k, k, lo, hi, lo.value + (hi.value - lo.value) * share, 0);
  }
  cut.threshold = lo.value;
  if (lo.above > k) {  // scores equal to the threshold are too many: the first ones stay
    int64_t wanted_ties = k - hi.above;
    for (int64_t c = 0; c < list.count; ++c)
      if (list.score[c] == lo.value && --wanted_ties == 0) {
        cut.last = list.index[c];
        break;
      }
  }
  if (list.count > k) trim(list, cut);
  return Row::ordinary;
}

// The same list once more, from the cut.
inline void reselect(const float* x, int64_t m, Cut cut, List& list) {
  gather_from(x, (m + W - 1) / W, cut.threshold, false, list);
  if (cut.last < m) trim(list, cut);
}

}  // namespace fewpairs
