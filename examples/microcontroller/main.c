/* Classifies one picture, which lies in the program as bytes, and prints what it shows. */
#include <stdio.h>

#include "network.h"
#include "picture.h"

int main(void)
{
    const int answer = network_classify(picture);
    if (answer == NETWORK_UNKNOWN)
        printf("unknown\n");
    else
        printf("%s (%d %%)\n", network_name(answer),
               (int)(((uint64_t)network_share(answer) * 100 + (1U << 23)) >> NETWORK_SHARE_BITS));
    printf("%d bytes of memory, %d of constants, %d multiplications\n", NETWORK_MEMORY,
           NETWORK_CONSTANTS, NETWORK_MULTIPLICATIONS);
    return answer < 0;
}
