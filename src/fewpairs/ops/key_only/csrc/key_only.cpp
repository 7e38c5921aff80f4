// Key-only attention on the CPU: weights from the keys' saliency, one pooled value a head, and each position's gate.
//
//     s_n = k_n . w    pooled = sum_n softmax_n(s)_n v_n    out_n = sigmoid(gate_n) pooled
//
// Memory-bound: forward reads keys and values once and the gate once more, last stretch first, since that is what the
// caches still hold. Backward takes the sum of grad * sigmoid(gate), then everything else in one pass. A head is cut
// into segments by its shape alone; each has its own running maximum, and they are joined in order: the bits do not
// depend on the number of threads. A head of one segment is read from memory once.
#include "arguments.h"
#include "backward.h"
#include "forward.h"

extern "C" int fewpairs_key_only_forward(const fewpairs::KeyOnlyArguments* arguments, const fewpairs::Tensor* out) {
  using namespace fewpairs;
  KeyOnlyProblem problem;
  Checks check;
  read_arguments(*arguments, problem, check);
  check(is_result(*out, problem));
  return check.status() ? check.status() : forward(problem, *out);
}

extern "C" int fewpairs_key_only_backward(const fewpairs::KeyOnlyArguments* arguments,
                                          const fewpairs::KeyOnlyGradientArguments* results) {
  using namespace fewpairs;
  KeyOnlyProblem problem;
  KeyOnlyGradients gradients;
  Checks check;
  read_arguments(*arguments, problem, check);
  read_gradients(*results, problem, gradients, check);
  return check.status() ? check.status() : backward(problem, gradients);
}
