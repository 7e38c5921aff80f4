// A tensor as `ops/native/layout.py` hands it over.
#pragma once

#include <cstdint>

namespace fewpairs {

struct Tensor {
  void* at;         // null where there is none
  int64_t step[4];  // how many numbers apart images, heads, rows and columns lie; 0 where one is shared
  int32_t is_half;
};

}  // namespace fewpairs
