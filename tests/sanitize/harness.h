// What the fuzz drivers of all operators share: random shapes and layouts, memory without a spare byte, and the checks.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "../../src/fewpairs/ops/csrc/tensor.h"
#include "../../src/fewpairs/ops/csrc/vector.h"

namespace sanitize {

using fewpairs::bfloat16;

// Splitmix64: the same numbers everywhere for a seed.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    uint64_t x = state_ += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }
  bool chance(double share) { return static_cast<double>(bits() >> 11) * 0x1p-53 < share; }
  // About normal, of variance one.
  float normal() {
    double sum = 0;
    for (int i = 0; i < 6; ++i) sum += static_cast<double>(bits() >> 11) * 0x1p-53 - 0.5;
    return static_cast<float>(sum * std::sqrt(2.0));
  }
  template <class T>
  T of(std::initializer_list<T> values) { return values.begin()[below(static_cast<int64_t>(values.size()))]; }

 private:
  uint64_t state_;
};

// Lengths around the widths of vectors and blocks, and some beyond a block.
inline int64_t length(Random& random) {
  if (random.chance(0.05)) return random.of<int64_t>({385, 500, 1025, 1100});
  if (random.chance(0.2)) return 1 + random.below(200);
  return random.of<int64_t>({1, 2, 3, 5, 7, 8, 12, 15, 16, 17, 24, 31, 32, 33, 48, 49, 60, 61, 95, 96, 97, 196, 197});
}

inline int64_t width(Random& random) {
  return random.of<int64_t>({1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 128, 130});
}

// What the numbers of a tensor are like.
enum class Kind { normal, whole, constant, large, broken };

inline Kind kind(Random& random) {
  if (random.chance(0.1)) return Kind::broken;
  return random.of({Kind::normal, Kind::normal, Kind::whole, Kind::constant, Kind::large});
}

inline float number(Random& random, Kind kind) {
  switch (kind) {
    case Kind::whole: return static_cast<float>(random.below(5) - 2);  // many ties
    case Kind::constant: return 0.5f;
    case Kind::large: return 30 * random.normal();
    case Kind::broken: return random.chance(0.01) ? random.of({NAN, INFINITY, -INFINITY}) : random.normal();
    default: return random.normal();
  }
}

inline float wide(float x) { return x; }
inline float wide(bfloat16 x) { return fewpairs::widen(x); }
inline double wide(double x) { return x; }

// n numbers in memory of exactly their size, all of their bits ones: NaN.
template <class T>
class Memory {
 public:
  Memory() = default;
  explicit Memory(int64_t n) : count(n), at_(static_cast<T*>(std::malloc(static_cast<size_t>(n) * sizeof(T)))) {
    if (n) std::memset(static_cast<void*>(at_.get()), 0xFF, static_cast<size_t>(n) * sizeof(T));
  }
  T* get() const { return count ? at_.get() : nullptr; }
  T& operator[](int64_t i) const { return at_.get()[i]; }
  void clear() { if (count) std::memset(static_cast<void*>(at_.get()), 0, static_cast<size_t>(count) * sizeof(T)); }
  int64_t count = 0;

 private:
  struct Free {
    void operator()(T* x) const { std::free(x); }
  };
  std::unique_ptr<T, Free> at_;
};

// A tensor of four dimensions with steps, the last of which is one. Gaps between rows hold NaN.
template <class T>
struct Placed {
  int64_t size[4], step[4];
  Memory<T> memory;

  T& at(int64_t i, int64_t j, int64_t r, int64_t c) const {
    return memory[i * step[0] + j * step[1] + r * step[2] + c * step[3]];
  }
  template <class F>
  void each(F f) const {
    for (int64_t i = 0; i < size[0]; ++i)
      for (int64_t j = 0; j < size[1]; ++j)
        for (int64_t r = 0; r < size[2]; ++r)
          for (int64_t c = 0; c < size[3]; ++c) f(at(i, j, r, c));
  }
  void fill(Random& random, Kind kind) const {
    each([&](T& x) {
      if constexpr (std::is_floating_point_v<T>)
        x = static_cast<T>(number(random, kind));
      else
        fewpairs::narrow(&x, number(random, kind));
    });
  }
};

template <class T>
constexpr int32_t type_of() {
  if (std::is_same_v<T, float>) return fewpairs::single_type;
  if (std::is_same_v<T, bfloat16>) return fewpairs::half_type;
  if (std::is_same_v<T, double>) return fewpairs::double_type;
  if (std::is_same_v<T, int16_t>) return fewpairs::short_type;
  return std::is_same_v<T, int32_t> ? fewpairs::int_type : fewpairs::byte_type;
}

// As the kernels take it.
template <class T>
fewpairs::Tensor tensor(const Placed<T>& x) {
  fewpairs::Tensor y{static_cast<void*>(x.memory.get()), {}, {}, x.memory.count, type_of<T>()};
  for (int i = 0; i < 4; ++i) y.size[i] = x.size[i], y.step[i] = x.size[i] == 1 ? 0 : x.step[i];
  return y;
}

