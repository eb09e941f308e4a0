{{banner}}
#include "{{header}}"
{{memory_macro}}

/* --- constants: weights by filter, row, column, channel; sum -> activation by multiplier, shift --- */

{{constants}}

/* --- memory: a few rows of each blob, a pixel's channels side by side ----------------------------- */

#ifndef NETWORK_PLACE
#define NETWORK_PLACE /* for example __attribute__((section(".dtcm"))) */
#endif

{{buffers}}
static NETWORK_PLACE int32_t result[NETWORK_CLASSES];
static int rows_seen;

/* --- arithmetic ----------------------------------------------------------------------------------- */

/* How a convolution reads rows of `row` bytes that lie in a ring of `slots`. */
typedef struct {
    int slots, row;
    int start;  /* first byte of a row that is read: 0, or past the zeros at its left end */
    int step;   /* bytes from one output pixel's inputs to the next one's */
    int length; /* bytes that a row of the kernel covers */
    int kernel; /* rows of the kernel */
    int width;  /* output pixels */
    int filters;
    int channels; /* bytes of an output pixel */
    int zero;     /* of the outputs */
} shape_t;

/* product / 2^shift, rounded, halves away from zero; shift is 1 to 62 */
static int64_t rounding_shift(int64_t product, int shift)
{
    const int64_t half = (int64_t)1 << (shift - 1);
    return product < 0 ? -((half - product) >> shift) : (product + half) >> shift;
}

static uint8_t activation(int64_t value)
{
    return value < 0 ? 0 : value > 255 ? 255 : (uint8_t)value;
}

/* Adds to sums[0 .. 3] the products of two pixels' inputs with two filters' weights. */
#if defined(__ARM_FEATURE_SIMD32) && !defined(NETWORK_PORTABLE)
#include <arm_acle.h>
#include <string.h>

static inline uint32_t four(const void *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, 4); /* one load, aligned or not */
    return word;
}

static inline void multiply(const uint8_t *x, const uint8_t *y, const int8_t *v, const int8_t *w,
                            int length, int32_t sums[4])
{
    int32_t xv = sums[0], xw = sums[1], yv = sums[2], yw = sums[3];
    int i = 0;
    for (; i + 4 <= length; i += 4) {
        const uint32_t a = four(x + i), b = four(y + i), c = four(v + i), d = four(w + i);
        const uint16x2_t a0 = __uxtb16(a), a1 = __uxtb16(a >> 8);
        const uint16x2_t b0 = __uxtb16(b), b1 = __uxtb16(b >> 8);
        const int16x2_t c0 = __sxtb16(c), c1 = __sxtb16(c >> 8 | c << 24);
        const int16x2_t d0 = __sxtb16(d), d1 = __sxtb16(d >> 8 | d << 24);
        xv = __smlad((int16x2_t)a1, c1, __smlad((int16x2_t)a0, c0, xv));
        xw = __smlad((int16x2_t)a1, d1, __smlad((int16x2_t)a0, d0, xw));
        yv = __smlad((int16x2_t)b1, c1, __smlad((int16x2_t)b0, c0, yv));
        yw = __smlad((int16x2_t)b1, d1, __smlad((int16x2_t)b0, d0, yw));
    }
    for (; i < length; i++) {
        xv += x[i] * v[i];
        xw += x[i] * w[i];
        yv += y[i] * v[i];
        yw += y[i] * w[i];
    }
    sums[0] = xv, sums[1] = xw, sums[2] = yv, sums[3] = yw;
}
#else
static inline void multiply(const uint8_t *x, const uint8_t *y, const int8_t *v, const int8_t *w,
                            int length, int32_t sums[4])
{
    int32_t xv = 0, xw = 0, yv = 0, yw = 0;
    int i;
    for (i = 0; i < length; i++) {
        xv += x[i] * v[i];
        xw += x[i] * w[i];
        yv += y[i] * v[i];
        yw += y[i] * w[i];
    }
    sums[0] += xv, sums[1] += xw, sums[2] += yv, sums[3] += yw;
}
#endif

/* The sums of filters f, g at pixels p, q, without bias. Rows `from` to `to` - 1 of the kernel are
   inside; the first of its rows lies over row `top`. */
static inline void convolve(const shape_t *s, const uint8_t *ring, const int32_t *rows, int from,
                            int to, const int8_t *weight, int f, int g, int p, int q,
                            int32_t sums[4])
{
    int k;
    for (k = 0; k < 4; k++)
        sums[k] = 0;
    for (k = from; k < to; k++)
        multiply(ring + rows[k] + p * s->step, ring + rows[k] + q * s->step,
                 weight + (f * s->kernel + k) * s->length, weight + (g * s->kernel + k) * s->length,
                 s->length, sums);
}

