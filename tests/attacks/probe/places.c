/* Renames by a descriptor of a directory, without the mounts below it: in the mount namespace of another step, or in a new
   one without them; and uses mount namespaces that another step sends. */
#include "probe.h"

/* Renames, lists the directory now at the old name, adds a directory, and renames back so that the host is unchanged. */
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

/* Receives a mount namespace, enters it, and unmounts in it the mount that hides a directory. */
int receive_and_unmount(const char *path, const char *place) {
    char planted[512];
    int namespace = receive_descriptor(path);
    if (namespace < 0)
        return 1;
    /* The process may not share its root and working directory with others. */
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

static int succeeds(const char *name, long result) {
    say(name, result);
    return result >= 0;
}

/* Leaves the root and its mounts, in new namespaces, which a user namespace permits to make; false where that is
   refused. */
int leave_root(void) {
    char map[64];
    int left = 1;
    snprintf(map, sizeof map, "0 %d 1", getuid());
    left &= succeeds("unshare", unshare(CLONE_NEWUSER | CLONE_NEWNS));
    left &= succeeds("uid_map", put("/proc/self/uid_map", map));
    left &= succeeds("setgroups", put("/proc/self/setgroups", "deny"));
    left &= succeeds("gid_map", put("/proc/self/gid_map", map));
    left &= succeeds("private", mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    left &= succeeds("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    left &= succeeds("mkdir", mkdir("/tmp/old", 0700));
    left &= succeeds("pivot_root", syscall(SYS_pivot_root, "/tmp", "/tmp/old"));
    left &= succeeds("chdir", chdir("/"));
    left &= succeeds("umount2", umount2("/old", MNT_DETACH));
    return left;
}

/* Renames in a directory from a mount namespace without its mounts. */
int leave_and_rename(const char *place, const char *from, const char *to, const char *below) {
    int directory = open(place, O_RDONLY | O_DIRECTORY);
    leave_root();
    return rename_and_look(directory, from, to, below);
}
