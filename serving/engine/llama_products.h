// Numbers, lanes and products for `llama_step.cpp`: what of it knows no model.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <omp.h>
#include <sched.h>
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#include <immintrin.h>
#define HAS_BF16_DOT 1
#endif

namespace {

struct bf16 {
    uint16_t bits;
};

inline float wide(float value) { return value; }
inline float wide(bf16 value) {
    uint32_t bits = uint32_t(value.bits) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}
template <typename T> inline T narrow(float value);
template <> inline float narrow<float>(float value) { return value; }
template <> inline bf16 narrow<bf16>(float value) {  // to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

// exp(x) by 2^k · 2^f with a polynomial for 2^f, relative error below 4e-7. Branch-free, so that loops vectorise.
inline float fast_exp(float x) {
    x = std::min(std::max(x, -87.0f), 88.0f) * 1.44269504f;
    float whole = std::nearbyint(x), f = x - whole;
    float p = 1.5353362e-4f;
    p = p * f + 1.3398874e-3f;
    p = p * f + 9.6184373e-3f;
    p = p * f + 5.5503324e-2f;
    p = p * f + 2.4022648e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    uint32_t bits = uint32_t(int32_t(whole) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, 4);
    return p * scale;
}

// Sixteen lanes; the compiler makes of them what the processor has.
typedef float lanes __attribute__((vector_size(64)));
typedef uint32_t lane_bits __attribute__((vector_size(64)));
constexpr size_t LANES = 16;

template <typename V> inline V load(const void* from) {
    V out;
    std::memcpy(&out, from, sizeof(V));
    return out;
}

// Matrices lie in blocks of sixteen outputs: float32 as [inputs][16], bfloat16 as [inputs/2][16][2]. So a lane is an
// output, nothing is summed across lanes, and a block is one stretch of memory (rows apart: half the speed).
// A tile: B blocks times C inputs, all sums in registers.
template <int C, int B> inline void tile(const float* weight, const float* x, size_t inputs, lanes sums[C][B]) {
    for (size_t i = 0; i < inputs; ++i) {
        lanes rows[B];
        for (int b = 0; b < B; ++b) rows[b] = load<lanes>(weight + (b * inputs + i) * LANES);
        for (int c = 0; c < C; ++c)
            for (int b = 0; b < B; ++b) sums[c][b] += rows[b] * x[c * inputs + i];
    }
}

template <int C, int B> inline void tile(const bf16* weight, const bf16* x, size_t inputs, lanes sums[C][B]) {
    for (size_t i = 0; i < inputs; i += 2) {
#ifdef HAS_BF16_DOT
        __m512bh rows[B];
        for (int b = 0; b < B; ++b) rows[b] = (__m512bh)load<__m512i>(weight + (b * inputs + i) * LANES);
        for (int c = 0; c < C; ++c) {
            __m512bh pair = (__m512bh)_mm512_set1_epi32(load<int>(x + c * inputs + i));
            for (int b = 0; b < B; ++b) sums[c][b] = (lanes)_mm512_dpbf16_ps((__m512)sums[c][b], rows[b], pair);
        }
#else
        for (int b = 0; b < B; ++b) {
            lane_bits bits = load<lane_bits>(weight + (b * inputs + i) * LANES);
            lanes first = (lanes)(bits << 16), second = (lanes)(bits & 0xffff0000u);
            for (int c = 0; c < C; ++c)
                sums[c][b] += first * wide(x[c * inputs + i]) + second * wide(x[c * inputs + i + 1]);
        }
#endif
    }
}

inline void pause_a_moment() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Where the threads of a step meet, some 240 times in it. OpenMP's own barrier goes to sleep at once when the process
// has more OpenMP threads than there are cores, which it has as soon as two of its threads have ever used OpenMP: a step
// of one reply then takes half as long again. This one spins for some 20 µs, longer than a fair share is ever late, then
// gives the core away: the thread that is waited for may need it.
class Meeting {
    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<unsigned> turn{0};

  public:
    void wait() {
        const int threads = omp_get_num_threads();
        if (threads == 1) return;
        const unsigned now = turn.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
            arrived.store(0, std::memory_order_relaxed);
            turn.store(now + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; turn.load(std::memory_order_acquire) == now; ++spins) {
            if (spins < 1000)
                pause_a_moment();
            else
                sched_yield();
        }
    }
};

// This thread's share of [begin, end) out of `count`, in multiples of `grain`.
struct Share {
    size_t begin, end;
    Share(size_t count, size_t grain = 1) {
        size_t threads = omp_get_num_threads(), self = omp_get_thread_num();
        size_t grains = (count + grain - 1) / grain;
        begin = std::min(count, grains * self / threads * grain);
        end = std::min(count, grains * (self + 1) / threads * grain);
    }
};

template <int C, int B, typename T, typename Put>
inline void put_tile(const T* weight, const T* x, size_t inputs, size_t token, size_t block, Put& put) {
    lanes sums[C][B] = {};
    tile<C, B>(weight + block * LANES * inputs, x + token * inputs, inputs, sums);
    for (int c = 0; c < C; ++c)
        for (int b = 0; b < B; ++b) put(token + c, (block + b) * LANES, sums[c][b]);
}

template <int B, typename T, typename Put>
inline void put_blocks(const T* weight, const T* x, size_t tokens, size_t inputs, size_t block, Put& put) {
    constexpr size_t C = B == 4 ? 4 : 8;
    size_t t = 0;
    for (; t + C <= tokens; t += C) put_tile<C, B>(weight, x, inputs, t, block, put);
    switch (tokens - t) {
        case 7: return put_tile<7 < C ? 7 : 1, B>(weight, x, inputs, t, block, put);
        case 6: return put_tile<6 < C ? 6 : 1, B>(weight, x, inputs, t, block, put);
        case 5: return put_tile<5 < C ? 5 : 1, B>(weight, x, inputs, t, block, put);
        case 4: return put_tile<4 < C ? 4 : 1, B>(weight, x, inputs, t, block, put);
        case 3: return put_tile<3, B>(weight, x, inputs, t, block, put);
        case 2: return put_tile<2, B>(weight, x, inputs, t, block, put);
        case 1: return put_tile<1, B>(weight, x, inputs, t, block, put);
    }
}

// y = x Wᵀ for this thread's blocks [begin, end); `put(token, output, lanes)` says what becomes of sixteen outputs.
template <typename T, typename Put>
void linear(const void* weight, const T* x, size_t tokens, size_t inputs, Share share, Put put) {
    const T* blocks = (const T*)weight;
    size_t block = share.begin;
    if (tokens <= 4)
        for (; block + 4 <= share.end; block += 4) put_blocks<4>(blocks, x, tokens, inputs, block, put);
    for (; block + 2 <= share.end; block += 2) put_blocks<2>(blocks, x, tokens, inputs, block, put);
    for (; block < share.end; ++block) put_blocks<1>(blocks, x, tokens, inputs, block, put);
}

}  // namespace
