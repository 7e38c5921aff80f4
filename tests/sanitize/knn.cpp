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

  // `wrong`: arguments that do not fit are tried first.
  Results<T> run(uint64_t layout, int threads, const std::string& which, Random* wrong = nullptr) {
    Random random(layout);  // the same layouts in every run
    Results<T> to{placed<T>(random, b, h, n, e, false), placed<T>(random, b, h, n, d, false),
                  placed<T>(random, b, h, m, d, false), placed<T>(random, b, h, m, e, false)};
    fewpairs::KnnArguments p{};
    p.topk = topk, p.scale = scale, p.threads = threads;
    p.q = tensor(q), p.k = tensor(k), p.v = tensor(v);
    if (biased == fewpairs::added) p.bias = tensor(added);
    if (biased == fewpairs::allowed) p.bias = tensor(allowed);
    const int64_t rows = b * h * n;
    if (keep == Keep::lists) {
      to.index = Memory<int16_t>(rows * topk), to.weight = Memory<float>(rows * topk);
      p.index = flat(to.index, {b, h, n, topk}), p.weight = flat(to.weight, {b, h, n, topk});
    } else if (keep == Keep::cuts) {
      to.threshold = Memory<float>(rows), to.last = Memory<int32_t>(rows), to.log_sum = Memory<float>(rows);
      p.threshold = flat(to.threshold, {b, h, n}), p.last = flat(to.last, {b, h, n});
      p.log_sum = flat(to.log_sum, {b, h, n});
    }
    const fewpairs::Tensor out = tensor(to.out);
    using Parts = std::vector<fewpairs::Tensor*>;
    const auto parts = [](fewpairs::KnnArguments& a) {
      return Parts{&a.q, &a.k, &a.v, &a.bias, &a.index, &a.weight, &a.threshold, &a.last, &a.log_sum};
    };
    const auto refused = [&](fewpairs::KnnArguments a, const char* what) {
      if (fewpairs_knn_forward(&a, &out) <= fewpairs::misfit) fail(std::string("a wrong ") + what + " is not refused", which);
    };
    if (wrong) {
      must_refuse(*wrong, p, parts, [&](const auto& a) { return fewpairs_knn_forward(&a, &out); }, which);
      const auto write = [&](const fewpairs::Tensor& a) { return fewpairs_knn_forward(&p, &a); };
      must_refuse(*wrong, out, [](fewpairs::Tensor& a) { return Parts{&a}; }, write, which);
      must_refuse_overlap(*wrong, out, write, which);
      fewpairs::KnnArguments a = p;
      a.topk = wrong->of<int64_t>({0, -1, m + 1, int64_t{1} << 62});
      refused(a, "number of keys");
      a = p, a.threads = 0;
      refused(a, "number of threads");
    }
    if (fewpairs_knn_forward(&p, &out)) fail("the forward pass fails", which);
    if (keep == Keep::nothing) return to;
    if (learns) to.dbias = Memory<float>(added.memory.count), to.dbias.clear();
    const fewpairs::KnnGradientArguments g{out,           tensor(grad),  tensor(to.dq),
                                           tensor(to.dk), tensor(to.dv), flat(to.dbias, {added.size[0], added.size[1], n, m})};
    if (wrong) {
      const auto results = [](fewpairs::KnnGradientArguments& a) {
        return Parts{&a.out, &a.grad, &a.dq, &a.dk, &a.dv, &a.dbias};
      };
      must_refuse(*wrong, p, parts, [&](const auto& a) { return fewpairs_knn_backward(&a, &g); }, which);
      must_refuse(*wrong, g, results, [&](const auto& a) { return fewpairs_knn_backward(&p, &a); }, which);
      if (to.index.count) {
        int16_t& some = to.index[wrong->below(to.index.count)];
        const int16_t before = some;
        some = static_cast<int16_t>(wrong->chance(0.5) ? -1 : m);
        if (fewpairs_knn_backward(&p, &g) <= fewpairs::misfit) fail("a key that there is not is not refused", which);
        some = before;
      }
    }
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
  const Results<T> one = x.run(layout, 1, which, &random), more = x.run(layout, 2 + static_cast<int>(random.below(2)), which);
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
