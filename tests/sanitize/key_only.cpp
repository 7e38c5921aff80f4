// Key-only attention on random arguments.

#include "../../src/fewpairs/ops/key_only/csrc/key_only.cpp"
#include "harness.h"

using namespace sanitize;

namespace {

// What one run wrote. T: of keys and values, S: of the saliency.
template <class T, class S>
struct Results {
  Placed<T> out, dk, dv, dgate;
  Placed<S> dlogits;
  Memory<float> pooled;
  Memory<double> log_sum, dvector;
};

template <class T, class S>
struct Case {
  int64_t b, h, n, d;
  int32_t kind;
  bool gated, masked, backward;
  Placed<T> k, v, gate, grad;
  Placed<S> saliency;
  Placed<uint8_t> mask;

  // Keys that are neither direction nor gate are not handed over.
  bool keyed() const { return kind == fewpairs::vector || !gated; }

  // `wrong`: arguments that do not fit are tried first.
  Results<T, S> run(uint64_t layout, int threads, const std::string& which, Random* wrong = nullptr) {
    Random random(layout);  // the same layouts in every run
    Results<T, S> to{placed<T>(random, b, h, n, d, false), placed<T>(random, b, h, n, d, false),
                     placed<T>(random, b, h, n, d, false), placed<T>(random, b, h, n, d, false)};
    to.pooled = Memory<float>(b * h * d), to.log_sum = Memory<double>(b * h * (kind == fewpairs::channels ? d : 1));
    fewpairs::KeyOnlyArguments p{};
    p.kind = kind, p.threads = threads;
    if (keyed()) p.k = tensor(k);
    p.v = tensor(v), p.gate = tensor(gated ? gate : k), p.saliency = tensor(saliency);
    if (masked) p.mask = tensor(mask);
    p.pooled = flat(to.pooled, {b, h, d}), p.log_sum = flat(to.log_sum, {b, h, kind == fewpairs::channels ? d : 1});
    const fewpairs::Tensor out = tensor(to.out);
    using Parts = std::vector<fewpairs::Tensor*>;
    const auto parts = [](fewpairs::KeyOnlyArguments& a) {
      return Parts{&a.k, &a.v, &a.gate, &a.saliency, &a.mask, &a.pooled, &a.log_sum};
    };
    if (wrong) {
      must_refuse(*wrong, p, parts, [&](const auto& a) { return fewpairs_key_only_forward(&a, &out); }, which);
      const auto write = [&](const fewpairs::Tensor& a) { return fewpairs_key_only_forward(&p, &a); };
      must_refuse(*wrong, out, [](fewpairs::Tensor& a) { return Parts{&a}; }, write, which);
      must_refuse_overlap(*wrong, out, write, which);
      fewpairs::KeyOnlyArguments a = p;
      a.kind = wrong->of<int32_t>({-1, 3, 99});
      if (fewpairs_key_only_forward(&a, &out) <= fewpairs::misfit) fail("a wrong kind is not refused", which);
    }
    if (fewpairs_key_only_forward(&p, &out)) fail("the forward pass fails", which);
    if (!backward) return to;
    fewpairs::KeyOnlyGradientArguments g{};
    g.grad = tensor(grad), g.dv = tensor(to.dv), g.gate_is_key = !gated;
    if (keyed()) g.dk = tensor(to.dk);
    if (gated) g.dgate = tensor(to.dgate);
    if (kind == fewpairs::vector) {
      to.dvector = Memory<double>(h * d), to.dvector.clear();
      g.dvector = flat(to.dvector, {h, d});
    } else {
      to.dlogits = placed<S>(random, b, h, n, kind == fewpairs::channels ? d : 1, false);
      g.dlogits = tensor(to.dlogits);
    }
    if (wrong) {
      const auto results = [](fewpairs::KeyOnlyGradientArguments& a) {
        return Parts{&a.grad, &a.dk, &a.dv, &a.dgate, &a.dlogits, &a.dvector};
      };
      must_refuse(*wrong, p, parts, [&](const auto& a) { return fewpairs_key_only_backward(&a, &g); }, which);
      must_refuse(*wrong, g, results, [&](const auto& a) { return fewpairs_key_only_backward(&p, &a); }, which);
    }
    if (fewpairs_key_only_backward(&p, &g)) fail("the backward pass fails", which);
    return to;
  }
};

template <class T, class S>
void test(Random& random, const std::string& which) {
  const Kind like = kind(random);
  Case<T, S> x{};
  x.b = 1 + random.below(2), x.h = random.of<int64_t>({1, 2, 3, 17}), x.n = length(random), x.d = width(random);
  if (random.chance(0.1)) x.n = 1 + random.below(8000);  // several segments
  if (random.chance(0.01)) x.b = 1, x.h = 2, x.n = 1 << 15, x.d = 64;  // written past the caches
  x.kind = static_cast<int32_t>(random.below(3));
  x.gated = random.chance(0.5), x.masked = random.chance(0.4), x.backward = random.chance(0.8);
  x.k = placed<T>(random, x.b, x.h, x.n, x.d, true), x.v = placed<T>(random, x.b, x.h, x.n, x.d, true);
  x.gate = placed<T>(random, x.b, x.h, x.n, x.d, true), x.grad = placed<T>(random, x.b, x.h, x.n, x.d, true);
  x.k.fill(random, like), x.gate.fill(random, like);
  x.v.fill(random, Kind::normal), x.grad.fill(random, Kind::normal);
  if (x.kind == fewpairs::vector) {
    const int64_t apart = 1 + random.below(3);
    x.saliency = {{1, x.h, 1, x.d}, {0, x.d * apart, 0, apart}, Memory<S>(x.h * x.d * apart)};
  } else {
    x.saliency = placed<S>(random, x.b, x.h, x.n, x.kind == fewpairs::channels ? x.d : 1, true);
  }
  x.saliency.fill(random, like);
  if (x.masked) {
    x.mask = placed<uint8_t>(random, x.b, x.h, x.n, 1, true);
    const double open = random.of({0.0, 0.02, 0.5, 0.9});
    x.mask.each([&](uint8_t& y) { y = random.chance(open); });
  }
  const uint64_t layout = random.bits();
  const Results<T, S> one = x.run(layout, 1, which, &random), more = x.run(layout, 2 + static_cast<int>(random.below(2)), which);
  check_same(one.out.memory, more.out.memory, "the output", which);
  check_same(one.pooled, more.pooled, "the pooled value", which);
  check_same(one.log_sum, more.log_sum, "the log-sum-exp", which);
  check_same(one.dk.memory, more.dk.memory, "the gradient of k", which);
  check_same(one.dv.memory, more.dv.memory, "the gradient of v", which);
  check_same(one.dgate.memory, more.dgate.memory, "the gradient of the gate", which);
  check_same(one.dvector, more.dvector, "the gradient of the saliency vector", which);
  check_same(one.dlogits.memory, more.dlogits.memory, "the gradient of the logits", which);
  if (like == Kind::broken) return;
  check_written(one.out, "the output", which);
  check_written(one.pooled, "the pooled value", which);
  check_written(one.log_sum, "the log-sum-exp", which);
  if (!x.backward) return;
  if (x.keyed()) check_written(one.dk, "the gradient of k", which);
  check_written(one.dv, "the gradient of v", which);
  if (x.gated) check_written(one.dgate, "the gradient of the gate", which);
  check_written(one.dvector, "the gradient of the saliency vector", which);
  if (x.kind != fewpairs::vector) check_written(one.dlogits, "the gradient of the logits", which);
}

}  // namespace

int main(int argc, char** argv) {
  return drive("key_only", argc, argv, [](Random& random, const std::string& which) {
    switch (random.below(3)) {
      case 0: return test<float, float>(random, which);
      case 1: return test<bfloat16, bfloat16>(random, which);
      default: return test<bfloat16, float>(random, which);
    }
  });
}
