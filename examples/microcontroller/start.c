/* Where a Cortex-M begins: its stack, and the C library's start, whose output goes to the host by
   semihosting. On a board, the vendor's startup file takes this place. */
#include <stdint.h>

void _start(void);
static void reset(void);
static void stop(void);
extern uint32_t stack_top;

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_top, (const void *)reset, (const void *)stop, (const void *)stop};

static void reset(void)
{
    _start();
}

static void stop(void)
{
    for (;;) {
    }
}
