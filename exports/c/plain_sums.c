
/* Adds a row of places, channel by channel: without a ReLU, conv10 of a mean is the mean of conv10. */
static void add_places(const uint8_t *row, int width, int channels, uint32_t *totals)
{
    int p, c;
    for (p = 0; p < width; p++)
        for (c = 0; c < channels; c++)
            totals[c] += row[p * channels + c];
}
