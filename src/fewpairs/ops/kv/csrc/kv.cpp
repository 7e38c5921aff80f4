// Key-value attention on the CPU: the two functions that are called from outside.
#include "arguments.h"
#include "backward.h"
#include "forward.h"

extern "C" int fewpairs_kv_forward(const fewpairs::KvArguments* arguments, const fewpairs::Tensor* out) {
  using namespace fewpairs;
  KvProblem problem;
  Checks check;
  read_arguments(*arguments, problem, check);
  check_result(*out, problem, check);
  if (check.status()) return check.status();
  return problem.is_half ? forward<bfloat16>(problem, *out) : forward<float>(problem, *out);
}

extern "C" int fewpairs_kv_backward(const fewpairs::KvArguments* arguments,
                                    const fewpairs::KvGradientArguments* results) {
  using namespace fewpairs;
  KvProblem problem;
  KvGradients gradients;
  Checks check;
  read_arguments(*arguments, problem, check);
  check_result(results->out, problem, check);
  read_gradients(*arguments, *results, problem, gradients, check);
  if (check.status()) return check.status();
  return problem.is_half ? backward<bfloat16>(problem, gradients) : backward<float>(problem, gradients);
}
