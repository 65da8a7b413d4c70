#include <stdio.h>
#include <sys/utsname.h>

int main(void)
{
    struct utsname host;

    if (uname(&host) != 0) {
        perror("uname");
        return 1;
    }
    printf("Hello from a program compiled with gcc %s for %s.\n", __VERSION__, host.machine);
    return 0;
}
