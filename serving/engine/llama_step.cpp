// One step of a Llama-shaped model over a ragged line of tokens, in one call: torch spends as long between operators
// as in them. Optional: `packed_forward.py` computes the same in torch, and tests hold both to transformers.
//
// With few tokens a step is bound by reading the weights once, so they lie in blocks that are read straight through.
// Activations between layers stay in float32. One OpenMP region spans the step; threads meet some 240 times in it.
//
// Plain C interface; the structs mirror those in `native_step.py`. Compiled on the machine that runs it (-march=native).

#include "llama_products.h"

namespace {

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

template <typename T> void score(const float* query, const T* keys, size_t length, size_t width, float* scores) {
    for (size_t p = 0; p < length; ++p) scores[p] = dot(query, keys + p * width, width);
}

#ifdef HAS_BF16_DOT
// Lane j of the result is the sum of vector j: a transposition by halves, instead of sixteen sums across lanes.
inline __m512 sum_each(const __m512* v) {
    __m512 pairs[8], fours[4];
    for (int i = 0; i < 8; ++i)
        pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]),
                                 _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]));
    for (int i = 0; i < 4; ++i)
        fours[i] = _mm512_add_ps(_mm512_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], 0x44),
                                 _mm512_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], 0xee));
    __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(fours[0], fours[1], 0x44),
                               _mm512_shuffle_f32x4(fours[0], fours[1], 0xee));
    __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(fours[2], fours[3], 0x44),
                                _mm512_shuffle_f32x4(fours[2], fours[3], 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}

template <> void score<bf16>(const float* query, const bf16* keys, size_t length, size_t width, float* scores) {
    constexpr size_t WIDEST = 256;
    size_t p = 0;
    if (width % 32 == 0 && width <= WIDEST) {
        alignas(64) bf16 narrowed[WIDEST];
        for (size_t i = 0; i < width; ++i) narrowed[i] = narrow<bf16>(query[i]);
        for (; p + 16 <= length; p += 16) {
            __m512 sums[16];
            for (int j = 0; j < 16; ++j) sums[j] = _mm512_setzero_ps();
            for (size_t i = 0; i < width; i += 32) {
                __m512bh part = (__m512bh)load<__m512i>(narrowed + i);
                for (int j = 0; j < 16; ++j)
                    sums[j] = _mm512_dpbf16_ps(sums[j], part, (__m512bh)load<__m512i>(keys + (p + j) * width + i));
            }
            _mm512_storeu_ps(scores + p, sum_each(sums));
        }
    }
    for (; p < length; ++p) scores[p] = dot(query, keys + p * width, width);
}
#endif