// Numbers in a row, of these sizes; none where there is no memory.
template <class T>
fewpairs::Tensor flat(const Memory<T>& x, std::initializer_list<int64_t> sizes) {
  fewpairs::Tensor y{};
  if (!x.count) return y;
  y = {static_cast<void*>(x.get()), {1, 1, 1, 1}, {}, x.count, type_of<T>()};
  std::copy(sizes.begin(), sizes.end(), y.size);
  for (int64_t i = 3, all = 1; i >= 0; all *= y.size[i], --i) y.step[i] = y.size[i] == 1 ? 0 : all;
  return y;
}

// Makes a tensor wrong in one way; returns in which, or nothing where this tensor cannot be.
inline std::string spoil(Random& random, fewpairs::Tensor& x) {
  const int64_t far = int64_t{1} << 62;
  const int i = static_cast<int>(random.below(4));
  switch (random.below(5)) {
    case 0: x.size[i] = random.of<int64_t>({x.size[i] + 1000, 0, -1, far}); return "size";
    case 1:
      if (x.size[i] == 1) return "";
      x.step[i] = random.of<int64_t>({-1, -far, x.room, far});
      return "step";
    case 2: {
      const int32_t before = x.type;
      x.type = random.of<int32_t>({-1, 0, 99, fewpairs::short_type, fewpairs::int_type});
      return x.type == before ? "" : "type";
    }
    case 3:
      if (fewpairs::bytes_of(x.type) == 1) return "";
      x.at = static_cast<char*>(x.at) + 1;
      return "address";
    default:
      int64_t last = 0;
      for (int j = 0; j < 4; ++j) last += (x.size[j] - 1) * x.step[j];
      x.room = random.of<int64_t>({last, 0, -1});
      return "room";
  }
}

[[noreturn]] inline void fail(const std::string& what, const std::string& which);

// Calls with arguments of which one is wrong; each must be refused, and touch nothing. `parts` names the tensors.
template <class A, class Parts, class Call>
void must_refuse(Random& random, const A& good, Parts parts, Call call, const std::string& which) {
  for (int i = 0; i < 6; ++i) {
    A wrong = good;
    const auto all = parts(wrong);
    const int64_t at = random.below(static_cast<int64_t>(all.size()));
    const std::string what = all[at]->at ? spoil(random, *all[at]) : "";
    if (!what.empty() && call(wrong) <= fewpairs::misfit)
      fail("a wrong " + what + " of tensor " + std::to_string(at) + " is not refused", which);
  }
}

// A result whose rows share memory, and one whose dimensions are exchanged.
template <class Call>
void must_refuse_overlap(Random& random, const fewpairs::Tensor& good, Call call, const std::string& which) {
  fewpairs::Tensor wrong = good;
  const int i = static_cast<int>(random.below(4));
  if (wrong.size[i] == 1) return;
  wrong.step[i] = 0;
  if (call(wrong) <= fewpairs::misfit) fail("a result that overlaps is not refused", which);
}

// `[b h n d]` in one of the orders that tensors come in. Several heads or images may share an input's memory.
template <class T>
Placed<T> placed(Random& random, int64_t b, int64_t h, int64_t n, int64_t d, bool input) {
  Placed<T> x{{b, h, n, d}, {h * n * d, n * d, d, 1}, Memory<T>()};
  const int64_t gap = 1 + random.below(9);
  switch (random.below(input ? 5 : 3)) {
    case 1:  // heads side by side
      x.step[0] = n * h * d, x.step[1] = d, x.step[2] = h * d;
      break;
    case 2:  // gaps after rows
      x.step[2] = d + gap, x.step[1] = n * x.step[2] + gap, x.step[0] = h * x.step[1];
      break;
    case 3: x.step[1] = 0, x.step[0] = n * d; break;
    case 4: x.step[0] = 0; break;
  }
  int64_t last = 1;
  for (int i = 0; i < 4; ++i) last += (x.size[i] - 1) * x.step[i];
  x.memory = Memory<T>(last);
  return x;
}

inline void fail(const std::string& what, const std::string& which) {
  std::fprintf(stderr, "%s, in the case %s\n", what.c_str(), which.c_str());
  std::exit(1);
}

// Every number was written, and none is NaN.
template <class T>
void check_written(const Placed<T>& x, const char* name, const std::string& which) {
  x.each([&](T& y) {
    if (std::isnan(wide(y))) fail(std::string(name) + " holds NaN", which);
  });
}

template <class T>
void check_written(const Memory<T>& x, const char* name, const std::string& which) {
  for (int64_t i = 0; i < x.count; ++i)
    if (std::isnan(wide(x[i]))) fail(std::string(name) + " holds NaN", which);
}

// Two runs left the same bits.
template <class T>
void check_same(const Memory<T>& x, const Memory<T>& y, const char* name, const std::string& which) {
  if (x.count && std::memcmp(static_cast<void*>(x.get()), static_cast<void*>(y.get()), sizeof(T) * static_cast<size_t>(x.count)))
    fail(std::string(name) + " depends on the number of threads", which);
}

// Calls test(random, name of the case) as often as the first argument says; the second one is the seed.
template <class F>
int drive(const char* name, int argc, char** argv, F test) {
  const long cases = argc > 1 ? std::atol(argv[1]) : 200;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  for (long i = 0; i < cases; ++i) {
    Random random(seed * 1000003u + static_cast<uint64_t>(i));
    test(random, std::to_string(i) + " of seed " + std::to_string(seed));
  }
  std::printf("%s: %ld cases without a finding\n", name, cases);
  return 0;
}

}  // namespace sanitize
