// A tensor as `ops/native/layout.py` hands it over, and the checks that are made before one is touched: sizes come from
// the tensors themselves, and what does not fit is refused by a status, never read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

namespace fewpairs {

enum Type : int32_t { no_type, single_type, half_type, byte_type, double_type, short_type, int_type };

struct Tensor {
  void* at;         // null where there is none
  int64_t size[4];  // images, heads, rows and columns; 1 where there is no such dimension
  int64_t step[4];  // how many numbers apart they lie; 0 where one is shared
  int64_t room;     // numbers from `at` to the end of the memory
  int32_t type;
  bool is_half() const { return type == half_type; }
};

constexpr int misfit = 16;  // a status of misfit + i: the i-th check failed, from 1 on

// The checks of one call, in order. None may touch memory, for all are made.
class Checks {
 public:
  void operator()(bool fits) {
    ++count_;
    if (!fits && !failed_) failed_ = count_;
  }
  int status() const { return failed_ ? misfit + failed_ : 0; }

 private:
  int count_ = 0, failed_ = 0;
};

inline int64_t bytes_of(int32_t type) {
  constexpr int64_t BYTES[] = {0, 4, 2, 1, 8, 2, 4};
  return type > no_type && type <= int_type ? BYTES[type] : 0;
}

// Whether all numbers lie within the memory, and there is one at least.
inline bool inside(const Tensor& x) {
  const int64_t bytes = bytes_of(x.type);
  if (!x.at || !bytes || reinterpret_cast<uintptr_t>(x.at) % static_cast<uintptr_t>(bytes)) return false;
  int64_t last = 0, far;
  for (int i = 0; i < 4; ++i) {
    if (x.size[i] < 1 || x.step[i] < 0 || __builtin_mul_overflow(x.size[i] - 1, x.step[i], &far)) return false;
    if (__builtin_add_overflow(last, far, &last)) return false;
  }
  return last < x.room;
}

inline bool has_sizes(const Tensor& x, int64_t b, int64_t h, int64_t n, int64_t d) {
  return x.size[0] == b && x.size[1] == h && x.size[2] == n && x.size[3] == d;
}

inline bool side_by_side(const Tensor& x) { return x.size[3] == 1 || x.step[3] == 1; }

// Heads `[b h n d]` of which the columns lie side by side.
inline bool is_heads(const Tensor& x, int32_t type, int64_t b, int64_t h, int64_t n, int64_t d) {
  return inside(x) && x.type == type && has_sizes(x, b, h, n, d) && side_by_side(x);
}

inline bool is_number(int32_t type) { return type == single_type || type == half_type; }

// Whether no two numbers of a tensor that is written have one place.
inline bool apart(const Tensor& x) {
  int order[] = {0, 1, 2, 3};
  std::sort(order, order + 4, [&](int i, int j) { return x.step[i] < x.step[j]; });
  int64_t reach = 0;
  for (int i : order) {
    if (x.size[i] == 1) continue;
    if (x.step[i] <= reach) return false;
    reach += (x.size[i] - 1) * x.step[i];
  }
  return true;
}

// How many numbers tensors of these sizes have; -1, which nothing has, if no memory could.
inline int64_t product(std::initializer_list<int64_t> sizes) {
  int64_t all = 1;
  for (int64_t size : sizes)
    if (size < 0 || __builtin_mul_overflow(all, size, &all)) return -1;
  return all;
}

// `count` numbers in a row, whatever the dimensions.
inline bool is_flat(const Tensor& x, int32_t type, int64_t count) {
  if (!inside(x) || x.type != type) return false;
  int64_t all = 1;
  for (int i = 3; i >= 0; --i) {
    if (x.size[i] > 1 && x.step[i] != all) return false;
    if (__builtin_mul_overflow(all, x.size[i], &all)) return false;
  }
  return all == count;
}

inline bool is_absent(const Tensor& x) { return !x.at; }

// A bias of pairs, `[b h n m]` with 1 for b or h where it is shared.
inline bool is_bias(const Tensor& x, int64_t b, int64_t h, int64_t n, int64_t m) {
  return inside(x) && (x.size[0] == 1 || x.size[0] == b) && (x.size[1] == 1 || x.size[1] == h) && x.size[2] == n &&
         x.size[3] == m;
}

template <class T>
T* numbers(const Tensor& x) {
  return static_cast<T*>(x.at);
}

}  // namespace fewpairs
