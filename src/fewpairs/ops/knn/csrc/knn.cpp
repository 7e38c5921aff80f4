// k-NN attention on a CPU: exact, forward and backward, no tensor of n x m numbers.
//
// A block of rows of scores is made while it fits into cache, each row cut to its k best keys (select.h), and from there
// on only these are touched (rows.h). The specification is `fewpairs.ops.knn.reference`.
//
// The backward pass needs each row's keys and weights. Either the forward pass kept them as lists, or, where these would
// be large, it kept the cut and the logarithm of the softmax's sum, and the scores are made again: bit for bit the same.

#include "arguments.h"
#include "backward.h"
#include "forward.h"

extern "C" int fewpairs_knn_forward(const fewpairs::KnnArguments* arguments, const fewpairs::Tensor* out) {
  using namespace fewpairs;
  KnnProblem problem;
  Checks check;
  read_arguments(*arguments, problem, check);
  check_result(*out, problem, check);
  if (check.status()) return check.status();
  return problem.number == brain16 ? forward<bfloat16>(problem, *out) : forward<float>(problem, *out);
}

extern "C" int fewpairs_knn_backward(const fewpairs::KnnArguments* arguments,
                                     const fewpairs::KnnGradientArguments* results) {
  using namespace fewpairs;
  KnnProblem problem;
  KnnGradients gradients;
  Checks check;
  read_arguments(*arguments, problem, check);
  check_result(results->out, problem, check);
  read_gradients(*arguments, *results, problem, gradients, check);
  if (!check.status()) check(names_keys(problem));
  if (check.status()) return check.status();
  return problem.number == brain16 ? Backward<bfloat16>(problem, gradients).run()
                                   : Backward<float>(problem, gradients).run();
}