/* Where in their ring the kernel's rows lie, of which the first is over row `top`. */
static void find_rows(const shape_t *s, int top, int from, int to, int32_t *rows)
{
    int k;
    for (k = from; k < to; k++)
        rows[k] = (top + k) % s->slots * s->row + s->start;
}

/* One row of outputs, every `channels` bytes one of each filter. An odd last pixel or filter is
   computed twice. */
static void conv_row(const shape_t *s, const uint8_t *ring, int top, int from, int to,
                     const int8_t *weight, const int32_t *bias, const int32_t *multiplier,
                     const uint8_t *shift, uint8_t *out)
{
    int32_t rows[NETWORK_KERNEL], sums[4];
    int f, p, k;
    find_rows(s, top, from, to, rows);
    for (f = 0; f < s->filters; f += 2) {
        const int g = f + 1 < s->filters ? f + 1 : f;
        for (p = 0; p < s->width; p += 2) {
            const int q = p + 1 < s->width ? p + 1 : p;
            convolve(s, ring, rows, from, to, weight, f, g, p, q, sums);
            for (k = 0; k < 4; k++) {
                const int o = k & 1 ? g : f, at = k & 2 ? q : p;
                const int64_t product = (int64_t)(sums[k] + bias[o]) * multiplier[o];
                out[at * s->channels + o] = activation(rounding_shift(product, shift[o]) + s->zero);
            }
        }
    }
}

/* The maximum of three columns, every two, of a row; and of what `out` holds, unless it is `fresh`. */
static void pool_row(const uint8_t *row, int width, int channels, int pooled, int fresh,
                     uint8_t *out)
{
    int p, c, k;
    for (p = 0; p < pooled; p++) {
        const int columns = 2 * p + 3 <= width ? 3 : width - 2 * p;
        for (c = 0; c < channels; c++) {
            const uint8_t *in = row + 2 * p * channels + c;
            uint8_t best = fresh ? 0 : out[p * channels + c];
            for (k = 0; k < columns; k++)
                if (in[k * channels] > best)
                    best = in[k * channels];
            out[p * channels + c] = best;
        }
    }
}

static void clear(uint8_t *bytes, int count)
{
    int i;
    for (i = 0; i < count; i++)
        bytes[i] = 0;
}
{{arithmetic}}
/* --- layers, the last one first: each hands its row on ------------------------------------------- */

{{layers}}

{{probabilities}}
/* --- what others call ----------------------------------------------------------------------------- */

void network_begin(void)
{
    int i;
{{begin}}
    rows_seen = 0;
}

static uint8_t *next_row(void)
{
    return pixels + rows_seen % NETWORK_KERNEL * (3 * NETWORK_SIZE);
}

static void row_is_there(void)
{
    rows_seen++;
    if (rows_seen >= NETWORK_KERNEL && (rows_seen - NETWORK_KERNEL) % 2 == 0)
        conv1((rows_seen - NETWORK_KERNEL) / 2);
}

void network_row(const uint8_t *row)
{
    uint8_t *kept = next_row();
    int i;
    if (rows_seen >= NETWORK_SIZE)
        return;
    for (i = 0; i < 3 * NETWORK_SIZE; i++)
        kept[i] = row[i];
    row_is_there();
}

int network_end(void)
{
    int c, best = 0;
    if (rows_seen != NETWORK_SIZE)
        return NETWORK_INCOMPLETE;
    rows_seen = 0;
{{logits}}
    for (c = 1; c < NETWORK_CLASSES; c++)
        if (result[c] > result[best])
            best = c;
{{answer}}
}

int network_classify(const uint8_t *picture)
{
    int y;
    network_begin();
    for (y = 0; y < NETWORK_SIZE; y++)
        network_row(picture + y * (3 * NETWORK_SIZE));
    return network_end();
}

#ifndef __SYNTHESIS__ /* circuits have no pointers to functions */
int network_classify_rows(network_reader read, void *context)
{
    int y;
    network_begin();
    for (y = 0; y < NETWORK_SIZE; y++) {
        if (read(context, y, next_row()) != 0)
            return NETWORK_INCOMPLETE;
        row_is_there();
    }
    return network_end();
}
#endif

int32_t network_logit(int number)
{
    return number < 0 || number >= NETWORK_CLASSES ? 0 : result[number];
}
{{names}}