// One query head over the first `length` positions of its row; `scores` is scratch of that many floats.
template <typename T>
void attend(const float* query, const T* keys, const T* values, size_t length, size_t width, float* scores, T* out) {
    score(query, keys, length, width, scores);
    float highest = -INFINITY;
#pragma omp simd reduction(max : highest)
    for (size_t p = 0; p < length; ++p) highest = std::max(highest, scores[p]);
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

// Weights in blocks (above), gate and up in turns; biases in float32, padded to whole blocks, null where there is none.
struct Layer {
    const void *input_norm, *attention_norm, *query_norm, *key_norm;
    const void *qkv, *output, *gate_up, *down;
    const float *qkv_bias, *output_bias, *gate_up_bias, *down_bias;
};

struct Model {
    int64_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary;
    float scale, epsilon;
    const void *embedding, *norm, *head;
    const float* head_bias;
    const Layer* layer;
};

// The cache [layers, 2, rows, kv_heads, positions, head_dim]; tables of cosines and sines [positions, head_dim / 2].
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
    float *residual, *heads, *gates, *scores;
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
        gates = (float*)take(tokens * 2 * m.intermediate, 4);
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
    Meeting meeting;
#pragma omp parallel num_threads(s.threads)
    {
        float* scores = scratch.scores + omp_get_thread_num() * aligned(s.longest);
        const Share mine(tokens);
        for (size_t t = mine.begin; t < mine.end; ++t)
            for (size_t i = 0; i < hidden; ++i)
                scratch.residual[t * hidden + i] = wide(((const T*)m.embedding)[s.ids[t] * hidden + i]);
        auto norm_all = [&](const void* weight) {
            for (size_t t = mine.begin; t < mine.end; ++t)
                rms_norm(scratch.residual + t * hidden, (const T*)weight, m.epsilon, hidden,
                         scratch.normed + t * hidden);
            meeting.wait();
        };
        auto plus_bias = [](lanes y, const float* bias, size_t o) { return bias ? y + load<lanes>(bias + o) : y; };
        auto add_to_residual = [&](const float* bias) {
            return [&, bias](size_t t, size_t o, lanes y) {
                float* residual = scratch.residual + t * hidden + o;
                lanes sum = load<lanes>(residual) + plus_bias(y, bias, o);
                std::memcpy(residual, &sum, sizeof sum);
            };
        };
        auto store_in = [&](float* out, size_t stride, const float* bias) {
            return [=](size_t t, size_t o, lanes y) {
                y = plus_bias(y, bias, o);
                std::memcpy(out + t * stride + o, &y, sizeof y);
            };
        };
        for (int64_t place = 0; place < m.layers; ++place) {
            const Layer& l = m.layer[place];
            T* stored = (T*)cache.block + place * 2 * side;
            norm_all(l.input_norm);
            linear(l.qkv, scratch.normed, tokens, hidden, Share(all / LANES), store_in(scratch.heads, all, l.qkv_bias));
            meeting.wait();
            const size_t heads = m.heads + 2 * m.kv_heads;
            const Share placed(tokens * heads);
            for (size_t item = placed.begin; item < placed.end; ++item)
                place_head(m, l, cache, stored, s.rows[item / heads], s.positions[item / heads], item % heads,
                           scratch.heads + item / heads * all + item % heads * width);
            meeting.wait();
            const Share asked(tokens * m.heads);
            for (size_t item = asked.begin; item < asked.end; ++item) {
                size_t t = item / m.heads, head = item % m.heads;
                const T* keys = stored + (s.rows[t] * m.kv_heads + head / group) * cache.positions * width;
                attend(scratch.heads + t * all + head * width, keys, keys + side, s.positions[t] + 1, width, scores,
                       scratch.seen + t * queries + head * width);
            }
            meeting.wait();
            const Share outputs(hidden / LANES);
            linear(l.output, scratch.seen, tokens, queries, outputs, add_to_residual(l.output_bias));
            meeting.wait();
            norm_all(l.attention_norm);
            // Blocks of gate and up in turns, in shares of two: what a thread needs of both it has computed itself.
            const size_t doubled = 2 * m.intermediate;
            const Share gated(doubled / LANES, 2);
            linear(l.gate_up, scratch.normed, tokens, hidden, gated, store_in(scratch.gates, doubled, l.gate_up_bias));
            for (size_t t = 0; t < tokens; ++t)
                for (size_t block = gated.begin; block < gated.end; block += 2) {
                    const float *gate = scratch.gates + t * doubled + block * LANES, *up = gate + LANES;
                    T* middle = scratch.middle + t * m.intermediate + block / 2 * LANES;
#pragma omp simd
                    for (size_t i = 0; i < LANES; ++i)
                        middle[i] = narrow<T>(gate[i] / (1.0f + fast_exp(-gate[i])) * up[i]);
                }
            meeting.wait();
            linear(l.down, scratch.middle, tokens, size_t(m.intermediate), outputs, add_to_residual(l.down_bias));
            meeting.wait();
        }
        const Share drawn(s.wanted_count);
        for (size_t w = drawn.begin; w < drawn.end; ++w)
            rms_norm(scratch.residual + s.wanted[w] * hidden, (const T*)m.norm, m.epsilon, hidden,
                     scratch.normed + w * hidden);
        meeting.wait();
        const size_t vocabulary = m.vocabulary;
        linear(m.head, scratch.normed, s.wanted_count, hidden, Share((vocabulary + LANES - 1) / LANES),
               [&](size_t t, size_t o, lanes y) {
                   y = plus_bias(y, m.head_bias, o);
                   std::memcpy(s.logits + t * vocabulary + o, &y, std::min(LANES, vocabulary - o) * sizeof(float));
               });
    }
}

// One product by itself, for steps of many tokens whose attention torch computes: y = x Wᵀ + b + residual.
struct Product {
    const void* weight;
    const float* bias;
    const void *x, *residual;
    void* y;
    int64_t tokens, inputs, outputs, threads;
};

template <typename T> void multiply(const Product& p) {
    const size_t outputs = p.outputs;
#pragma omp parallel num_threads(p.threads)
    linear(p.weight, (const T*)p.x, p.tokens, p.inputs, Share((outputs + LANES - 1) / LANES),
           [&](size_t t, size_t o, lanes y) {
               if (p.bias) y += load<lanes>(p.bias + o);
               T* out = (T*)p.y + t * outputs + o;
               const T* residual = (const T*)p.residual + t * outputs + o;
               for (size_t i = 0; i < std::min(LANES, outputs - o); ++i)
                   out[i] = narrow<T>(p.residual ? y[i] + wide(residual[i]) : y[i]);
           });
}

}  // namespace

extern "C" {

int64_t thumbwise_abi() { return 3; }

int64_t thumbwise_scratch_bytes(const Model* model, int64_t tokens, int64_t longest, int64_t threads) {
    return Scratch<float>(*model, tokens, longest, threads, nullptr).bytes;
}

void thumbwise_step_float32(const Model* model, const Cache* cache, const Step* step) {
    run<float>(*model, *cache, *step);
}

void thumbwise_step_bfloat16(const Model* model, const Cache* cache, const Step* step) {
    run<bf16>(*model, *cache, *step);
}

void thumbwise_product_float32(const Product* product) { multiply<float>(*product); }

void thumbwise_product_bfloat16(const Product* product) { multiply<bf16>(*product); }
}
