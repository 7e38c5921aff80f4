// k-NN attention on a CPU: exact, forward and backward, no tensor of n x m numbers.
//
// A block of rows of scores is made while it fits into cache, each row cut to its k best keys (select.h), and from there
// on only these are touched (rows.h). The specification is `latchkey.ops.knn.reference`.
//
// The backward pass needs each row's keys and weights. Either the forward pass kept them as lists, or, where these would
// be large, it kept the cut and the logarithm of the softmax's sum, and the scores are made again: bit for bit the same.

#include "../../csrc/parallel.h"
#include "rows.h"
#include "select.h"

namespace latchkey {
namespace {

enum Number : int32_t { float32 = 0, brain16 = 1 };
enum Biased : int32_t { unbiased = 0, added = 1, allowed = 2 };

}  // namespace

// A tensor `[b h n d]` with its columns side by side: how many numbers apart images, heads and rows lie.
struct Tensor {
  void* at;
  int64_t image, head, row;
};

// What both passes are told.
struct KnnProblem {
  int64_t b, h, n, m, d, e, topk;
  float scale;
  int32_t number, biased, threads;
  Tensor q, k, v, bias;
  // Kept for the backward pass: lists of `topk` keys a row, `[b h n topk]`, where `index` is not null, else the cut.
  int16_t* index;
  float* weight;
  float* threshold;
  int32_t* last;
  float* log_sum;
};

struct KnnGradients {
  Tensor out, grad, dq, dk, dv;
  // Contiguous `[#b #h n m]` float32, zero at first; null where the bias does not learn. The steps are those of bias.
  float* dbias;
};

namespace {

constexpr int64_t BLOCK_SCORES = 1 << 17;  // 512 KiB of scores: half of the cache that a core has for itself
constexpr int64_t SEGMENT_ROWS = 1024;     // rows of one task
constexpr int64_t FEW_HEADS = 4;           // with fewer, the backward pass divides a head's rows among several tasks
constexpr int64_t NEAR = 8192;              // floats that lie in the nearest cache: 32 KiB

int64_t rows_of_block(int64_t n, int64_t m) {
  const int64_t most = std::min<int64_t>(60, BLOCK_SCORES / padded(m));
  return std::min<int64_t>(std::max<int64_t>(most / TALL * TALL, TALL), (n + FLAT - 1) / FLAT * FLAT);
}

// How many keys are looked at together: rows of `wide` floats that fill `room`, and about two dozen kept keys a row, so
// that a tile costs more than the step to it.
int64_t keys_of_tile(const KnnProblem& p, int64_t wide, int64_t room) {
  return std::max<int64_t>(room / wide, 24 * p.m / p.topk);
}

template <class T>
const T* place(const Tensor& x, int64_t image, int64_t head, int64_t row = 0) {
  return static_cast<const T*>(x.at) + image * x.image + head * x.head + row * x.row;
}

template <class T>
T* place(Tensor& x, int64_t image, int64_t head, int64_t row = 0) {
  return static_cast<T*>(x.at) + image * x.image + head * x.head + row * x.row;
}

template <class T>
void write_row(const float* from, float factor, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i) narrow(to + i, from[i] * factor);
}

// Keeps a list for the backward pass; a row with fewer keys is filled up with the first key and no weight.
void keep(List list, float factor, int64_t topk, int16_t* index, float* weight) {
  for (int64_t i = 0; i < list.count; ++i) index[i] = static_cast<int16_t>(list.index[i]);
  for (int64_t i = 0; i < list.count; ++i) weight[i] = list.score[i] * factor;
  for (int64_t i = list.count; i < topk; ++i) index[i] = 0, weight[i] = 0;
}

// One block of score rows of one head: made, and cut row by row. Each row's list of best keys takes the scores' place.
template <class T>
class Block {
 public:
  Block(const KnnProblem& p, Scratch& scratch, bool needed = true)
      : p_(p), wanted_(p.topk, p.m), wide_(padded(p.m)), step_(wide_ + W), rows_(rows_of_block(p.n, p.m)) {
    if (!needed) return;
    queries_ = scratch.floats(rows_ * p.d);
    scores_ = scratch.floats(rows_ * step_);
    index_ = scratch.many<int32_t>(rows_ * step_);
    count_ = scratch.many<int64_t>(rows_);
  }

  int64_t rows() const { return rows_; }
  List list(int64_t r) const { return {index_ + r * step_, scores_ + r * step_, count_[r]}; }

