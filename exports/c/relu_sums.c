
/* Adds conv10's outputs, after their ReLU, over a row of places. */
static void conv10_row(const shape_t *s, const uint8_t *row, const int8_t *weight,
                       const int32_t *bias, sum_t *totals)
{
    const int32_t rows[1] = {0};
    int32_t sums[4];
    int f, p, k;
    for (f = 0; f < s->filters; f += 2) {
        const int g = f + 1 < s->filters ? f + 1 : f;
        for (p = 0; p < s->width; p += 2) {
            const int q = p + 1 < s->width ? p + 1 : p;
            convolve(s, row, rows, 0, 1, weight, f, g, p, q, sums);
            for (k = 0; k < 4; k++) {
                const int twice = ((k & 1) && g == f) || ((k & 2) && q == p);
                const int o = k & 1 ? g : f;
                const int32_t sum = sums[k] + bias[o];
                if (sum > 0 && !twice)
                    totals[o] += sum;
            }
        }
    }
}
