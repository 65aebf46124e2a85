// One step of a Llama-shaped model over a few tokens, in one call: for decoding, where torch spends as long between its
// operators as in them. Optional: `packed_forward.py` computes the same in torch, and tests hold both to transformers.
//
// Weights are read where they lie, row-major [outputs, inputs], so nothing is packed or copied for this. With few tokens
// a step is bound by reading them once; beyond some dozens torch's packed products win and the caller takes those.
// Activations between layers stay in float32. One OpenMP region spans the step; threads meet at barriers.
//
// Plain C interface; the structs mirror those in `native_step.py`. Compiled on the machine that runs it (-march=native).

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <omp.h>
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

// exp(x) by 2^k · 2^f with a polynomial for 2^f: relative error below 4e-7. Branch-free, so that loops over it vectorise.
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

// dot products of R weight rows with C inputs: out[c * R + r]
template <int R, int C, typename T>
inline void dots(const T* weight, size_t inputs, const T* x, float* out) {
    constexpr int W = 16;
    float sums[R][C][W] = {};
    size_t i = 0;
    for (; i + W <= inputs; i += W)
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < C; ++c)
#pragma omp simd
                for (int w = 0; w < W; ++w)
                    sums[r][c][w] += wide(weight[r * inputs + i + w]) * wide(x[c * inputs + i + w]);
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) {
            float total = 0;
            for (int w = 0; w < W; ++w) total += sums[r][c][w];
            for (size_t j = i; j < inputs; ++j) total += wide(weight[r * inputs + j]) * wide(x[c * inputs + j]);
            out[c * R + r] = total;
        }
}

#ifdef HAS_BF16_DOT
template <int R, int C>
inline void dots(const bf16* weight, size_t inputs, const bf16* x, float* out) {
    __m512 sums[R][C];
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) sums[r][c] = _mm512_setzero_ps();
    auto add = [&](size_t i, __mmask32 mask) {
        __m512bh rows[R];
        for (int r = 0; r < R; ++r) rows[r] = (__m512bh)_mm512_maskz_loadu_epi16(mask, weight + r * inputs + i);
        for (int c = 0; c < C; ++c) {
            __m512bh column = (__m512bh)_mm512_maskz_loadu_epi16(mask, x + c * inputs + i);
            for (int r = 0; r < R; ++r) sums[r][c] = _mm512_dpbf16_ps(sums[r][c], rows[r], column);
        }
    };
    size_t i = 0;
    for (; i + 32 <= inputs; i += 32) add(i, 0xffffffffu);
    if (i < inputs) add(i, (1u << (inputs - i)) - 1);
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) out[c * R + r] = _mm512_reduce_add_ps(sums[r][c]);
}
#endif

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

// y = x Wᵀ + b for this thread's outputs; `put(token, output, value)` says what becomes of each.
template <typename T, typename Put>
void linear(const T* weight, const T* bias, const T* x, size_t tokens, size_t inputs, size_t outputs, Put put) {
    constexpr size_t R = 4, C = 4;
    Share share(outputs, R);
    float found[R * C];
    auto emit = [&](size_t output, size_t rows, size_t token, size_t columns) {
        for (size_t c = 0; c < columns; ++c)
            for (size_t r = 0; r < rows; ++r)
                put(token + c, output + r, found[c * rows + r] + (bias ? wide(bias[output + r]) : 0.0f));
    };
    size_t output = share.begin;
    for (; output + R <= share.end; output += R) {
        const T* rows = weight + output * inputs;
        size_t token = 0;
        for (; token + C <= tokens; token += C) {
            dots<R, C>(rows, inputs, x + token * inputs, found);
            emit(output, R, token, C);
        }
        if (tokens - token == 3) dots<R, 3>(rows, inputs, x + token * inputs, found);
        if (tokens - token == 2) dots<R, 2>(rows, inputs, x + token * inputs, found);
        if (tokens - token == 1) dots<R, 1>(rows, inputs, x + token * inputs, found);
        emit(output, R, token, tokens - token);
    }
    for (; output < share.end; ++output)
        for (size_t token = 0; token < tokens; ++token) {
            dots<1, 1>(weight + output * inputs, inputs, x + token * inputs, found);
            emit(output, 1, token, 1);
        }
}

template <typename T, typename Out>
inline void rms_norm(const float* x, const T* weight, float epsilon, size_t width, Out* out) {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (size_t i = 0; i < width; ++i) squares += x[i] * x[i];
    float inverse = 1.0f / std::sqrt(squares / float(width) + epsilon);
#pragma omp simd
    for (size_t i = 0; i < width; ++i) out[i] = narrow<Out>(x[i] * inverse * wide(weight[i]));
}

template <typename T> inline float dot(const float* x, const T* y, size_t width) {
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (size_t i = 0; i < width; ++i) total += x[i] * wide(y[i]);
    return total;
}

