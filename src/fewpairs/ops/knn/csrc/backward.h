// The backward pass: what rows send to the keys that they kept, and these to them.
#pragma once

#include "block.h"

namespace fewpairs {

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
      const int64_t images = g_.dbias && p_.bias.step[0] == 0 ? p_.b : 1, together = g_.dbias && p_.bias.step[1] == 0 ? p_.h : 1;
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
    pack_rows(from, p_.k.step[2], p_.m, p_.d, room.keys);
    pack_rows(place<const T>(p_.v, image, head), p_.v.step[2], p_.m, p_.e, room.values);
    if (room.panels) pack_transposed(from, p_.k.step[2], p_.m, p_.d, room.panels);
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
    pack_rows(place<const T>(p_.q, image, head, first), p_.q.step[2], count, p_.d, room.queries);
    pack_rows(place<const T>(g_.grad, image, head, first), g_.grad.step[2], count, p_.e, room.sent);
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
      // The weight of the only key is constant, whatever the rounding of its product and of the mean.
      const bool only = room.count[r] == 1 && weight[0] == 1;
      for (int64_t i = 0; i < kept; ++i) slope[i] = only ? 0 : weight[i] * (slope[i] - mean);
      if (g_.dbias) {
        float* dbias = g_.dbias + image * p_.bias.step[0] + head * p_.bias.step[1] + (first + r) * p_.m;
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

}  // namespace fewpairs
