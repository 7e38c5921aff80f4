// k-NN attention on random arguments.

#include "../../src/fewpairs/ops/knn/csrc/knn.cpp"
#include "harness.h"

using namespace sanitize;

namespace {

enum class Keep { nothing, lists, cuts };

// What one run wrote.
template <class T>
struct Results {
  Placed<T> out, dq, dk, dv;
  Memory<int16_t> index;
  Memory<float> weight, threshold, log_sum, dbias;
  Memory<int32_t> last;
};

template <class T>
struct Case {
  int64_t b, h, n, m, d, e, topk;
  float scale;
  Keep keep;
  bool learns;
  int32_t biased;
  Placed<T> q, k, v, grad;
  Placed<float> added;
  Placed<uint8_t> allowed;

  Results<T> run(uint64_t layout, int threads, const std::string& which) {
    Random random(layout);  // the same layouts in every run
    Results<T> to{placed<T>(random, b, h, n, e, false), placed<T>(random, b, h, n, d, false),
                  placed<T>(random, b, h, m, d, false), placed<T>(random, b, h, m, e, false)};
    fewpairs::KnnProblem p{};
    p.b = b, p.h = h, p.n = n, p.m = m, p.d = d, p.e = e, p.topk = topk, p.scale = scale;
    p.number = sizeof(T) == 2 ? fewpairs::brain16 : fewpairs::float32;
    p.biased = biased, p.threads = threads;
    p.q = tensor(q), p.k = tensor(k), p.v = tensor(v);
    if (biased == fewpairs::added) p.bias = tensor(added);
    if (biased == fewpairs::allowed) p.bias = tensor(allowed);
    const int64_t rows = b * h * n;
    if (keep == Keep::lists) {
      to.index = Memory<int16_t>(rows * topk), to.weight = Memory<float>(rows * topk);
      p.index = to.index.get(), p.weight = to.weight.get();
    } else if (keep == Keep::cuts) {
      to.threshold = Memory<float>(rows), to.last = Memory<int32_t>(rows), to.log_sum = Memory<float>(rows);
      p.threshold = to.threshold.get(), p.last = to.last.get(), p.log_sum = to.log_sum.get();
    }
    const fewpairs::Tensor out = tensor(to.out);
    if (fewpairs_knn_forward(&p, &out)) fail("the forward pass fails", which);
    if (keep == Keep::nothing) return to;
    if (learns) to.dbias = Memory<float>(added.memory.count), to.dbias.clear();
    const fewpairs::KnnGradients g{out,           tensor(grad),  tensor(to.dq),
                                   tensor(to.dk), tensor(to.dv), learns ? to.dbias.get() : nullptr};
    if (fewpairs_knn_backward(&p, &g)) fail("the backward pass fails", which);
    return to;
  }
};

template <class T>
void test(Random& random, const std::string& which) {
  const Kind like = kind(random);
  Case<T> x{};
  x.b = 1 + random.below(2), x.h = random.of<int64_t>({1, 2, 3, 17});
  x.n = length(random), x.m = random.chance(0.5) ? x.n : length(random);
  if (x.h == 17) x.n = std::min<int64_t>(x.n, 97), x.m = std::min<int64_t>(x.m, 97);
  x.d = width(random), x.e = random.chance(0.5) ? x.d : width(random);
  x.topk = std::min(x.m, random.of<int64_t>({1, 2, 7, 16, 17, (x.m + 1) / 2, x.m / 16 + 1, x.m - 1, x.m}));
  x.topk = std::max<int64_t>(1, x.topk);
  x.scale = random.of({0.0f, 1.0f, -0.5f, 0.125f});
  x.keep = random.of({Keep::nothing, Keep::lists, Keep::cuts, Keep::cuts});
  x.biased = static_cast<int32_t>(random.below(3));
  x.q = placed<T>(random, x.b, x.h, x.n, x.d, true), x.k = placed<T>(random, x.b, x.h, x.m, x.d, true);
  x.v = placed<T>(random, x.b, x.h, x.m, x.e, true), x.grad = placed<T>(random, x.b, x.h, x.n, x.e, true);
  x.q.fill(random, like), x.k.fill(random, like);
  x.v.fill(random, Kind::normal), x.grad.fill(random, Kind::normal);
  const int64_t images = random.chance(0.5) ? 1 : x.b, heads = random.chance(0.5) ? 1 : x.h;
  if (x.biased == fewpairs::added) {
    x.learns = x.keep != Keep::nothing && random.chance(0.5);
    if (x.learns) {  // contiguous
      x.added = {{images, heads, x.n, x.m}, {heads * x.n * x.m, x.n * x.m, x.m, 1}, Memory<float>(images * heads * x.n * x.m)};
    } else {
      x.added = placed<float>(random, images, heads, x.n, x.m, true);
    }
    const double closed = random.of({0.0, 0.0, 0.5, 0.98});
    x.added.each([&](float& y) { y = random.chance(closed) ? -INFINITY : number(random, like); });
    if (images == 1) x.added.step[0] = 0;
    if (heads == 1) x.added.step[1] = 0;
  } else if (x.biased == fewpairs::allowed) {
    x.allowed = placed<uint8_t>(random, images, heads, x.n, x.m, true);
    const double open = random.of({0.02, 0.5, 0.9});
    x.allowed.each([&](uint8_t& y) { y = random.chance(open); });
    if (images == 1) x.allowed.step[0] = 0;
    if (heads == 1) x.allowed.step[1] = 0;
  }
  const uint64_t layout = random.bits();
  const Results<T> one = x.run(layout, 1, which), more = x.run(layout, 2 + static_cast<int>(random.below(2)), which);
  check_same(one.out.memory, more.out.memory, "the output", which);
  check_same(one.dq.memory, more.dq.memory, "the gradient of q", which);
  check_same(one.dk.memory, more.dk.memory, "the gradient of k", which);
  check_same(one.dv.memory, more.dv.memory, "the gradient of v", which);
  check_same(one.dbias, more.dbias, "the gradient of the bias", which);
  check_same(one.index, more.index, "the list of keys", which);
  check_same(one.weight, more.weight, "the list of weights", which);
  check_same(one.log_sum, more.log_sum, "the log-sum-exp", which);
  for (int64_t i = 0; i < one.index.count; ++i)
    if (one.index[i] < 0 || one.index[i] >= x.m) fail("a key of the list is none", which);
  if (like == Kind::broken) return;
  check_written(one.out, "the output", which);
  check_written(one.weight, "the list of weights", which);
  check_written(one.threshold, "the threshold", which);
  check_written(one.log_sum, "the log-sum-exp", which);
  if (x.keep == Keep::nothing) return;
  check_written(one.dq, "the gradient of q", which);
  check_written(one.dk, "the gradient of k", which);
  check_written(one.dv, "the gradient of v", which);
  check_written(one.dbias, "the gradient of the bias", which);
}

}  // namespace

int main(int argc, char** argv) {
  return drive("knn", argc, argv, [](Random& random, const std::string& which) {
    random.chance(0.5) ? test<float>(random, which) : test<fewpairs::bfloat16>(random, which);
  });
}
