// Small functions that show what `parallel.h` promises.
#include "parallel.h"

#include <chrono>
#include <cmath>
#include <sys/syscall.h>
#include <unistd.h>

using namespace fewpairs;

extern "C" int toy_double(const float *x, float *y, int64_t n, int threads) {
    parallel(n, threads, [&](int64_t i, int) { y[i] = 2 * x[i]; });
    return done;
}

// Which thread had each task, by the number that f was given and by the system's.
extern "C" int toy_threads(int64_t *given, int64_t *system, int64_t tasks, int threads) {
    parallel(tasks, threads, [&](int64_t task, int thread) {
        given[task] = thread;
        system[task] = syscall(SYS_gettid);
        for (volatile int spin = 0; spin < 20000; spin = spin + 1) {}
    });
    return done;
}

// Whether `together` tasks run at the same time: each waits for the others, `ms` milliseconds at most.
extern "C" int toy_meet(int together, int threads, int ms, int *met) {
    std::atomic<int> here{0}, alone{0};
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(ms);
    parallel(together, threads, [&](int64_t, int) {
        here.fetch_add(1);
        while (here.load() < together) {
            if (std::chrono::steady_clock::now() > end) {
                alone.fetch_add(1);
                return;
            }
            usleep(100);
        }
    });
    *met = alone.load() == 0;
    return done;
}

// Fails in the tasks whose request for n numbers is refused.
extern "C" int toy_scratch(int64_t n, int64_t tasks, int threads, float *first, int *aligned) {
    Failure failure;
    parallel(tasks, threads, [&](int64_t task, int) {
        Scratch scratch;
        float *some = scratch.floats(3);
        float *block = scratch.floats(n);
        if (!scratch.ok()) return failure.set(no_memory);
        if (task == 0) {
            *first = block[0];
            *aligned = reinterpret_cast<uintptr_t>(block) % 64 == 0 && reinterpret_cast<uintptr_t>(some) % 64 == 0;
        }
    });
    return failure.status();
}

extern "C" int toy_special(float x, int *nan, int *infinite) {
    *nan = x != x && std::isnan(x);
    *infinite = std::isinf(x);
    return done;
}
