{{banner}}
#ifndef NETWORK_H
#define NETWORK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NETWORK_SIZE {{size}} /* pixels, width and height of a picture */
#define NETWORK_CHANNELS "{{channels}}" /* order of a pixel's three bytes */
#define NETWORK_CLASSES {{classes}}
#define NETWORK_LOGIT_BITS {{logit_bits}} /* behind the point of a logit */
{{probability_macros}}
#define NETWORK_MEMORY {{memory}} /* bytes of static memory, the stack apart */
#define NETWORK_CONSTANTS {{constants}} /* bytes of constants, the code apart */
#define NETWORK_MULTIPLICATIONS {{multiplications}} /* of activations with weights, per picture */

#define NETWORK_UNKNOWN (-1)    /* no class is likely enough */
#define NETWORK_INCOMPLETE (-2) /* fewer rows than a picture has, or more than that */

/* The likeliest class, 0 to NETWORK_CLASSES - 1{{or_unknown}}. `picture`: NETWORK_SIZE rows
   of NETWORK_SIZE pixels of three bytes. Memory is static: one picture at a time. */
int network_classify(const uint8_t *picture);

/* The same of a picture that is read row by row, from the top: `read` writes the
   3 * NETWORK_SIZE bytes of row y; a result other than 0 ends it, as NETWORK_INCOMPLETE. */
typedef int (*network_reader)(void *context, int y, uint8_t *row);
int network_classify_rows(network_reader read, void *context);

/* The same, row by row as they arrive: begin, NETWORK_SIZE times row, end. */
void network_begin(void);
void network_row(const uint8_t *row);
int network_end(void);

/* Of the last picture, until the next one begins: logit * 2^NETWORK_LOGIT_BITS. */
int32_t network_logit(int number);
{{probability_functions}}{{name_function}}
#ifdef __cplusplus
}
#endif

#endif
