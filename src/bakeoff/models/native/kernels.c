/* The parts of a training step that torch's own kernels are slow at on a processor, in bfloat16 and channels-last.

   A picture's map is rows of channels, [rows][channels]; a row is a pixel. Sums are taken in float32 over pieces of
   rows and in float64 over the pieces, in an order that depends on the number of threads and on nothing else. */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bf16;
enum { NONE = 0, RELU = 1, GELU = 2 };
enum { LANES = 16, PIECE = 128 };

typedef float floats __attribute__((vector_size(64)));
typedef int32_t ints __attribute__((vector_size(64)));
typedef uint32_t words __attribute__((vector_size(64)));
typedef bf16 halves __attribute__((vector_size(32)));
typedef uint8_t bytes __attribute__((vector_size(16)));

static inline halves load(const bf16 *from) {
    halves value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline floats load_floats(const float *from) {
    floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void store(bf16 *to, halves value) { memcpy(to, &value, sizeof value); }

static inline floats widen(halves value) { return (floats)(__builtin_convertvector(value, words) << 16); }

static inline floats wide(const bf16 *from) { return widen(load(from)); }

/* Round to nearest, ties to even; infinities stay, and so do the NaNs of arithmetic. */
static inline halves narrow(floats value) {
    words bits = (words)value;
    return __builtin_convertvector((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16, halves);
}

static inline floats where(ints mask, floats value) { return (floats)((ints)value & mask); } /* else zero */

static inline floats choose(ints mask, floats yes, floats no) {
    return (floats)(((ints)yes & mask) | ((ints)no & ~mask));
}

static inline floats exponential(floats x) { /* relative error below 3e-7 on [-80, 80], where it is cut off */
    floats most = (floats){0} + 80;
    x = choose(x < -80, -most, choose(x > 80, most, x));
    floats t = x * 1.44269504f, whole = (t + 12582912.f) - 12582912.f, f = t - whole; /* the sum rounds to a whole */
    floats p = 1.8775767e-3f * f + 8.9893397e-3f;
    p = p * f + 5.5826318e-2f;
    p = p * f + 2.4015361e-1f;
    p = p * f + 6.9315308e-1f;
    p = p * f + 9.9999994e-1f;
    return (floats)((ints)p + (__builtin_convertvector(whole, ints) << 23));
}

/* Hendrycks and Gimpel 2016, the form with tanh: z times the sigmoid of 2 sqrt(2/pi) (z + 0.044715 z^3). */
static inline floats gate(floats z) { return 1.f / (1.f + exponential(-1.59576912f * (z + 0.044715f * z * z * z))); }

static inline floats act(floats z, int kind) {
    if (kind == RELU) return where(~(z < 0), z); /* a NaN stays */
    return kind == GELU ? z * gate(z) : z;
}

/* The gradient d times the slope at z. */
static inline floats through(floats d, floats z, int kind) {
    if (kind == RELU) return where(z > 0, d);
    if (kind == NONE) return d;
    floats s = gate(z);
    return d * (s + z * s * (1.f - s) * (1.59576912f + 0.21406f * z * z));
}

static inline void share(long num, int parts, int part, long *first, long *last) {
    *first = num * part / parts;
    *last = num * (part + 1) / parts;
}

/* Add one thread's two sums for each channel to `sums` [2][channels], piece by piece; LANE sets `one` and `other`. */
#define SUMS(LANE)                                                                                                    \
    for (long piece = first; piece < last; piece += PIECE) {                                                          \
        long end = piece + PIECE < last ? piece + PIECE : last;                                                       \
        for (long c = 0; c < channels; c += LANES) {                                                                  \
            floats a = {0}, b = {0}, one, other;                                                                      \
            for (long at = piece * channels + c; at < end * channels; at += channels) {                               \
                LANE;                                                                                                 \
                a += one;                                                                                             \
                b += other;                                                                                           \
            }                                                                                                         \
            for (int l = 0; l < LANES; l++) sums[c + l] += a[l], sums[channels + c + l] += b[l];                      \
        }                                                                                                             \
    }

static inline __attribute__((always_inline)) void apply_rows(
    const bf16 *x, const bf16 *add, const float *scale, const float *shift, bf16 *y, long first, long last,
    long channels, int kind) {
    for (long r = first; r < last; r++)
        for (long c = 0, at = r * channels; c < channels; c += LANES, at += LANES) {
            floats z = wide(x + at) * load_floats(scale + c) + load_floats(shift + c);
            store(y + at, narrow(act(add ? z + wide(add + at) : z, kind)));
        }
}

static void apply_kind(const bf16 *x, const bf16 *add, const float *scale, const float *shift, bf16 *y, long first,
                       long last, long channels, long kind) {
    if (kind == RELU) apply_rows(x, add, scale, shift, y, first, last, channels, RELU);
    else if (kind == GELU) apply_rows(x, add, scale, shift, y, first, last, channels, GELU);
    else apply_rows(x, add, scale, shift, y, first, last, channels, NONE);
}

/* y = act(x * scale + shift + add) over x [rows][channels]; add may be null. */
int apply(const bf16 *x, const bf16 *add, const float *scale, const float *shift, bf16 *y, long rows, long channels,
          long kind, int threads) {
#pragma omp parallel num_threads(threads)
    {
        long first, last;
        share(rows, omp_get_num_threads(), omp_get_thread_num(), &first, &last);
        apply_kind(x, add, scale, shift, y, first, last, channels, kind);
    }
    return 0;
}

/* Batch norm in training: normalise x by its own mean and variance, scale and shift it by `weight` and `bias`, add and
   activate; let the running statistics follow. mean, inverse (of the standard deviation), scale and shift are what the
   backward pass wants. */
int normalise(const bf16 *x, const bf16 *add, const float *weight, const float *bias, float *running_mean,
              float *running_variance, double eps, double momentum, float *mean, float *inverse, float *scale,
              float *shift, bf16 *y, long rows, long channels, long kind, int threads) {
    double *partial = malloc(sizeof(double) * 2 * channels * threads);
    if (!partial) return 1;
#pragma omp parallel num_threads(threads)
    {
        int team = omp_get_num_threads(), me = omp_get_thread_num(); /* fewer than asked for where there is a limit */
        long first, last;
        share(rows, team, me, &first, &last);
        double *sums = partial + me * 2 * channels;
        memset(sums, 0, sizeof(double) * 2 * channels);
        SUMS(one = wide(x + at); other = one * one)
#pragma omp barrier
#pragma omp single
        for (int c = 0; c < channels; c++) {
            double a = 0, b = 0;
            for (int t = 0; t < team; t++) {
                a += partial[2 * t * channels + c];
                b += partial[(2 * t + 1) * channels + c];
            }
            a /= rows;
            b = b / rows - a * a;
            b = b < 0 ? 0 : b;
            double unbiased = b * rows / (rows - 1);
            mean[c] = (float)a;
            inverse[c] = (float)(1 / sqrt(b + eps));
            scale[c] = weight[c] * inverse[c];
            shift[c] = bias[c] - mean[c] * scale[c];
            running_mean[c] += (float)(momentum * (a - running_mean[c]));
            running_variance[c] += (float)(momentum * (unbiased - running_variance[c]));
        }
        apply_kind(x, add, scale, shift, y, first, last, channels, kind);
    }
    free(partial);
    return 0;
}

static inline __attribute__((always_inline)) void slope_sums(
    const bf16 *dy, const bf16 *x, const bf16 *beside, const float *scale, const float *shift, const float *mean,
    bf16 *dz, double *sums, long first, long last, long channels, int kind) {
    if (beside && kind == RELU) { /* over a sum: where the result is zero nothing passes */
        SUMS(one = where(wide(beside + at) > 0, wide(dy + at)); store(dz + at, narrow(one));
             other = one * (wide(x + at) - load_floats(mean + c)))
    } else {
        SUMS(floats v = wide(x + at); floats z = v * load_floats(scale + c) + load_floats(shift + c);
             if (beside) z += wide(beside + at);
             one = through(wide(dy + at), z, kind);
             if (dz) store(dz + at, narrow(one));
             other = one * (v - load_floats(mean + c)))
    }
}

/* The way back through `normalise`. beside: where something was added before a ReLU the result, before a GELU what was
   added; else null. dz: the gradient before the activation, kept where it is the gradient of what was added, or dear to
   compute twice (GELU); else null. */
int normalise_back(const bf16 *dy, const bf16 *x, const bf16 *beside, const float *mean, const float *inverse,
                   const float *scale, const float *shift, bf16 *dz, bf16 *dx, float *of_weight, float *of_bias,
                   long rows, long channels, long kind, int threads) {
    double *partial = malloc(sizeof(double) * 2 * channels * threads);
    float *a = malloc(sizeof(float) * channels), *b = malloc(sizeof(float) * channels);
    if (!partial || !a || !b) return free(partial), free(a), free(b), 1;
#pragma omp parallel num_threads(threads)
    {
        int team = omp_get_num_threads(), me = omp_get_thread_num(); /* fewer than asked for where there is a limit */
        long first, last;
        share(rows, team, me, &first, &last);
        double *sums = partial + me * 2 * channels;
        memset(sums, 0, sizeof(double) * 2 * channels);
        if (kind == RELU) slope_sums(dy, x, beside, scale, shift, mean, dz, sums, first, last, channels, RELU);
        else if (kind == GELU) slope_sums(dy, x, beside, scale, shift, mean, dz, sums, first, last, channels, GELU);
        else slope_sums(dy, x, 0, scale, shift, mean, dz, sums, first, last, channels, NONE);
#pragma omp barrier
#pragma omp single
        for (int c = 0; c < channels; c++) {
            double s = 0, q = 0;
            for (int t = 0; t < team; t++) {
                s += partial[2 * t * channels + c];
                q += partial[(2 * t + 1) * channels + c];
            }
            of_bias[c] = (float)s;
            of_weight[c] = (float)(q * inverse[c]);
            /* dx = scale (dz - s / n - (x - mean) inverse^2 q / n) = scale dz + b x + a */
            b[c] = (float)(-scale[c] * inverse[c] * inverse[c] * q / rows);
            a[c] = (float)(-scale[c] * s / rows) - b[c] * mean[c];
        }
        int masks = !dz && kind == RELU;
        const bf16 *from = dz ? dz : dy;
        for (long r = first; r < last; r++)
            for (long c = 0, at = r * channels; c < channels; c += LANES, at += LANES) {
                floats v = wide(x + at), d = wide(from + at), by = load_floats(scale + c);
                if (masks) d = where(v * by + load_floats(shift + c) > 0, d);
                store(dx + at, narrow(by * d + load_floats(b + c) * v + load_floats(a + c)));
            }
    }
    free(partial);
    free(a);
    free(b);
    return 0;
}

/* The largest of each 2x2 square, and which of the four it was; a row or column that is left over is not looked at. */
int pool(const bf16 *x, bf16 *y, uint8_t *which, long num, long height, long width, long channels, int threads) {
    long tall = height / 2, broad = width / 2, corner[4] = {0, channels, width * channels, (width + 1) * channels};
#pragma omp parallel for num_threads(threads) collapse(2)
    for (long n = 0; n < num; n++)
        for (long i = 0; i < tall; i++)
            for (long j = 0; j < broad; j++) {
                const bf16 *from = x + ((n * height + 2 * i) * width + 2 * j) * channels;
                long to = ((n * tall + i) * broad + j) * channels;
                for (long c = 0; c < channels; c += LANES) {
                    floats best = wide(from + c);
                    ints place = {0};
                    for (int k = 1; k < 4; k++) {
                        floats other = wide(from + corner[k] + c);
                        ints better = (other > best) | (other != other);
                        best = choose(better, other, best);
                        place = (place & ~better) | (better & k);
                    }
                    store(y + to + c, narrow(best));
                    bytes places = __builtin_convertvector(place, bytes);
                    memcpy(which + to + c, &places, sizeof places);
                }
            }
    return 0;
}

/* The way back through `pool`. */
int unpool(const bf16 *dy, const uint8_t *which, bf16 *dx, long num, long height, long width, long channels,
           int threads) {
    long tall = height / 2, broad = width / 2, corner[4] = {0, channels, width * channels, (width + 1) * channels};
#pragma omp parallel for num_threads(threads)
    for (long n = 0; n < num; n++) {
        bf16 *image = dx + n * height * width * channels;
        for (long i = 0; i < tall; i++) {
            for (long j = 0; j < broad; j++) {
                bf16 *to = image + (2 * i * width + 2 * j) * channels;
                long at = ((n * tall + i) * broad + j) * channels;
                for (long c = 0; c < channels; c += LANES) {
                    halves gradient = load(dy + at + c);
                    bytes places;
                    memcpy(&places, which + at + c, sizeof places);
                    halves place = __builtin_convertvector(places, halves);
                    for (int k = 0; k < 4; k++) store(to + corner[k] + c, gradient & (halves)(place == (bf16)k));
                }
            }
            if (width % 2)
                for (int up = 0; up < 2; up++)
                    memset(image + ((2 * i + up) * width + width - 1) * channels, 0, sizeof(bf16) * channels);
        }
        if (height % 2) memset(image + (height - 1) * width * channels, 0, sizeof(bf16) * width * channels);
    }
    return 0;
}

#ifdef __AVX512BF16__
#include <immintrin.h>

enum { TILE = 16, DEPTH = 32 };

struct shape {
    int num, height, width, in, out, tall, broad; /* pictures; map; channels; map of the result */
    int rows, columns, stride, up, left;          /* filter; stride; padding above and left */
};

/* Products of matrices C += A B, a block of C at a time, of 32 or 16 rows and columns. `take` reads the block, or
   `clear` makes it zero; `accumulate` adds A[rows][depth] B[depth / 2][columns][2]; `put` writes it. Before the first
   and after the last stand `configure_rows` and `release`. Leading dimensions are in elements. */
#ifdef __AMX_BF16__
/* In the matrix unit: tiles 0 to 3 hold the block, 4 and 5 rows of A, 6 and 7 columns of B. */
#include <sys/syscall.h>
#include <unistd.h>

int multiplies(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; } /* the kernel has to allow it */

int has_tiles(void) { return 1; }

/* How many of the first and of the second half of a block's rows there are. */
static void configure_rows(int first, int second) {
    struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = TILE;
    config.rows[0] = config.rows[1] = config.rows[4] = (uint8_t)first;
    config.rows[2] = config.rows[3] = config.rows[5] = (uint8_t)second;
    _tile_loadconfig(&config);
}

static void release(void) { _tile_release(); }

static inline void clear(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static inline __attribute__((always_inline)) void take(const float *c, long ldc, int two_rows, int two_columns) {
    _tile_loadd(0, c, ldc * 4);
    if (two_columns) _tile_loadd(1, c + TILE, ldc * 4);
    if (two_rows) _tile_loadd(2, c + TILE * ldc, ldc * 4);
    if (two_rows && two_columns) _tile_loadd(3, c + TILE * ldc + TILE, ldc * 4);
}

static inline __attribute__((always_inline)) void put(float *c, long ldc, int two_rows, int two_columns) {
    _tile_stored(0, c, ldc * 4);
    if (two_columns) _tile_stored(1, c + TILE, ldc * 4);
    if (two_rows) _tile_stored(2, c + TILE * ldc, ldc * 4);
    if (two_rows && two_columns) _tile_stored(3, c + TILE * ldc + TILE, ldc * 4);
}

static inline __attribute__((always_inline)) void accumulate(
    const bf16 *a, long lda, const bf16 *b, long ldb, long depth, int two_rows, int two_columns) {
    for (long k = 0; k < depth; k += DEPTH) {
        _tile_loadd(4, a + k, lda * 2);
        _tile_loadd(6, b + k * ldb, ldb * 4);
        _tile_dpbf16ps(0, 4, 6);
        if (two_columns) {
            _tile_loadd(7, b + k * ldb + 2 * TILE, ldb * 4);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (two_rows) {
            _tile_loadd(5, a + TILE * lda + k, lda * 2);
            _tile_dpbf16ps(2, 5, 6);
            if (two_columns) _tile_dpbf16ps(3, 5, 7);
        }
    }
}
#else
/* In vectors: the block is in memory that stays in the first cache, and eight rows of it at a time in registers. */
static _Thread_local float held[2 * TILE][2 * TILE] __attribute__((aligned(64)));
static _Thread_local int halves_of_rows[2];

int multiplies(void) { return 1; }

int has_tiles(void) { return 0; }

static void configure_rows(int first, int second) { halves_of_rows[0] = first, halves_of_rows[1] = second; }

static void release(void) {}

static inline int rows_of(int two_rows) { return halves_of_rows[0] + (two_rows ? halves_of_rows[1] : 0); }

static inline void clear(void) { memset(held, 0, sizeof held); }

static inline void take(const float *c, long ldc, int two_rows, int two_columns) {
    for (int r = 0; r < rows_of(two_rows); r++) memcpy(held[r], c + r * ldc, sizeof(float) * TILE * (1 + two_columns));
}

static inline void put(float *c, long ldc, int two_rows, int two_columns) {
    for (int r = 0; r < rows_of(two_rows); r++) memcpy(c + r * ldc, held[r], sizeof(float) * TILE * (1 + two_columns));
}

static inline __attribute__((always_inline)) void strip(
    const bf16 *a, long lda, const bf16 *b, long ldb, long depth, float (*c)[2 * TILE], int rows, int columns) {
    __m512 sums[8][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int t = 0; t < columns; t++) sums[r][t] = _mm512_load_ps(c[r] + TILE * t);
    for (long k = 0; k < depth; k += 2) {
        __m512bh of_b[2];
#pragma GCC unroll 2
        for (int t = 0; t < columns; t++) of_b[t] = (__m512bh)_mm512_loadu_si512(b + k * ldb + 2 * TILE * t);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            int pair;
            memcpy(&pair, a + r * lda + k, sizeof pair);
#pragma GCC unroll 2
            for (int t = 0; t < columns; t++)
                sums[r][t] = _mm512_dpbf16_ps(sums[r][t], (__m512bh)_mm512_set1_epi32(pair), of_b[t]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int t = 0; t < columns; t++) _mm512_store_ps(c[r] + TILE * t, sums[r][t]);
}

static inline __attribute__((always_inline)) void strips(
    const bf16 *a, long lda, const bf16 *b, long ldb, long depth, int rows, int columns) {
    int r = 0;
    for (; r + 8 <= rows; r += 8) strip(a + r * lda, lda, b, ldb, depth, held + r, 8, columns);
    for (; r < rows; r++) strip(a + r * lda, lda, b, ldb, depth, held + r, 1, columns);
}

static void accumulate(
    const bf16 *a, long lda, const bf16 *b, long ldb, long depth, int two_rows, int two_columns) {
    if (two_columns) strips(a, lda, b, ldb, depth, rows_of(two_rows), 2);
    else strips(a, lda, b, ldb, depth, rows_of(two_rows), 1);
}
#endif

static void configure(void) { configure_rows(TILE, TILE); }

static inline int larger(int a, int b) { return a > b ? a : b; }

static inline int floor_div(int a, int b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

static inline __attribute__((always_inline)) void block(
    const bf16 *a, long lda, const bf16 *b, long ldb, float *c, long ldc, long depth, int two_rows, int two_columns) {
    take(c, ldc, two_rows, two_columns);
    accumulate(a, lda, b, ldb, depth, two_rows, two_columns);
    put(c, ldc, two_rows, two_columns);
}

static void multiply(const bf16 *a, long lda, const bf16 *b, long ldb, float *c, long ldc, long depth, int two_rows,
                     int two_columns) {
    if (two_rows && two_columns) block(a, lda, b, ldb, c, ldc, depth, 1, 1);
    else if (two_rows) block(a, lda, b, ldb, c, ldc, depth, 1, 0);
    else if (two_columns) block(a, lda, b, ldb, c, ldc, depth, 0, 1);
    else block(a, lda, b, ldb, c, ldc, depth, 0, 0);
}

/* Turn 32 pixels of 32 channels, rows of `from`, into 32 rows of channels; rows that are null are zeros. */
static void transpose(const bf16 *const *from, int channel, int channels, bf16 *to, long ld) {
    static const bf16 nothing[32] __attribute__((aligned(64))) = {0};
    int have = channels - channel < 32 ? channels - channel : 32;
    __mmask32 mask = have == 32 ? 0xFFFFFFFFu : ((1u << have) - 1u);
    for (int half = 0; half < (have > 16 ? 2 : 1); half++) {
        /* 16 pairs of pixels' rows -> words of two pixels, then a 16x16 transposition of words */
        __m512i low[16];
        for (int i = 0; i < 16; i++) {
            const bf16 *p = from[2 * i], *q = from[2 * i + 1];
            __m512i a = p ? _mm512_maskz_loadu_epi16(mask, p + channel) : _mm512_load_si512(nothing);
            __m512i b = q ? _mm512_maskz_loadu_epi16(mask, q + channel) : _mm512_load_si512(nothing);
            __m512i x = half ? _mm512_castsi256_si512(_mm512_extracti64x4_epi64(a, 1)) : a;
            __m512i y = half ? _mm512_castsi256_si512(_mm512_extracti64x4_epi64(b, 1)) : b;
            low[i] = _mm512_or_si512(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(x)),
                                     _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(y)), 16));
        }
        __m512i t[16], u[16];
        for (int i = 0; i < 8; i++) {
            t[2 * i] = _mm512_unpacklo_epi32(low[2 * i], low[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_epi32(low[2 * i], low[2 * i + 1]);
        }
        for (int i = 0; i < 4; i++) {
            u[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
            u[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
            u[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
            u[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
        }
        for (int i = 0; i < 4; i++) { /* u[4g + i]: lane l has column 4l + i of rows 4g..4g+3 */
            __m512i a = _mm512_shuffle_i32x4(u[i], u[4 + i], 0x88), b = _mm512_shuffle_i32x4(u[i], u[4 + i], 0xDD);
            __m512i c = _mm512_shuffle_i32x4(u[8 + i], u[12 + i], 0x88);
            __m512i d = _mm512_shuffle_i32x4(u[8 + i], u[12 + i], 0xDD);
            _mm512_storeu_si512(to + (long)(16 * half + i) * ld, _mm512_shuffle_i32x4(a, c, 0x88));
            _mm512_storeu_si512(to + (long)(16 * half + 4 + i) * ld, _mm512_shuffle_i32x4(b, d, 0x88));
            _mm512_storeu_si512(to + (long)(16 * half + 8 + i) * ld, _mm512_shuffle_i32x4(a, c, 0xDD));
            _mm512_storeu_si512(to + (long)(16 * half + 12 + i) * ld, _mm512_shuffle_i32x4(b, d, 0xDD));
        }
    }
}

/* Put two rows of channels beside each other, pair by pair, into `padded` pairs: those beyond `channels` are zero. */
static void interleave(const bf16 *p, const bf16 *q, int channels, int padded, bf16 *to) {
    for (int c = 0; c < padded; c += 16) {
        __mmask16 mask = channels - c >= 16 ? 0xFFFF : (__mmask16)((1u << (channels - c)) - 1u);
        __m256i a = p ? _mm256_maskz_loadu_epi16(mask, p + c) : _mm256_setzero_si256();
        __m256i b = q ? _mm256_maskz_loadu_epi16(mask, q + c) : _mm256_setzero_si256();
        __m512i even = _mm512_cvtepu16_epi32(a), odd = _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16);
        _mm512_storeu_si512(to + 2 * c, _mm512_or_si512(even, odd));
    }
}

enum { NOTHING = -1 };

/* A place of the grid of one picture after another, without a division a step. */
struct walk { int n, place; };

static inline struct walk walk_to(long at, long grid) {
    long n = at >= 0 ? at / grid : -((grid - 1 - at) / grid);
    return (struct walk){(int)n, (int)(at - n * grid)};
}

static inline void step(struct walk *at, long grid) {
    if (++at->place == grid) at->place = 0, at->n++;
}

static inline const bf16 *row(const bf16 *picture, int offset, int there) {
    return there && offset != NOTHING ? picture + offset : 0;
}

/* The gradient of a convolution's filters.

   Pictures and gradients are laid on one grid, large enough for every shift of the filter, with zeros between what is
   there; a filter's weight then is a product of two matrices over all places of the grid, of which one is shifted.
   With a stride the pictures are parted first: into those of each remainder of row and column.

   dw: float [out][rows][columns][in], channels padded to multiples of 16, zero at first. */
int filters(const bf16 *x, const bf16 *dy, float *dw, const struct shape *s, long cache_bytes, int threads) {
    int in = (s->in + 15) / 16 * 16, out = (s->out + 15) / 16 * 16, out32 = (s->out + 31) / 32 * 32;
    int low_i = floor_div(-s->up, s->stride), high_i = floor_div(s->rows - 1 - s->up, s->stride);
    int low_j = floor_div(-s->left, s->stride), high_j = floor_div(s->columns - 1 - s->left, s->stride);
    /* One row and column of zeros serve two neighbours: what leaves a row on the left enters the one before it. */
    int phase_tall = (s->height + s->stride - 1) / s->stride, phase_broad = (s->width + s->stride - 1) / s->stride;
    int tall = larger(phase_tall - low_i, s->tall + high_i), broad = larger(phase_broad - low_j, s->broad + high_j);
    long grid = (long)tall * broad, before = -((long)low_i * broad + low_j);
    long slack = before + (long)high_i * broad + high_j;
    int weights = s->rows * s->columns, phases = weights == 1 ? 1 : s->stride * s->stride;
    int odd = weights > 1; /* whether pairs are wanted from odd places on, too */
    long each = grid * 2 * ((long)in * phases * (1 + odd) + out);
    int chunk = (int)(cache_bytes / each);
    if (chunk < 1) chunk = 1;
    if (chunk > s->num) chunk = s->num;
    long depth = (chunk * grid + DEPTH - 1) / DEPTH * DEPTH, pairs = (depth + slack + 3) / 2;
    long ld = depth % 64 ? depth : depth + 32; /* rows a multiple of 4096 bytes apart would share places of the cache */
    long of_x = (long)s->height * s->width * s->in, of_dy = (long)s->tall * s->broad * s->out;
    int *of_result = malloc(sizeof(int) * grid * (1 + phases)), *of_maps = of_result + grid;
    for (int i = 0, at = 0; i < tall; i++)
        for (int j = 0; j < broad; j++, at++) {
            of_result[at] = i < s->tall && j < s->broad ? (i * s->broad + j) * s->out : NOTHING;
            for (int phase = 0; phase < phases; phase++) {
                int row = i * s->stride + phase / s->stride, column = j * s->stride + phase % s->stride;
                int there = row < s->height && column < s->width;
                of_maps[phase * grid + at] = there ? (row * s->width + column) * s->in : NOTHING;
            }
        }
    bf16 *turned = aligned_alloc(64, sizeof(bf16) * out32 * ld);
    bf16 *paired = aligned_alloc(64, sizeof(bf16) * 2 * in * pairs * phases * (1 + odd));
    if (!turned || !paired) return free(turned), free(paired), free(of_result), 1;
    int blocks_in = (in + 31) / 32, blocks_out = (out + 31) / 32;
    int parts = blocks_out % threads ? threads : 1;
#pragma omp parallel num_threads(threads)
    {
        configure();
        for (int first = 0; first < s->num; first += chunk) {
            int num = s->num - first < chunk ? s->num - first : chunk;
            long here = (num * grid + DEPTH - 1) / DEPTH * DEPTH, begin, end;
            struct walk at;
            share(here / DEPTH, omp_get_num_threads(), omp_get_thread_num(), &begin, &end);
            at = walk_to(begin * DEPTH, grid);
            for (long place = begin * DEPTH; place < end * DEPTH; place += DEPTH) {
                const bf16 *from[DEPTH];
                for (int p = 0; p < DEPTH; p++, step(&at, grid))
                    from[p] = row(dy + (first + at.n) * of_dy, of_result[at.place], at.n < num);
                for (int c = 0; c < out; c += 32) transpose(from, c, s->out, turned + (long)c * ld + place, ld);
            }
            long pairs_here = (here + slack + 3) / 2;
            share(pairs_here, omp_get_num_threads(), omp_get_thread_num(), &begin, &end);
            for (int phase = 0; phase < phases; phase++) {
                const int *of_map = of_maps + phase * grid;
                at = walk_to(2 * begin - before, grid);
                const bf16 *p = row(x + (first + at.n) * of_x, of_map[at.place], at.n >= 0 && at.n < num), *q, *r = 0;
                bf16 *to = paired + (phase * (1 + odd) * pairs + begin) * 2 * in;
                for (long pair = begin; pair < end; pair++, p = r, to += 2 * in) {
                    step(&at, grid);
                    q = row(x + (first + at.n) * of_x, of_map[at.place], at.n >= 0 && at.n < num);
                    step(&at, grid);
                    r = row(x + (first + at.n) * of_x, of_map[at.place], at.n >= 0 && at.n < num);
                    interleave(p, q, s->in, in, to);
                    if (odd) interleave(q, r, s->in, in, to + pairs * 2 * in);
                }
            }
#pragma omp barrier
#pragma omp for schedule(static) collapse(2)
            for (int bo = 0; bo < blocks_out; bo++)
                for (int part = 0; part < parts; part++) {
                    long begin, end;
                    share((long)weights * blocks_in, parts, part, &begin, &end);
                    for (long task = begin; task < end; task++) {
                        int w = (int)(task / blocks_in), bi = (int)(task % blocks_in);
                        int ri = w / s->columns - s->up, rj = w % s->columns - s->left;
                        int si = floor_div(ri, s->stride), sj = floor_div(rj, s->stride);
                        long phase = (ri - si * s->stride) * s->stride + (rj - sj * s->stride);
                        long from = before + (long)si * broad + sj;
                        const bf16 *b = paired + ((phase * (1 + odd) + from % 2) * pairs + from / 2) * 2 * in;
                        multiply(turned + 32L * bo * ld, ld, b + 64 * bi, in,
                                 dw + (32L * bo * weights + w) * in + 32 * bi, (long)weights * in, here,
                                 out - 32 * bo > 16, in - 32 * bi > 16);
                    }
                }
        }
        release();
    }
    free(turned);
    free(paired);
    free(of_result);
    return 0;
}
/* Small maps: place by place. At each place a convolution is a product of matrices whose rows are pictures, over those
   weights of the filter that fall inside the map, and over no others: nothing is copied, no border is filled. */

enum { PICTURES = 32, CACHE_BYTES = 1 << 20 };

struct link { int place, weight; }; /* of the map that is read; of the filter */

/* List, for each place of the map that is written, what it is made of; `starts` has one more than there are places. */
static void connect(const struct shape *s, int back, int *starts, struct link *links) {
    int tall = back ? s->height : s->tall, broad = back ? s->width : s->broad, count = 0, place = 0;
    int rows = back ? s->tall : s->height, columns = back ? s->broad : s->width; /* of the map that is read */
    for (int i = 0; i < tall; i++)
        for (int j = 0; j < broad; j++) {
            starts[place++] = count;
            for (int w = 0; w < s->rows * s->columns; w++) {
                int up = back ? i + s->up - w / s->columns : i * s->stride + w / s->columns - s->up;
                int left = back ? j + s->left - w % s->columns : j * s->stride + w % s->columns - s->left;
                if (back && (up % s->stride || left % s->stride)) continue;
                if (back) up /= s->stride, left /= s->stride;
                if (up < 0 || left < 0 || up >= rows || left >= columns) continue;
                links[count++] = (struct link){up * columns + left, w};
            }
        }
    starts[place] = count;
}

/* y = x convolved with the filters; or with `back` the gradient of x from that of y, which then is `from`.

   from: [num][places][source]; to: [num][places][result]; weight: [out][rows][columns][in]; in a multiple of 32 and out
   of 16, or with `back` the reverse. */
int convolve(const bf16 *from, const bf16 *weight, bf16 *to, const struct shape *s, long back, int threads) {
    int source = back ? s->out : s->in, result = back ? s->in : s->out, weights = s->rows * s->columns;
    long of_from = (long)(back ? s->tall * s->broad : s->height * s->width) * source;
    int places = back ? s->height * s->width : s->tall * s->broad;
    int *starts = malloc(sizeof(int) * (places + 1));
    struct link *links = malloc(sizeof(struct link) * places * weights);
    int blocks = (result + 31) / 32, groups = (s->num + PICTURES - 1) / PICTURES;
    long panel = 32L * weights * source; /* of 32 columns: [weight][source / 2][32][2], read from end to end */
    bf16 *pairs = aligned_alloc(64, sizeof(bf16) * blocks * panel);
    if (!starts || !links || !pairs) return free(starts), free(links), free(pairs), 1;
    connect(s, (int)back, starts, links);
    /* As many groups of pictures together as stay in the cache while the filters pass by. */
    int together = (int)(CACHE_BYTES / (2 * of_from * PICTURES)), most = (groups + threads - 1) / threads;
    together = together < 1 ? 1 : together > most ? most : together;
    int bundles = (groups + together - 1) / together;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) collapse(2)
        for (int w = 0; w < weights; w++)
            for (int c = 0; c < source; c += 2)
                for (int column = 0; column < result; column += 32) {
                    bf16 *pair = pairs + column / 32 * panel + ((long)w * source + c) * 32;
                    int num = result - column < 32 ? result - column : 32;
                    const bf16 *row = weight + (back ? ((long)c * weights + w) * result + column
                                                     : ((long)column * weights + w) * source + c);
                    if (back) interleave(row, row + (long)weights * result, num, num, pair);
                    else
                        for (int r = 0; r < num; r++, row += (long)weights * source)
                            memcpy(pair + 2 * r, row, 2 * sizeof(bf16));
                }
        int configured = 0;
#pragma omp for schedule(static)
        for (int task = 0; task < bundles * blocks * together; task++) {
            int group = task / (blocks * together) * together + task % together;
            int column = task / together % blocks * 32, first = group * PICTURES;
            if (group >= groups) continue;
            int num = s->num - first < PICTURES ? s->num - first : PICTURES;
            if (num != configured) {
                configure_rows(num < TILE ? num : TILE, num > TILE ? num - TILE : TILE);
                configured = num;
            }
            int two_rows = num > TILE, two_columns = result - column > 16;
            for (int place = 0; place < places; place++) {
                float sums[PICTURES][32] __attribute__((aligned(64)));
                clear();
                for (int l = starts[place]; l < starts[place + 1]; l++) {
                    const bf16 *a = from + first * of_from + (long)links[l].place * source;
                    const bf16 *b = pairs + column / 32 * panel + (long)links[l].weight * source * 32;
                    accumulate(a, of_from, b, 32, source, two_rows, two_columns);
                }
                put(sums[0], 32, two_rows, two_columns);
                for (int n = 0; n < num; n++) {
                    bf16 *pixel = to + ((long)(first + n) * places + place) * result + column;
                    for (int c = 0; c < (two_columns ? 32 : 16); c += LANES)
                        store(pixel + c, narrow(load_floats(sums[n] + c)));
                }
            }
        }
        release();
    }
    free(starts);
    free(links);
    free(pairs);
    return 0;
}

/* The gradient of the filters, dw as in `filters`, for small maps: a weight's is a sum over the places at which it
   falls inside the map, each a product of two matrices over pictures. */
int filters_small(const bf16 *x, const bf16 *dy, float *dw, const struct shape *s, long cache_bytes, int threads) {
    int in = s->in, out = s->out, weights = s->rows * s->columns;
    int places = s->tall * s->broad, sources = s->height * s->width;
    long each = 2L * ((long)in * sources + (long)out * places) * DEPTH;
    int most = (s->num + DEPTH - 1) / DEPTH, chunk = (int)(cache_bytes / each);
    long depth = (chunk < 1 ? 1 : chunk > most ? most : chunk) * DEPTH;
    int *starts = malloc(sizeof(int) * (places + 1));
    struct link *links = malloc(sizeof(struct link) * places * weights);
    int blocks_in = (in + 31) / 32, blocks_out = (out + 31) / 32, in32 = blocks_in * 32, out32 = blocks_out * 32;
    bf16 *turned = aligned_alloc(64, sizeof(bf16) * out32 * places * depth);  /* [place][out][picture] */
    bf16 *paired = aligned_alloc(64, sizeof(bf16) * in32 * sources * depth);  /* [place][in / 32][picture / 2][32][2] */
    if (!starts || !links || !turned || !paired) return free(starts), free(links), free(turned), free(paired), 1;
    connect(s, 0, starts, links);
#pragma omp parallel num_threads(threads)
    {
        configure();
        for (int first = 0; first < s->num; first += (int)depth) {
            int num = s->num - first < depth ? s->num - first : (int)depth;
            long here = (num + DEPTH - 1) / DEPTH * DEPTH;
#pragma omp for schedule(static) nowait
            for (int place = 0; place < places; place++)
                for (int n = 0; n < here; n += DEPTH) {
                    const bf16 *from[DEPTH];
                    for (int p = 0; p < DEPTH; p++)
                        from[p] = n + p < num ? dy + ((long)(first + n + p) * places + place) * out : 0;
                    for (int c = 0; c < out; c += 32)
                        transpose(from, c, out, turned + ((long)place * out32 + c) * depth + n, depth);
                }
#pragma omp for schedule(static)
            for (int place = 0; place < sources; place++)
                for (int n = 0; n < here; n += 2) {
                    const bf16 *p = n < num ? x + ((long)(first + n) * sources + place) * in : 0;
                    const bf16 *q = n + 1 < num ? x + ((long)(first + n + 1) * sources + place) * in : 0;
                    for (int c = 0; c < in; c += 32) {
                        int width = in - c < 32 ? in - c : 32;
                        bf16 *to = paired + ((long)place * in32 + c) * depth + n * 32;
                        interleave(p ? p + c : 0, q ? q + c : 0, width, width, to);
                    }
                }
#pragma omp for schedule(static) collapse(2)
            for (int bo = 0; bo < blocks_out; bo++)
                for (int w = 0; w < weights; w++)
                    for (int bi = 0; bi < blocks_in; bi++) {
                        float *c = dw + (32L * bo * weights + w) * in + 32 * bi;
                        long ldc = (long)weights * in;
                        int two_rows = out - 32 * bo > 16, two_columns = in - 32 * bi > 16;
                        take(c, ldc, two_rows, two_columns);
                        for (int place = 0; place < places; place++)
                            for (int l = starts[place]; l < starts[place + 1]; l++) {
                                if (links[l].weight != w) continue;
                                const bf16 *a = turned + ((long)place * out32 + 32 * bo) * depth;
                                const bf16 *b = paired + ((long)links[l].place * in32 + 32 * bi) * depth;
                                accumulate(a, depth, b, 32, here, two_rows, two_columns);
                            }
                        put(c, ldc, two_rows, two_columns);
                    }
        }
        release();
    }
    free(starts);
    free(links);
    free(turned);
    free(paired);
    return 0;
}
#else
int multiplies(void) { return 0; }
#endif
