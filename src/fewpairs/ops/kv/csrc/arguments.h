// Key-value attention: what is handed over from outside, and the problem that is made of it if everything fits.
#pragma once

#include "heads.h"

namespace fewpairs {

struct KvArguments {
  double scale;
  int32_t threads;
  // k [b h n d], v [b h n e]; or none: gain [h], key_bias [n] or [h n] ([1 n] and [h n]), bias [#b #h n n].
  Tensor k, v, gain, key_bias, bias;
  Tensor highest, totals;  // [b h n]
};

struct KvGradientArguments {
  Tensor out, grad, dk, dv;
  Tensor dgain, dkey_bias, dbias;  // or none: [b h], as key_bias, as bias
};

inline void read_arguments(const KvArguments& a, KvProblem& p, Checks& check) {
  const Tensor& k = a.k;
  p = {};
  p.b = k.size[0], p.h = k.size[1], p.n = k.size[2], p.d = k.size[3], p.e = a.v.size[3];
  check(a.threads > 0);
  check(is_number(k.type) && is_heads(k, k.type, p.b, p.h, p.n, p.d));
  check(is_heads(a.v, k.type, p.b, p.h, p.n, p.e));
  check(is_absent(a.gain) || is_flat(a.gain, single_type, p.h));
  const int64_t lines = a.key_bias.size[0];
  check(is_absent(a.key_bias) || ((lines == 1 || lines == p.h) && a.key_bias.size[1] == p.n &&
                                  is_flat(a.key_bias, single_type, product({lines, p.n}))));
  const int32_t kind = a.bias.type;
  check(is_absent(a.bias) || ((kind == byte_type || is_number(kind)) && is_bias(a.bias, p.b, p.h, p.n, p.n)));
  check(is_flat(a.highest, single_type, product({p.b, p.h, p.n})));
  check(is_flat(a.totals, single_type, product({p.b, p.h, p.n})));
  p.scale = a.scale, p.threads = a.threads, p.is_half = k.is_half();
  p.bias_kind = is_absent(a.bias)   ? Bias::none
                : kind == byte_type ? Bias::mask
                : kind == half_type ? Bias::half
                                    : Bias::single;
  p.gain = numbers<float>(a.gain), p.key_bias = numbers<float>(a.key_bias), p.key_bias_step = lines > 1 ? p.n : 0;
  p.k = k, p.v = a.v, p.bias = a.bias;
  p.highest = numbers<float>(a.highest), p.totals = numbers<float>(a.totals);
}

inline void check_result(const Tensor& out, const KvProblem& p, Checks& check) {
  check(is_heads(out, p.k.type, p.b, p.h, p.n, p.e) && apart(out));
}

inline void read_gradients(const KvArguments& a, const KvGradientArguments& x, const KvProblem& p, KvGradients& g,
                           Checks& check) {
  const int32_t type = p.k.type;
  check(is_heads(x.grad, type, p.b, p.h, p.n, p.e));
  check(is_heads(x.dk, type, p.b, p.h, p.n, p.d) && apart(x.dk));
  check(is_heads(x.dv, type, p.b, p.h, p.n, p.e) && apart(x.dv));
  check(is_absent(x.dgain) || (p.gain && is_flat(x.dgain, double_type, product({p.b, p.h}))));
  check(is_absent(x.dkey_bias) ||
        (p.key_bias && is_flat(x.dkey_bias, double_type, product({p.key_bias_step ? p.h : 1, p.n}))));
  check(is_absent(x.dbias) ||
        (p.bias_kind > Bias::mask && is_flat(x.dbias, single_type, product({a.bias.size[0], a.bias.size[1], p.n, p.n}))));
  g = {x.out, x.grad, x.dk, x.dv, numbers<double>(x.dgain), numbers<double>(x.dkey_bias), numbers<float>(x.dbias),
       is_absent(a.bias) ? 1 : a.bias.size[0], is_absent(a.bias) ? 1 : a.bias.size[1]};
}

}  // namespace fewpairs
