// Key-only attention: what is handed over from outside, and the problem that is made of it if everything fits.
#pragma once

#include "plan.h"

namespace fewpairs {

struct KeyOnlyArguments {
  int32_t kind, threads;
  Tensor k;         // [b h n d], or none where neither the logits nor the gate are made of it
  Tensor v, gate;   // [b h n d]
  Tensor saliency;  // [1 h 1 d], [b h n 1] or [b h n d], as `kind` says
  Tensor mask;      // bytes [b h n 1], or none
  Tensor pooled;    // [b h d]
  Tensor log_sum;   // doubles [b h], or [b h d] for logits of each channel
};

struct KeyOnlyGradientArguments {
  Tensor grad, dk, dv, dgate, dlogits, dvector;
  int32_t gate_is_key;
};

inline bool is_saliency(const Tensor& x, const KeyOnlyProblem& p) {
  if (!is_number(x.type) || !inside(x)) return false;
  if (p.kind == vector) return has_sizes(x, 1, p.h, 1, p.d);
  return has_sizes(x, p.b, p.h, p.n, p.kind == channels ? p.d : 1) && (p.kind == logits || side_by_side(x));
}

inline void read_arguments(const KeyOnlyArguments& a, KeyOnlyProblem& p, Checks& check) {
  const Tensor& v = a.v;
  p = {};
  p.b = v.size[0], p.h = v.size[1], p.n = v.size[2], p.d = v.size[3], p.kind = a.kind, p.threads = a.threads;
  check(a.threads > 0);
  check(a.kind >= vector && a.kind <= channels);
  check(is_number(v.type) && is_heads(v, v.type, p.b, p.h, p.n, p.d));
  check(is_absent(a.k) ? a.kind != vector : is_heads(a.k, v.type, p.b, p.h, p.n, p.d));
  check(is_heads(a.gate, v.type, p.b, p.h, p.n, p.d));
  check(is_saliency(a.saliency, p));
  check(is_absent(a.mask) || (inside(a.mask) && a.mask.type == byte_type && has_sizes(a.mask, p.b, p.h, p.n, 1)));
  check(is_flat(a.pooled, single_type, product({p.b, p.h, p.d})));
  check(is_flat(a.log_sum, double_type, product({p.b, p.h, p.kind == channels ? p.d : 1})));
  p.k = a.k, p.v = v, p.gate = a.gate, p.saliency = a.saliency, p.mask = a.mask;
  p.pooled = numbers<float>(a.pooled), p.log_sum = numbers<double>(a.log_sum);
}

inline bool is_result(const Tensor& x, const KeyOnlyProblem& p) {
  return is_heads(x, p.v.type, p.b, p.h, p.n, p.d) && apart(x);
}

inline void read_gradients(const KeyOnlyGradientArguments& x, const KeyOnlyProblem& p, KeyOnlyGradients& g,
                           Checks& check) {
  check(is_heads(x.grad, p.v.type, p.b, p.h, p.n, p.d));
  check(is_absent(p.k) ? is_absent(x.dk) && !x.gate_is_key : is_result(x.dk, p));
  check(is_result(x.dv, p));
  check(x.gate_is_key ? is_absent(x.dgate) : is_result(x.dgate, p));
  check(p.kind == vector ? is_absent(x.dlogits)
                         : x.dlogits.type == p.saliency.type && is_saliency(x.dlogits, p) && apart(x.dlogits));
  check(p.kind == vector ? is_flat(x.dvector, double_type, product({p.h, p.d})) : is_absent(x.dvector));
  g = {x.grad, x.dk, x.dv, x.dgate, x.dlogits, numbers<double>(x.dvector), x.gate_is_key};
}

}  // namespace fewpairs