  // Scores of `count` rows from `first` on.
  void make(int64_t image, int64_t head, int64_t first, int64_t count, const float* keys) {
    const int64_t filled = (count + FLAT - 1) / FLAT * FLAT;
    const T* from = place<const T>(p_.q, image, head, first);
    for (int64_t r = 0; r < filled; ++r)
      for (int64_t c = 0; c < p_.d; ++c) queries_[r * p_.d + c] = r < count ? widen(from[r * p_.q.row + c]) : 0.0f;
    multiply(filled, wide_ / W, p_.d, {queries_, p_.d, 1}, panels(keys, p_.d), p_.scale, false, scores_, step_);
    for (int64_t r = 0; r < count; ++r) finish(image, head, first + r, scores_ + r * step_);
  }

  // Cuts the r-th row to its list, whose scores become weights, not yet divided by their sum, which is returned. NaN
  // where the row is broken.
  float choose(int64_t r, Cut& cut, float& most) {
    List found = list(r);
    const Row row = select(found.score, p_.m, wanted_, found, cut, most);
    if (row == Row::broken) cut.threshold = most = NAN;
    return row == Row::broken ? spoil(r) : raise(r, found, most);
  }

  // The same list from the cut; weights divided by their sum, whose logarithm is `log_sum`.
  void choose_again(int64_t r, Cut cut, float log_sum) {
    List found = list(r);
    if (cut.threshold != cut.threshold) return void(spoil(r));
    reselect(found.score, p_.m, cut, found);
    raise(r, found, log_sum);
  }

 private:
  const KnnProblem& p_;
  const Wanted wanted_;
  int64_t wide_, step_, rows_;
  float *queries_ = nullptr, *scores_ = nullptr;
  int32_t* index_ = nullptr;
  int64_t* count_ = nullptr;

  // Adds the bias, and closes the row with -inf.
  void finish(int64_t image, int64_t head, int64_t row, float* x) const {
    if (p_.biased == added) {
      const float* bias = place<const float>(p_.bias, image, head, row);
      for (int64_t c = 0; c < p_.m; ++c) x[c] += bias[c];
    } else if (p_.biased == allowed) {
      const uint8_t* bias = place<const uint8_t>(p_.bias, image, head, row);
      for (int64_t c = 0; c < p_.m; ++c) x[c] = bias[c] ? x[c] : -INF;
    }
    for (int64_t c = p_.m; c < wide_; ++c) x[c] = -INF;
  }

  float spoil(int64_t r) {
    count_[r] = p_.topk;
    List found = list(r);
    for (int64_t i = 0; i < found.count; ++i) found.index[i] = static_cast<int32_t>(i), found.score[i] = NAN;
    return NAN;
  }

  // exp(score - less) of the list, and its sum.
  float raise(int64_t r, List found, float less) {
    count_[r] = found.count;
    close(found);
    const Vec shift = splat(less);
    Vec total[2] = {};
    int64_t c = 0;
    for (; c + 2 * W <= found.count; c += 2 * W)
      for (int i = 0; i < 2; ++i) {
        const Vec y = exponential(load(found.score + c + i * W) - shift);
        store(found.score + c + i * W, y);
        total[i] += y;
      }
    for (; c < found.count; c += W) {
      const Vec y = exponential(load(found.score + c) - shift);
      store(found.score + c, y);
      total[0] += found.count - c >= W ? y : load_part(found.score + c, static_cast<int>(found.count - c), 0);
    }
    return sum(total[0] + total[1]);
  }
};

// The weighed means of a block's rows: values are taken some keys at a time, which stay in the nearest cache while all
// rows of the block look at them.
class Means {
 public:
  Means(const KnnProblem& p, int64_t rows, Scratch& scratch) : wide_(padded(p.e)), m_(p.m) {
    keys_ = keys_of_tile(p, wide_, NEAR);
    sums_ = scratch.floats(rows * wide_);
    next_ = scratch.many<int64_t>(rows);
  }

  const float* row(int64_t r) const { return sums_ + r * wide_; }

  template <class T>
  void take(Block<T>& block, int64_t count, const float* values) {
    std::memset(sums_, 0, sizeof(float) * count * wide_);
    for (int64_t r = 0; r < count; ++r) next_[r] = 0;
    for (int64_t until = keys_;; until += keys_) {
      for (int64_t r = 0; r < count; ++r) {
        const List list = block.list(r);
        const int64_t from = next_[r];
        const int64_t to = next_[r] = until >= m_ ? list.count : reach(list.index, from, list.count, until);
        blend(list.index + from, list.score + from, to - from, {values, wide_}, wide_ / W, sums_ + r * wide_);
      }
      if (until >= m_) break;
    }
  }

