// k-NN attention: what is handed over from outside, and the problem that is made of it if everything fits.
#pragma once

#include "problem.h"

namespace fewpairs {

struct KnnArguments {
  int64_t topk;
  float scale;
  int32_t threads;
  Tensor q, k, v, bias;  // [b h n d], [b h m d], [b h m e]; [#b #h n m] or none
  // Kept for the backward pass: lists [b h n topk], or the cut [b h n], or neither.
  Tensor index, weight, threshold, last, log_sum;
};

struct KnnGradientArguments {
  Tensor out, grad, dq, dk, dv;
  Tensor dbias;  // as bias, contiguous, or none
};

constexpr int64_t LONGEST_LIST = 1 << 15;  // keys that 16 bits can number

inline void read_arguments(const KnnArguments& a, KnnProblem& p, Checks& check) {
  const Tensor& q = a.q;
  p = {};
  p.b = q.size[0], p.h = q.size[1], p.n = q.size[2], p.d = q.size[3], p.m = a.k.size[2], p.e = a.v.size[3];
  p.topk = a.topk, p.scale = a.scale, p.threads = a.threads;
  check(a.threads > 0);
  check(is_number(q.type) && is_heads(q, q.type, p.b, p.h, p.n, p.d));
  check(is_heads(a.k, q.type, p.b, p.h, p.m, p.d));
  check(is_heads(a.v, q.type, p.b, p.h, p.m, p.e));
  check(p.topk >= 1 && p.topk <= p.m);
  check(is_absent(a.bias) || ((a.bias.type == single_type || a.bias.type == byte_type) &&
                              is_bias(a.bias, p.b, p.h, p.n, p.m) && side_by_side(a.bias)));
  const int64_t rows = product({p.b, p.h, p.n}), entries = product({p.b, p.h, p.n, p.topk});
  const bool lists = !is_absent(a.index), cuts = !is_absent(a.threshold);
  check(lists ? !cuts && p.m <= LONGEST_LIST && is_flat(a.index, short_type, entries) && is_flat(a.weight, single_type, entries)
              : is_absent(a.weight));
  check(cuts ? is_flat(a.threshold, single_type, rows) && is_flat(a.last, int_type, rows) &&
                   is_flat(a.log_sum, single_type, rows)
             : is_absent(a.last) && is_absent(a.log_sum));
  p.number = q.is_half() ? brain16 : float32;
  p.biased = is_absent(a.bias) ? unbiased : a.bias.type == single_type ? added : allowed;
  p.q = q, p.k = a.k, p.v = a.v, p.bias = a.bias;
  p.index = numbers<int16_t>(a.index), p.weight = numbers<float>(a.weight);
  p.threshold = numbers<float>(a.threshold), p.last = numbers<int32_t>(a.last), p.log_sum = numbers<float>(a.log_sum);
}

inline void check_result(const Tensor& out, const KnnProblem& p, Checks& check) {
  check(is_heads(out, p.q.type, p.b, p.h, p.n, p.e) && apart(out));
}

inline void read_gradients(const KnnArguments& a, const KnnGradientArguments& x, const KnnProblem& p, KnnGradients& g,
                           Checks& check) {
  const int32_t type = p.q.type;
  check(is_heads(x.grad, type, p.b, p.h, p.n, p.e));
  check(is_heads(x.dq, type, p.b, p.h, p.n, p.d) && apart(x.dq));
  check(is_heads(x.dk, type, p.b, p.h, p.m, p.d) && apart(x.dk));
  check(is_heads(x.dv, type, p.b, p.h, p.m, p.e) && apart(x.dv));
  const int64_t count = product({a.bias.size[0], a.bias.size[1], p.n, p.m});  // its steps are those of the bias
  check(is_absent(x.dbias) ||
        (p.biased == added && is_flat(a.bias, single_type, count) && is_flat(x.dbias, single_type, count)));
  check(p.index || p.threshold);
  g = {x.out, x.grad, x.dq, x.dk, x.dv, numbers<float>(x.dbias)};
}

// Whether a list names keys that there are; called when everything else fits.
inline bool names_keys(const KnnProblem& p) {
  if (!p.index) return true;
  const uint16_t* index = reinterpret_cast<const uint16_t*>(p.index);
  uint16_t most = 0;
  for (int64_t i = 0, count = p.b * p.h * p.n * p.topk; i < count; ++i) most = std::max(most, index[i]);
  return most < p.m;
}

}  // namespace fewpairs
