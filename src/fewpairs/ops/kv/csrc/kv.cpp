// Key-value attention on the CPU: the two functions that are called from outside.
#include "backward.h"
#include "forward.h"

extern "C" int fewpairs_kv_forward(const fewpairs::KvProblem* problem, const fewpairs::Tensor* out) {
  using namespace fewpairs;
  return problem->is_half ? forward<bfloat16>(*problem, *out) : forward<float>(*problem, *out);
}

extern "C" int fewpairs_kv_backward(const fewpairs::KvProblem* problem, const fewpairs::KvGradients* gradients) {
  using namespace fewpairs;
  return problem->is_half ? backward<bfloat16>(*problem, *gradients) : backward<float>(*problem, *gradients);
}
