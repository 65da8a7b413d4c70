// Prints each entry below a directory on a line: all attributes that a snapshot must preserve, and none that depends on the
// file system. Names, targets and values are in hexadecimal.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static struct { ino_t number; dev_t device; char *path; } *linked;
static size_t links;

static void check(int holds, const char *path) {
    if (!holds) { perror(path); exit(9); }
}

static void hex(const void *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) printf("%02x", ((const unsigned char *)bytes)[i]);
}

static void content(const char *path) {
    uint64_t hash = 14695981039346656037u;
    static unsigned char buffer[1 << 16];
    int file = open(path, O_RDONLY);
    check(file >= 0, path);
    ssize_t count;
    while ((count = read(file, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < count; i++) hash = (hash ^ buffer[i]) * 1099511628211u;
    check(count == 0, path);
    close(file);
    printf(" content=%016llx", (unsigned long long)hash);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

static void attributes(const char *path) {
    static char names[1 << 16], value[1 << 16];
    ssize_t length = llistxattr(path, names, sizeof names);
    check(length >= 0, path);
    char *sorted[1024];
    size_t count = 0;
    for (char *name = names; name < names + length; name += strlen(name) + 1)
        if (strncmp(name, "trusted.overlay.", 16)) sorted[count++] = name;
    qsort(sorted, count, sizeof *sorted, by_text);
    for (size_t i = 0; i < count; i++) {
        ssize_t size = lgetxattr(path, sorted[i], value, sizeof value);
        check(size >= 0, path);
        printf(" %s=", sorted[i]);
        hex(value, size);
    }
}

static void walk(const char *path, const char *below) {
    struct stat found;
    check(lstat(path, &found) == 0, path);
    hex(below, strlen(below));
    printf(" mode=%o owner=%u:%u time=%lld.%09ld", found.st_mode, found.st_uid, found.st_gid,
           (long long)found.st_mtim.tv_sec, found.st_mtim.tv_nsec);
    if (!S_ISDIR(found.st_mode)) {
        printf(" links=%lu", (unsigned long)found.st_nlink);
        size_t first = 0;
        while (first < links && (linked[first].number != found.st_ino || linked[first].device != found.st_dev)) first++;
        if (found.st_nlink > 1 && first == links) {
            linked = realloc(linked, ++links * sizeof *linked);
            linked[first].number = found.st_ino, linked[first].device = found.st_dev, linked[first].path = strdup(below);
        }
        if (found.st_nlink > 1) { printf(" first="); hex(linked[first].path, strlen(linked[first].path)); }
    }
    if (S_ISREG(found.st_mode)) {
        printf(" size=%lld sparse=%d", (long long)found.st_size,
               found.st_size > 1 << 20 && found.st_blocks * 512 < found.st_size / 2);
        content(path);
    } else if (S_ISLNK(found.st_mode)) {
        char target[5000];
        ssize_t size = readlink(path, target, sizeof target);
        check(size >= 0, path);
        printf(" target="), hex(target, size);
    } else if (S_ISCHR(found.st_mode) || S_ISBLK(found.st_mode)) {
        printf(" device=%u:%u", major(found.st_rdev), minor(found.st_rdev));
    }
    attributes(path);
    putchar('\n');
    if (!S_ISDIR(found.st_mode)) return;
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    check(count >= 0, path);
    for (int i = 0; i < count; i++) {
        char *name = entries[i]->d_name, *deeper, *relative;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
        check(asprintf(&deeper, "%s/%s", path, name) > 0 && asprintf(&relative, "%s/%s", below, name) > 0, path);
        walk(deeper, relative);
    }
}

int main(int count, char **arguments) {
    (void)count;
    walk(arguments[1], "");
    return fflush(stdout);
}
