// Key-value attention on random arguments.

#include "../../src/fewpairs/ops/kv/csrc/kv.cpp"
#include "harness.h"

using namespace sanitize;

namespace {

// What one run wrote.
template <class T>
struct Results {
  Placed<T> out, dk, dv;
  Memory<float> highest, totals, dbias;
  Memory<double> dgain, dkey_bias;
};

template <class T>
struct Case {
  int64_t b, h, n, d, e;
  double scale;
  int32_t bias_kind;
  bool backward, learns[3];
  Placed<T> k, v, grad;
  Memory<float> gain, key_bias;
  bool by_head;  // the key bias
  Placed<uint8_t> mask;
  Placed<float> single;
  Placed<bfloat16> half;

  // `wrong`: arguments that do not fit are tried first.
  Results<T> run(uint64_t layout, int threads, const std::string& which, Random* wrong = nullptr) {
    Random random(layout);  // the same layouts in every run
    Results<T> to{placed<T>(random, b, h, n, e, false), placed<T>(random, b, h, n, d, false),
                  placed<T>(random, b, h, n, e, false)};
    to.highest = Memory<float>(b * h * n), to.totals = Memory<float>(b * h * n);
    fewpairs::KvArguments p{};
    p.scale = scale, p.threads = threads;
    p.gain = flat(gain, {h}), p.key_bias = flat(key_bias, {by_head ? h : 1, n});
    p.k = tensor(k), p.v = tensor(v);
    p.highest = flat(to.highest, {b, h, n}), p.totals = flat(to.totals, {b, h, n});
    int64_t images = 1, heads = 1;
    auto take = [&](const auto& bias) { p.bias = tensor(bias), images = bias.size[0], heads = bias.size[1]; };
    if (bias_kind == fewpairs::Bias::mask) take(mask);
    if (bias_kind == fewpairs::Bias::single) take(single);
    if (bias_kind == fewpairs::Bias::half) take(half);
    const fewpairs::Tensor out = tensor(to.out);
    using Parts = std::vector<fewpairs::Tensor*>;
    const auto parts = [](fewpairs::KvArguments& a) {
      return Parts{&a.k, &a.v, &a.gain, &a.key_bias, &a.bias, &a.highest, &a.totals};
    };
    if (wrong) {
      must_refuse(*wrong, p, parts, [&](const auto& a) { return fewpairs_kv_forward(&a, &out); }, which);
      const auto write = [&](const fewpairs::Tensor& a) { return fewpairs_kv_forward(&p, &a); };
      must_refuse(*wrong, out, [](fewpairs::Tensor& a) { return Parts{&a}; }, write, which);
      must_refuse_overlap(*wrong, out, write, which);
    }
    if (fewpairs_kv_forward(&p, &out)) fail("the forward pass fails", which);
    if (!backward) return to;
    if (learns[0] && gain.count) to.dgain = Memory<double>(b * h);
    if (learns[1] && key_bias.count) to.dkey_bias = Memory<double>(key_bias.count), to.dkey_bias.clear();
    if (learns[2] && bias_kind > fewpairs::Bias::mask) to.dbias = Memory<float>(images * heads * n * n);
    const fewpairs::KvGradientArguments g{out,
                                  tensor(grad),
                                  tensor(to.dk),
                                  tensor(to.dv),
                                  flat(to.dgain, {b, h}),
                                  flat(to.dkey_bias, {by_head ? h : 1, n}),
                                  flat(to.dbias, {images, heads, n, n})};
    if (wrong) {
      const auto results = [](fewpairs::KvGradientArguments& a) {
        return Parts{&a.out, &a.grad, &a.dk, &a.dv, &a.dgain, &a.dkey_bias, &a.dbias};
      };
      must_refuse(*wrong, p, parts, [&](const auto& a) { return fewpairs_kv_backward(&a, &g); }, which);
      must_refuse(*wrong, g, results, [&](const auto& a) { return fewpairs_kv_backward(&p, &a); }, which);
    }
    if (fewpairs_kv_backward(&p, &g)) fail("the backward pass fails", which);
    return to;
  }
};

template <class T>
Placed<T> pairs(Random& random, int64_t b, int64_t h, int64_t n) {
  Placed<T> x = placed<T>(random, random.chance(0.5) ? 1 : b, random.chance(0.5) ? 1 : h, n, n, true);
  if (random.chance(0.3)) std::swap(x.step[2], x.step[3]);
  return x;
}

template <class T>
void test(Random& random, const std::string& which) {
  const Kind like = kind(random);
  Case<T> x{};
  x.b = 1 + random.below(2), x.h = random.of<int64_t>({1, 2, 3, 17}), x.n = length(random);
  if (x.h == 17) x.n = std::min<int64_t>(x.n, 97);
  x.d = width(random), x.e = random.chance(0.5) ? x.d : width(random);
  x.scale = random.of({0.0, 1.0, -0.5, 0.125});
  x.backward = random.chance(0.8);
  for (bool& learns : x.learns) learns = random.chance(0.5);
  x.k = placed<T>(random, x.b, x.h, x.n, x.d, true), x.v = placed<T>(random, x.b, x.h, x.n, x.e, true);
  x.grad = placed<T>(random, x.b, x.h, x.n, x.e, true);
  x.k.fill(random, like), x.v.fill(random, Kind::normal), x.grad.fill(random, Kind::normal);
  if (random.chance(0.4)) {
    x.gain = Memory<float>(x.h);
    for (int64_t i = 0; i < x.h; ++i) x.gain[i] = random.normal();
  }
  if (random.chance(0.4)) {
    x.by_head = random.chance(0.5);
    x.key_bias = Memory<float>(x.by_head ? x.h * x.n : x.n);
    for (int64_t i = 0; i < x.key_bias.count; ++i) x.key_bias[i] = number(random, like);
  }
  if (random.chance(0.5)) x.bias_kind = static_cast<int32_t>(1 + random.below(3));
  const double closed = random.of({0.0, 0.0, 0.5, 0.98});
  auto some = [&] { return random.chance(closed) ? -INFINITY : number(random, like); };
  if (x.bias_kind == fewpairs::Bias::mask) {
    x.mask = pairs<uint8_t>(random, x.b, x.h, x.n);
    x.mask.each([&](uint8_t& y) { y = !random.chance(closed); });
  } else if (x.bias_kind == fewpairs::Bias::single) {
    x.single = pairs<float>(random, x.b, x.h, x.n);
    x.single.each([&](float& y) { y = some(); });
  } else if (x.bias_kind == fewpairs::Bias::half) {
    x.half = pairs<bfloat16>(random, x.b, x.h, x.n);
    x.half.each([&](bfloat16& y) { fewpairs::narrow(&y, some()); });
  }
  const uint64_t layout = random.bits();
  const Results<T> one = x.run(layout, 1, which, &random), more = x.run(layout, 2 + static_cast<int>(random.below(2)), which);
  check_same(one.out.memory, more.out.memory, "the output", which);
  check_same(one.highest, more.highest, "what is taken from a row's scores", which);
  check_same(one.totals, more.totals, "the total of a row", which);
  check_same(one.dk.memory, more.dk.memory, "the gradient of k", which);
  check_same(one.dv.memory, more.dv.memory, "the gradient of v", which);
  check_same(one.dgain, more.dgain, "the gradient of the gain", which);
  check_same(one.dkey_bias, more.dkey_bias, "the gradient of the key bias", which);
  check_same(one.dbias, more.dbias, "the gradient of the bias", which);
  if (like == Kind::broken) return;
  check_written(one.out, "the output", which);
  check_written(one.highest, "what is taken from a row's scores", which);
  check_written(one.totals, "the total of a row", which);
  if (!x.backward) return;
  check_written(one.dk, "the gradient of k", which);
  check_written(one.dv, "the gradient of v", which);
  check_written(one.dgain, "the gradient of the gain", which);
  check_written(one.dkey_bias, "the gradient of the key bias", which);
  check_written(one.dbias, "the gradient of the bias", which);
}

}  // namespace

int main(int argc, char** argv) {
  return drive("kv", argc, argv, [](Random& random, const std::string& which) {
    random.chance(0.5) ? test<float>(random, which) : test<bfloat16>(random, which);
  });
}
