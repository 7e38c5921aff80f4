// Tasks on PyTorch's own threads, and scratch memory: what every C++ kernel stands on. Linux, C++17, no exceptions.
//
//     int fewpairs_example(const float *x, float *y, int64_t rows, int threads) {
//         Failure failure;
//         parallel(rows, threads, [&](int64_t row, int thread) {
//             Scratch scratch;                       // one a task, or one a thread made beforehand
//             float *block = scratch.floats(4096);
//             if (!scratch.ok()) return failure.set(no_memory);
//             ...
//         });
//         return failure.status();
//     }
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <pthread.h>

// The one function of the OpenMP runtime that is used. It is called by its name, so that any compiler will do and the
// runtime is the one that the process has already loaded (PyTorch's). Weak: without a runtime the work is serial.
extern "C" void GOMP_parallel(void (*work)(void *), void *data, unsigned threads, unsigned flags)
    __attribute__((weak));

namespace fewpairs {

// What a kernel returns; `fewpairs.ops.native.check` puts it into words.
enum Status : int { done = 0, no_memory = 1, bad_argument = 2 };

// The first failure of any task. Threads may set it at the same time.
class Failure {
  public:
    void set(Status status) {
        int none = done;
        first_.compare_exchange_strong(none, status, std::memory_order_relaxed);
    }
    int status() const { return first_.load(std::memory_order_relaxed); }

  private:
    std::atomic<int> first_{done};
};

// The threads of an OpenMP runtime do not survive a fork, and a child that waits for them waits for ever. So a process
// that was forked after this code was loaded works alone.
class Fork {
  public:
    Fork() { pthread_atfork(nullptr, nullptr, [] { happened = true; }); }
    static inline bool happened = false;
};
inline const Fork fork_watch;

// For a library that is loaded in such a child, when the process before the fork had loaded others.
extern "C" __attribute__((used)) inline void fewpairs_work_alone() { Fork::happened = true; }

// Calls f(task, thread) once for every task of [0, tasks), in no fixed order. `thread` is below min(threads, tasks), and
// no two calls that run at the same time have the same one. Which thread takes a task is not fixed either: for equal
// bits with any number of threads, let a task write only what is its own. f must not throw.
template <class F> void parallel(int64_t tasks, int threads, F f) {
    if (threads <= 1 || tasks <= 1 || Fork::happened || !GOMP_parallel) {
        for (int64_t task = 0; task < tasks; ++task) f(task, 0);
        return;
    }
    struct Work {
        F &f;
        int64_t tasks;
        alignas(64) std::atomic<int64_t> next{0};
        alignas(64) std::atomic<int> thread{0};
    } work{f, tasks};
    // The team always has `threads` members: a runtime ends the threads that a smaller team does not need, and makes
    // them anew for the next one.
    GOMP_parallel(
        [](void *data) {
            Work &work = *static_cast<Work *>(data);
            int64_t task = work.next.fetch_add(1, std::memory_order_relaxed);
            if (task >= work.tasks) return;
            const int thread = work.thread.fetch_add(1, std::memory_order_relaxed);
            for (; task < work.tasks; task = work.next.fetch_add(1, std::memory_order_relaxed)) work.f(task, thread);
        },
        &work, static_cast<unsigned>(threads), 0);
}

// A little memory that a thread keeps from call to call: what is given back to the system comes back page by page, each
// at the price of some hundred sums.
class Shelf {
  public:
    static constexpr size_t size = 4 << 20;
    ~Shelf() { std::free(start_); }

    char *start() {
        if (!start_) start_ = static_cast<char *>(std::aligned_alloc(64, size));
        return start_;
    }

    bool taken = false;

  private:
    char *start_ = nullptr;
};

// Memory of a task or a thread, freed with it: every call gives a block of its own, aligned to 64 bytes and not
// initialised; under FEWPAIRS_POISON all its bits are ones, which is NaN as float, double, bfloat16 and half. Of the
// scratches that a thread has at a time, one uses the thread's shelf first; under FEWPAIRS_POISON none does.
class Scratch {
  public:
    Scratch() {
#ifndef FEWPAIRS_POISON
        if (Shelf &mine = shelf(); !mine.taken && mine.start()) {
            shelf_ = &mine;
            mine.taken = true;
        }
#endif
    }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    ~Scratch() {
        if (shelf_) shelf_->taken = false;
        for (int i = 0; i < count_; ++i) std::free(blocks_[i]);
    }

    float *floats(int64_t n) { return many<float>(n); }

    // n numbers of type T, or nullptr, after which ok() is false.
    template <class T> T *many(int64_t n) {
        constexpr int64_t most = INT64_MAX / 2 / static_cast<int64_t>(sizeof(T));
        if (n < 0 || n > most) return fail<T>();
        const size_t bytes = (static_cast<size_t>(n) * sizeof(T) + 63) / 64 * 64 + (n == 0 ? 64 : 0);
        if (shelf_ && bytes <= Shelf::size - used_) {
            used_ += bytes;
            return reinterpret_cast<T *>(shelf_->start() + used_ - bytes);
        }
        if (count_ == limit) return fail<T>();
        void *block = std::aligned_alloc(64, bytes);
        if (!block) return fail<T>();
#ifdef FEWPAIRS_POISON
        std::memset(block, 0xFF, bytes);
#endif
        blocks_[count_++] = block;
        return static_cast<T *>(block);
    }

    bool ok() const { return ok_; }

  private:
    static constexpr int limit = 32;

    template <class T> T *fail() {
        ok_ = false;
        return nullptr;
    }

    static Shelf &shelf() {
        thread_local Shelf mine;
        return mine;
    }

    void *blocks_[limit];
    int count_ = 0;
    bool ok_ = true;
    Shelf *shelf_ = nullptr;
    size_t used_ = 0;
};

// One Room for each thread of a call, made by `make(scratch)` when the thread first asks for it. Where there was no
// memory for it, `get` gives nullptr.
template <class Room> class Rooms {
  public:
    explicit Rooms(int threads) : count_(threads < 1 ? 1 : threads), made_(new (std::nothrow) Furnished *[count_]()) {}
    Rooms(const Rooms &) = delete;
    Rooms &operator=(const Rooms &) = delete;
    ~Rooms() {
        for (int i = 0; made_ && i < count_; ++i) delete made_[i];
        delete[] made_;
    }

    template <class Make> Room *get(int thread, Make make) {
        if (!made_) return nullptr;
        Furnished *&mine = made_[thread];
        if (!mine) mine = new (std::nothrow) Furnished(make);
        return mine && mine->scratch.ok() ? &mine->room : nullptr;
    }

  private:
    struct Furnished {
        template <class Make> explicit Furnished(Make make) : room(make(scratch)) {}
        Scratch scratch;
        Room room;
    };
    int count_;
    Furnished **made_;
};

}  // namespace fewpairs