// One query head over the first `length` positions of its row; `scores` is scratch of that many floats.
template <typename T>
void attend(const float* query, const T* keys, const T* values, size_t length, size_t width, float* scores, T* out) {
    float highest = -INFINITY;
    for (size_t p = 0; p < length; ++p) {
        scores[p] = dot(query, keys + p * width, width);
        highest = std::max(highest, scores[p]);
    }
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (size_t p = 0; p < length; ++p) {
        scores[p] = fast_exp(scores[p] - highest);
        total += scores[p];
    }
    float inverse = 1.0f / total;
    size_t i = 0;
    constexpr size_t W = 64;  // four registers of sums stay in registers while the positions go by
    for (; i + W <= width; i += W) {
        float sums[W] = {};
        for (size_t p = 0; p < length; ++p) {
            float weight = scores[p];
            const T* value = values + p * width + i;
#pragma omp simd
            for (size_t w = 0; w < W; ++w) sums[w] += weight * wide(value[w]);
        }
        for (size_t w = 0; w < W; ++w) out[i + w] = narrow<T>(sums[w] * inverse);
    }
    for (; i < width; ++i) {
        float sum = 0;
        for (size_t p = 0; p < length; ++p) sum += scores[p] * wide(values[p * width + i]);
        out[i] = narrow<T>(sum * inverse);
    }
}

struct Layer {
    const void *input_norm, *attention_norm, *query_norm, *key_norm;
    const void *query, *key, *value, *output, *gate, *up, *down;
    const void *query_bias, *key_bias, *value_bias, *output_bias, *gate_bias, *up_bias, *down_bias;
};

struct Model {
    int64_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary;
    float scale, epsilon;
    const void *embedding, *norm, *head, *head_bias;
    const Layer* layer;
};

// The cache [layers, 2, rows, kv_heads, positions, head_dim] and the tables of cosines and sines [positions, head_dim/2].
struct Cache {
    void* block;
    int64_t rows, positions;
    const float *cosines, *sines;
};

// N tokens: ids, rows and positions [N]; wanted: indices of those whose logits are wanted, [wanted_count].
struct Step {
    int64_t tokens, wanted_count, longest, threads;
    const int64_t *ids, *rows, *positions, *wanted;
    float* logits;
    void* scratch;
};

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

template <typename T> struct Scratch {
    float *residual, *heads, *scores;
    T *normed, *seen, *middle;
    size_t bytes;
    Scratch(const Model& m, int64_t tokens, int64_t longest, int64_t threads, char* base) {
        size_t at = 0;
        auto take = [&](size_t count, size_t size) {
            char* place = base + at;
            at += aligned(count * size);
            return place;
        };
        residual = (float*)take(tokens * m.hidden, 4);
        heads = (float*)take(tokens * (m.heads + 2 * m.kv_heads) * m.head_dim, 4);
        scores = (float*)take(threads * aligned(longest), 4);
        normed = (T*)take(tokens * m.hidden, sizeof(T));
        seen = (T*)take(tokens * m.heads * m.head_dim, sizeof(T));
        middle = (T*)take(tokens * m.intermediate, sizeof(T));
        bytes = at;
    }
};

// Norm and turn one head of one token; keys and values go to the cache.
template <typename T>
void place_head(const Model& m, const Layer& l, const Cache& cache, T* stored, int64_t row, int64_t position,
                int64_t head, float* x) {
    size_t width = m.head_dim, half = width / 2;
    bool is_query = head < m.heads, is_value = head >= m.heads + m.kv_heads;
    if (!is_value) {
        const T* norm = (const T*)(is_query ? l.query_norm : l.key_norm);
        if (norm) rms_norm(x, norm, m.epsilon, width, x);
        const float *cosines = cache.cosines + position * half, *sines = cache.sines + position * half;
        float factor = is_query ? m.scale : 1.0f;
#pragma omp simd
        for (size_t i = 0; i < half; ++i) {
            float first = x[i], second = x[i + half];
            x[i] = (first * cosines[i] - second * sines[i]) * factor;
            x[i + half] = (second * cosines[i] + first * sines[i]) * factor;
        }
    }
    if (is_query) return;
    int64_t kv_head = (head - m.heads) % m.kv_heads;
    T* target = stored + (((is_value * cache.rows + row) * m.kv_heads + kv_head) * cache.positions + position) * width;
#pragma omp simd
    for (size_t i = 0; i < width; ++i) target[i] = narrow<T>(x[i]);
}