 private:
  int64_t wide_, m_, keys_;
  float* sums_;
  int64_t* next_;
};

// What a thread needs for the forward pass.
template <class T>
struct Desk {
  Desk(const KnnProblem& p, Scratch& scratch)
      : keys(scratch.floats(padded(p.m) * p.d)), values(scratch.floats(p.m * padded(p.e))), block(p, scratch),
        factor(scratch.floats(block.rows())), means(p, block.rows(), scratch) {}
  float *keys, *values;
  Block<T> block;
  float* factor;
  Means means;
};

template <class T>
int forward(const KnnProblem& p, Tensor out) {
  const int64_t segments = (p.n + SEGMENT_ROWS - 1) / SEGMENT_ROWS, span = (p.n + segments - 1) / segments;
  Failure failure;
  Rooms<Desk<T>> desks(p.threads);
  parallel(p.b * p.h * segments, p.threads, [&](int64_t task, int thread) {
    const int64_t image = task / segments / p.h, head = task / segments % p.h;
    const int64_t start = task % segments * span, end = std::min(p.n, start + span);
    Desk<T>* desk = desks.get(thread, [&](Scratch& scratch) { return Desk<T>(p, scratch); });
    if (!desk) return failure.set(no_memory);
    auto& [keys, values, block, factor, means] = *desk;
    pack_transposed(place<const T>(p.k, image, head), p.k.row, p.m, p.d, keys);
    pack_rows(place<const T>(p.v, image, head), p.v.row, p.m, p.e, values);
    for (int64_t first = start; first < end; first += block.rows()) {
      const int64_t count = std::min(block.rows(), end - first), row = (image * p.h + head) * p.n + first;
      block.make(image, head, first, count, keys);
      for (int64_t r = 0; r < count; ++r) {
        Cut cut;
        float most;
        const float total = block.choose(r, cut, most);
        const bool empty = block.list(r).count == 0;
        factor[r] = empty ? 0 : 1 / total;
        if (p.threshold) {
          p.threshold[row + r] = cut.threshold;
          p.last[row + r] = cut.last;
          p.log_sum[row + r] = empty ? 0 : most + std::log(total);
        }
      }
      means.take(block, count, values);
      for (int64_t r = 0; r < count; ++r) {
        write_row(means.row(r), factor[r], p.e, place<T>(out, image, head, first + r));
        if (p.index) keep(block.list(r), factor[r], p.topk, p.index + (row + r) * p.topk, p.weight + (row + r) * p.topk);
      }
    }
  });
  return failure.status();
}

// Gradients of keys and values that one task has found.
struct Share {
  float *dk = nullptr, *dv = nullptr;
};

template <class T>
class Backward {
 public:
  Backward(const KnnProblem& p, const KnnGradients& g) : p_(p), g_(g), keys_wide_(padded(p.d)), values_wide_(padded(p.e)) {
    segments_ = 1;
    if (p.b * p.h < FEW_HEADS && !g.dbias) segments_ = std::clamp<int64_t>(p.n / SEGMENT_ROWS, 1, 4);
    span_ = (p.n + segments_ - 1) / segments_;
    keys_ = keys_of_tile(p, std::max(keys_wide_, values_wide_), NEAR);
  }

  int run() {
    const int64_t heads = p_.b * p_.h;
    Rooms<Room> rooms(p_.threads);
    if (segments_ == 1) {
      // Heads that share a bias which learns are one task, so that its gradient is summed in one order.
      const int64_t images = g_.dbias && p_.bias.image == 0 ? p_.b : 1, together = g_.dbias && p_.bias.head == 0 ? p_.h : 1;
      parallel(heads / (images * together), p_.threads, [&](int64_t task, int thread) {
        Room* room = rooms.get(thread, [&](Scratch& scratch) { return Room(*this, scratch, true); });
        if (!room) return failure_.set(no_memory);
        const int64_t groups = p_.h / together;
        for (int64_t image = 0; image < images; ++image)
          for (int64_t head = 0; head < together; ++head) {
            const int64_t x = images > 1 ? image : task / groups, y = together > 1 ? head : task % groups;
            visit(x, y, 0, p_.n, room->share, *room);
            write(x, y, room->share);
          }
      });
      return failure_.status();
    }
    Scratch scratch;
    const int64_t dk_size = p_.m * keys_wide_, dv_size = p_.m * values_wide_;
    float* dk = scratch.floats(heads * segments_ * dk_size);
    float* dv = scratch.floats(heads * segments_ * dv_size);
    if (!scratch.ok()) return no_memory;
    parallel(heads * segments_, p_.threads, [&](int64_t task, int thread) {
      Room* room = rooms.get(thread, [&](Scratch& own) { return Room(*this, own, false); });
      if (!room) return failure_.set(no_memory);
      const int64_t head = task / segments_, start = task % segments_ * span_;
      visit(head / p_.h, head % p_.h, start, std::min(p_.n, start + span_), {dk + task * dk_size, dv + task * dv_size}, *room);
    });
    parallel(heads, p_.threads, [&](int64_t head, int) {
      const Share first{dk + head * segments_ * dk_size, dv + head * segments_ * dv_size};
      for (int64_t s = 1; s < segments_; ++s) {
        for (int64_t i = 0; i < dk_size; ++i) first.dk[i] += first.dk[s * dk_size + i];
        for (int64_t i = 0; i < dv_size; ++i) first.dv[i] += first.dv[s * dv_size + i];
      }
      write(head / p_.h, head % p_.h, first);
    });
    return failure_.status();
  }

