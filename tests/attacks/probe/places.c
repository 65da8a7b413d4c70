/* Renames by a descriptor of a directory, where the mounts below it are not: in the mount namespace of another step, or in
   one of the step's own without them; and mount namespaces that are sent. */
#include "probe.h"

/* Renames, lists what is there now, puts a directory in it, and renames back so that the host goes on as it was. */
static int rename_and_look(int directory, const char *from, const char *to, const char *below) {
    char path[512];
    if (renameat(directory, from, directory, to)) {
        printf("REFUSED %s\n", strerrorname_np(errno));
        return 0;
    }
    printf("RENAMED %s\n", from);
    snprintf(path, sizeof path, "%s/%s", to, below);
    if (*below && !mkdirat(directory, path, 0700))
        printf("PLANTED IN %s\n", path);
    if (*below && renameat(directory, to, directory, from))
        printf("STAYS %s\n", to);
    return 0;
}

/* Receives a directory, and renames in it. */
int receive_and_rename(const char *path, const char *from, const char *to, const char *below) {
    int directory = receive_descriptor(path);
    return directory < 0 ? 1 : rename_and_look(directory, from, to, below);
}

/* Receives a mount namespace, enters it, and unmounts in it what hides a directory. */
int receive_and_unmount(const char *path, const char *place) {
    char planted[512];
    int namespace = receive_descriptor(path);
    if (namespace < 0)
        return 1;
    /* It may not share its directories with others. */
    say("unshare", unshare(CLONE_FS));
    say("setns", setns(namespace, CLONE_NEWNS));
    say("umount2", umount2(place, MNT_DETACH));
    snprintf(planted, sizeof planted, "%s/planted", place);
    if (!mkdir(planted, 0700))
        printf("PLANTED IN %s\n", place);
    snprintf(planted, sizeof planted, "%s/layers", place);
    if (!access(planted, F_OK))
        printf("SEEN %s\n", place);
    return 0;
}

/* Renames in a directory from a mount namespace without its mounts, which a user namespace permits to make. */
int leave_and_rename(const char *place, const char *from, const char *to, const char *below) {
    int directory = open(place, O_RDONLY | O_DIRECTORY), id = getuid();
    char map[64];
    snprintf(map, sizeof map, "0 %d 1", id);
    say("unshare", unshare(CLONE_NEWUSER | CLONE_NEWNS));
    say("map", put("/proc/self/uid_map", map));
    say("setgroups", put("/proc/self/setgroups", "deny"));
    say("map", put("/proc/self/gid_map", map));
    say("private", mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    say("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    say("mkdir", mkdir("/tmp/old", 0700));
    say("pivot_root", syscall(SYS_pivot_root, "/tmp", "/tmp/old"));
    say("chdir", chdir("/"));
    say("umount2", umount2("/old", MNT_DETACH));
    return rename_and_look(directory, from, to, below);
}
