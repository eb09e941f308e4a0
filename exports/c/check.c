/* Pictures from standard input; of each the answer and all logits, four bytes each, to standard
   output, least significant byte first. */
#include <stdio.h>
#include CHECKED

static uint8_t picture[3 * NETWORK_SIZE * NETWORK_SIZE];

static void write_number(int32_t number)
{
    const uint32_t bits = (uint32_t)number;
    int k;
    for (k = 0; k < 32; k += 8)
        putchar((int)(bits >> k & 255));
}

static int read_row(void *context, int y, uint8_t *row)
{
    const uint8_t *from = (const uint8_t *)context + y * 3 * NETWORK_SIZE;
    int i;
    for (i = 0; i < 3 * NETWORK_SIZE; i++)
        row[i] = from[i];
    return 0;
}

int main(void)
{
    while (fread(picture, 1, sizeof picture, stdin) == sizeof picture) {
        int c;
        const int32_t answer = network_classify(picture);
        if (network_classify_rows(read_row, picture) != answer)
            return 1;
        write_number(answer);
        for (c = 0; c < NETWORK_CLASSES; c++)
            write_number(network_logit(c));
    }
    return 0;
}