 private:
  const KnnProblem& p_;
  KnnGradients g_;
  int64_t keys_wide_, values_wide_, keys_, segments_, span_;
  Failure failure_;

  static constexpr int64_t ROWS = 48;

  // What a thread needs; `whole` where no head is divided.
  struct Room {
    Room(const Backward& x, Scratch& scratch, bool whole) : block(x.p_, scratch, !x.p_.index) {
      const KnnProblem& p = x.p_;
      if (whole) share = {scratch.floats(p.m * x.keys_wide_), scratch.floats(p.m * x.values_wide_)};
      if (!p.index) panels = scratch.floats(padded(p.m) * p.d);
      keys = scratch.floats(p.m * x.keys_wide_);
      values = scratch.floats(p.m * x.values_wide_);
      rows = std::min(p.index ? ROWS : block.rows(), p.n);
      queries = scratch.floats(rows * x.keys_wide_);
      changes = scratch.floats(rows * x.keys_wide_);
      sent = scratch.floats(rows * x.values_wide_);
      mean = scratch.floats(rows);
      index = scratch.many<int32_t>(rows * (p.topk + W));
      weight = scratch.floats(rows * (p.topk + W));
      slope = scratch.floats(rows * (p.topk + W));
      for (int64_t** x : {&count, &begin, &end}) *x = scratch.many<int64_t>(rows);
    }
    Block<T> block;
    Share share;
    int64_t rows;
    float *panels = nullptr, *keys, *values, *queries, *changes, *sent, *mean, *weight, *slope;
    int32_t* index;
    int64_t *count, *begin, *end;
  };

  // All that the rows [start, end) of one head send back.
  void visit(int64_t image, int64_t head, int64_t start, int64_t end, Share share, Room& room) {
    std::memset(share.dk, 0, sizeof(float) * p_.m * keys_wide_);
    std::memset(share.dv, 0, sizeof(float) * p_.m * values_wide_);
    const T* from = place<const T>(p_.k, image, head);
    pack_rows(from, p_.k.row, p_.m, p_.d, room.keys);
    pack_rows(place<const T>(p_.v, image, head), p_.v.row, p_.m, p_.e, room.values);
    if (room.panels) pack_transposed(from, p_.k.row, p_.m, p_.d, room.panels);
    for (int64_t first = start; first < end; first += room.rows) {
      const int64_t count = std::min(room.rows, end - first);
      recall(image, head, first, count, room);
      for (int64_t until = keys_; ; until += keys_) {
        send_back(image, head, first, count, until, share, room);
        if (until >= p_.m) break;
      }
      for (int64_t r = 0; r < count; ++r)
        write_row(room.changes + r * keys_wide_, 1, p_.d, place<T>(g_.dq, image, head, first + r));
    }
  }

