/* The attacks that need a program of their own: shared declarations. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Prints `NAME made` or `NAME ERRNO`. */
static inline void say(const char *name, long result) {
    printf("%s %s\n", name, result >= 0 ? "made" : strerrorname_np(errno));
    fflush(stdout);
}

/* Writes a text to a file; 0, or -1 with errno. */
static inline int put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int written = write(fd, text, strlen(text)) < 0 ? -1 : 0;
    int error = errno;
    close(fd);
    errno = error;
    return written;
}

int take_lease(const char *path, const char *done);
int try_calls(void);
int try_foreign_calls(void);
int try_keys(const char *name);
int plant_key(const char *name, const char *value);
int look_at_key(const char *name);
int remove_keys(const char *name);
int try_cgroups(const char *victim);
int lift_limits(void);
int freeze_self(void);
int freeze_child(void);
int look_from_cwd(int count, char **markers);
int hunt(const char *directory, const char *text);
int list_descriptors(void);
int make_files(const char *directory, long most);
int make_attributes(const char *directory, long most);
int fork_many(long most);
int take_memory(long mebibytes);
int open_nodes(void);
int break_chroot(const char *marker);
int push_input(void);
int change_places(const char *one, const char *other);
int remove_place(const char *directory, const char *name);
int attach_loop(const char *file);
int send_directory(const char *path, const char *directory);
int receive_directory(const char *path, int count, char **paths);
int receive_descriptor(const char *path);
int receive_and_rename(const char *path, const char *from, const char *to, const char *below);
int receive_and_unmount(const char *path, const char *place);
int leave_root(void);
int leave_and_rename(const char *place, const char *from, const char *to, const char *below);
