
/* --- probabilities, without floating point -------------------------------------------------------- */

/* 2^(-x / 2^16) * 2^30 */
static uint32_t power_of_half(uint64_t x)
{
    static const uint32_t steps[16] = { /* 2^(30 - 2^(k - 16)) */
        {{powers}}};
    uint64_t power = (uint64_t)1 << 30;
    int k;
    if (x >= (uint64_t)31 << 16)
        return 0;
    for (k = 0; k < 16; k++)
        if (x >> k & 1)
            power = (power * steps[k] + (1 << 29)) >> 30;
    return (uint32_t)(power >> (x >> 16));
}

/* exp((logit - largest) / temperature) * 2^30; a logit's unit is {{steepness}} / 2^{{steepness_bits}} of an x */
static uint32_t weight_of(int32_t logit)
{
    const uint64_t below = (uint64_t)((int64_t)largest - logit);
    return power_of_half((below * {{steepness}}U + ((uint64_t)1 << {{steepness_half}})) >> {{steepness_bits}});
}

uint32_t network_share(int number)
{
    if (number < 0 || number >= NETWORK_CLASSES || total == 0)
        return 0;
    return (uint32_t)(((uint64_t)weight_of(result[number]) << NETWORK_SHARE_BITS) / total);
}

static void find_total(int best)
{
    int c;
    largest = result[best];
    total = 0;
    for (c = 0; c < NETWORK_CLASSES; c++)
        total += weight_of(result[c]);
}

#ifndef __SYNTHESIS__
float network_probability(int number)
{
    return (float)network_share(number) / (float)((uint32_t)1 << NETWORK_SHARE_BITS);
}
#endif