  // Rows' queries, gradients and lists.
  void recall(int64_t image, int64_t head, int64_t first, int64_t count, Room& room) {
    pack_rows(place<const T>(p_.q, image, head, first), p_.q.row, count, p_.d, room.queries);
    pack_rows(place<const T>(g_.grad, image, head, first), g_.grad.row, count, p_.e, room.sent);
    std::memset(room.changes, 0, sizeof(float) * count * keys_wide_);
    if (room.panels) room.block.make(image, head, first, count, room.panels);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t row = (image * p_.h + head) * p_.n + first + r;
      int32_t* index = room.index + r * (p_.topk + W);
      float* weight = room.weight + r * (p_.topk + W);
      room.count[r] = p_.topk;
      if (p_.index) {
        for (int64_t i = 0; i < p_.topk; ++i) index[i] = p_.index[row * p_.topk + i];
        std::memcpy(weight, p_.weight + row * p_.topk, sizeof(float) * p_.topk);
        while (room.count[r] && weight[room.count[r] - 1] == 0) --room.count[r];  // rows that keep fewer
      } else {
        room.block.choose_again(r, {p_.threshold[row], p_.last[row]}, p_.log_sum[row]);
        const List list = room.block.list(r);
        room.count[r] = list.count;
        std::memcpy(index, list.index, sizeof(int32_t) * list.count);
        std::memcpy(weight, list.score, sizeof(float) * list.count);
      }
      room.end[r] = 0;
      const T* out = place<const T>(g_.out, image, head, first + r);
      const float* sent = room.sent + r * values_wide_;
      Vec total = {};
      float rest = 0;
      int64_t c = 0;
      if constexpr (sizeof(T) == 4)
        for (; c + W <= p_.e; c += W) total += load(reinterpret_cast<const float*>(out) + c) * load(sent + c);
      for (; c < p_.e; ++c) rest += widen(out[c]) * sent[c];
      room.mean[r] = sum(total) + rest;
    }
  }

  // What rows send to their keys of one tile, those below `until`, and they to them: one thing after the other, so that
  // one tile at a time lies in the nearest cache.
  void send_back(int64_t image, int64_t head, int64_t first, int64_t count, int64_t until, Share share, Room& room) {
    const int64_t wide_k = keys_wide_ / W, wide_v = values_wide_ / W;
    const auto each = [&](auto f) {
      for (int64_t r = 0; r < count; ++r) {
        const int64_t from = room.begin[r], at = r * (p_.topk + W) + from;
        if (from < room.end[r]) f(r, room.end[r] - from, room.index + at, room.weight + at, room.slope + at);
      }
    };
    for (int64_t r = 0; r < count; ++r) {
      const int64_t from = room.begin[r] = room.end[r];
      room.end[r] = until >= p_.m ? room.count[r] : reach(room.index + r * (p_.topk + W), from, room.count[r], until);
    }
    each([&](int64_t r, int64_t kept, const int32_t* index, const float* weight, float* slope) {
      dots(index, kept, room.sent + r * values_wide_, wide_v, {room.values, values_wide_}, slope);
      const float mean = room.mean[r];
      for (int64_t i = 0; i < kept; ++i) slope[i] = weight[i] * (slope[i] - mean);
      if (g_.dbias) {
        float* dbias = g_.dbias + image * p_.bias.image + head * p_.bias.head + (first + r) * p_.m;
        for (int64_t i = 0; i < kept; ++i) dbias[index[i]] += slope[i];
      }
      for (int64_t i = 0; i < kept; ++i) slope[i] *= p_.scale;
    });
    each([&](int64_t r, int64_t kept, const int32_t* index, const float*, const float* slope) {
      blend(index, slope, kept, {room.keys, keys_wide_}, wide_k, room.changes + r * keys_wide_);
    });
    each([&](int64_t r, int64_t kept, const int32_t* index, const float*, const float* slope) {
      scatter(index, slope, kept, room.queries + r * keys_wide_, wide_k, share.dk, keys_wide_);
    });
    each([&](int64_t r, int64_t kept, const int32_t* index, const float* weight, const float*) {
      scatter(index, weight, kept, room.sent + r * values_wide_, wide_v, share.dv, values_wide_);
    });
  }

  void write(int64_t image, int64_t head, Share share) {
    for (int64_t j = 0; j < p_.m; ++j) {
      write_row(share.dk + j * keys_wide_, 1, p_.d, place<T>(g_.dk, image, head, j));
      write_row(share.dv + j * values_wide_, 1, p_.e, place<T>(g_.dv, image, head, j));
    }
  }
};

}  // namespace
}  // namespace latchkey

extern "C" int latchkey_knn_forward(const latchkey::KnnProblem* problem, const latchkey::Tensor* out) {
  using namespace latchkey;
  return problem->number == brain16 ? forward<bfloat16>(*problem, *out) : forward<float>(*problem, *out);
}

extern "C" int latchkey_knn_backward(const latchkey::KnnProblem* problem, const latchkey::KnnGradients* gradients) {
  using namespace latchkey;
  return problem->number == brain16 ? Backward<bfloat16>(*problem, *gradients).run()
                                    : Backward<float>(*problem, *gradients).run();
}
