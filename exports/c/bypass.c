
/* out = round((out * own + (beside - beside_zero) * other) / 2^shift) + zero */
static void add_row(uint8_t *out, const uint8_t *beside, int count, int32_t own, int32_t other,
                    int beside_zero, int shift, int zero)
{
    int i;
    for (i = 0; i < count; i++) {
        const int32_t sum = out[i] * own + (beside[i] - beside_zero) * other;
        out[i] = activation(rounding_shift(sum, shift) + zero);
    }
}