template <typename T> void run(const Model& m, const Cache& cache, const Step& s) {
    Scratch<T> scratch(m, s.tokens, s.longest, s.threads, (char*)s.scratch);
    const size_t hidden = m.hidden, width = m.head_dim, queries = m.heads * width, shared = m.kv_heads * width;
    const size_t all = queries + 2 * shared, group = m.heads / m.kv_heads, tokens = s.tokens;
    const size_t side = cache.rows * m.kv_heads * cache.positions * width;  // all keys, or all values, of a layer
#pragma omp parallel num_threads(s.threads)
    {
        float* scores = scratch.scores + omp_get_thread_num() * aligned(s.longest);
        const Share mine(tokens);
        for (size_t t = mine.begin; t < mine.end; ++t)
            for (size_t i = 0; i < hidden; ++i)
                scratch.residual[t * hidden + i] = wide(((const T*)m.embedding)[s.ids[t] * hidden + i]);
        auto norm_all = [&](const void* weight) {
            for (size_t t = mine.begin; t < mine.end; ++t)
                rms_norm(scratch.residual + t * hidden, (const T*)weight, m.epsilon, hidden, scratch.normed + t * hidden);
#pragma omp barrier
        };
        auto add_to_residual = [&](size_t t, size_t o, float y) { scratch.residual[t * hidden + o] += y; };
        for (int64_t place = 0; place < m.layers; ++place) {
            const Layer& l = m.layer[place];
            T* stored = (T*)cache.block + place * 2 * side;
            norm_all(l.input_norm);
            auto project = [&](const void* weight, const void* bias, size_t outputs, size_t offset) {
                linear((const T*)weight, (const T*)bias, scratch.normed, tokens, hidden, outputs,
                       [&](size_t t, size_t o, float y) { scratch.heads[t * all + offset + o] = y; });
            };
            project(l.query, l.query_bias, queries, 0);
            project(l.key, l.key_bias, shared, queries);
            project(l.value, l.value_bias, shared, queries + shared);
#pragma omp barrier
            const size_t heads = m.heads + 2 * m.kv_heads;
            const Share placed(tokens * heads);
            for (size_t item = placed.begin; item < placed.end; ++item)
                place_head(m, l, cache, stored, s.rows[item / heads], s.positions[item / heads], item % heads,
                           scratch.heads + item / heads * all + item % heads * width);
#pragma omp barrier
            const Share asked(tokens * m.heads);
            for (size_t item = asked.begin; item < asked.end; ++item) {
                size_t t = item / m.heads, head = item % m.heads;
                const T* keys = stored + (s.rows[t] * m.kv_heads + head / group) * cache.positions * width;
                attend(scratch.heads + t * all + head * width, keys, keys + side, s.positions[t] + 1, width, scores,
                       scratch.seen + t * queries + head * width);
            }
#pragma omp barrier
            linear((const T*)l.output, (const T*)l.output_bias, scratch.seen, tokens, queries, hidden, add_to_residual);
#pragma omp barrier
            norm_all(l.attention_norm);
            // The same thread computes the same outputs of gate and up, so the two meet without a barrier between them.
            linear((const T*)l.gate, (const T*)l.gate_bias, scratch.normed, tokens, hidden, m.intermediate,
                   [&](size_t t, size_t o, float y) { scratch.middle[t * m.intermediate + o] = narrow<T>(y / (1.0f + fast_exp(-y))); });
            linear((const T*)l.up, (const T*)l.up_bias, scratch.normed, tokens, hidden, m.intermediate,
                   [&](size_t t, size_t o, float y) {
                       T& middle = scratch.middle[t * m.intermediate + o];
                       middle = narrow<T>(wide(middle) * y);
                   });
#pragma omp barrier
            linear((const T*)l.down, (const T*)l.down_bias, scratch.middle, tokens, m.intermediate, hidden, add_to_residual);
#pragma omp barrier
        }
        const Share drawn(s.wanted_count);
        for (size_t w = drawn.begin; w < drawn.end; ++w)
            rms_norm(scratch.residual + s.wanted[w] * hidden, (const T*)m.norm, m.epsilon, hidden, scratch.normed + w * hidden);
#pragma omp barrier
        linear((const T*)m.head, (const T*)m.head_bias, scratch.normed, s.wanted_count, hidden, m.vocabulary,
               [&](size_t t, size_t o, float y) { s.logits[t * m.vocabulary + o] = y; });
    }
}

}  // namespace

extern "C" {

int64_t thumbwise_abi() { return 1; }

int64_t thumbwise_scratch_bytes(const Model* model, int64_t tokens, int64_t longest, int64_t threads) {
    return Scratch<float>(*model, tokens, longest, threads, nullptr).bytes;
}

void thumbwise_step_float32(const Model* model, const Cache* cache, const Step* step) { run<float>(*model, *cache, *step); }

void thumbwise_step_bfloat16(const Model* model, const Cache* cache, const Step* step) { run<bf16>(*model, *cache, *step); }
}
