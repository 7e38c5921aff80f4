// Key-value attention on the CPU: the two functions that are called from outside.
#include "backward.h"
#include "forward.h"

extern "C" int latchkey_kv_forward(const latchkey::KvProblem* problem, const latchkey::KvTensor* out) {
  using namespace latchkey;
  return problem->is_half ? forward<bfloat16>(*problem, *out) : forward<float>(*problem, *out);
}

extern "C" int latchkey_kv_backward(const latchkey::KvProblem* problem, const latchkey::KvGradients* gradients) {
  using namespace latchkey;
  return problem->is_half ? backward<bfloat16>(*problem, *gradients) : backward<float>(*problem, *gradients);
}
