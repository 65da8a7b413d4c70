#include <stdio.h>

int main(void) {
    printf("Hello from the SDK with gcc %s.\n", __VERSION__);
    return 0;
}
