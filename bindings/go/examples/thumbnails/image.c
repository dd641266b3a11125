/* The C program's own code. */
#include "../../../../examples-c/image.c"
