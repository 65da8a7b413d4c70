/* Mounts the cgroup hierarchies in every permitted way, to see other groups, raise limits, and freeze itself. */
#include <ftw.h>

#include "probe.h"

static const char *const HIERARCHIES[] = {"cgroup2", "name=systemd", "memory", "pids", "cpu", "cpu,cpuacct", "cpuacct",
    "freezer", "devices", "blkio", "cpuset"};
static const char *victim;

/* Enters namespaces in which mounts are allowed: as root of a user namespace, else with this process' own privileges. */
static int enter(void) {
    unsigned uid = geteuid(), gid = getegid();
    puts("TRYING");
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP) == 0) {
        char map[64];
        puts("unshared by a user namespace");
        put("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "0 %u 1", uid);
        put("/proc/self/uid_map", map);
        snprintf(map, sizeof map, "0 %u 1", gid);
        put("/proc/self/gid_map", map);
    } else if (unshare(CLONE_NEWNS | CLONE_NEWCGROUP) == 0) {
        puts("unshared");
    } else {
        printf("REFUSED unshare %s\n", strerrorname_np(errno));
    }
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    return 0;
}

static int mounted(size_t i, char *target, size_t length) {
    snprintf(target, length, "/tmp/hierarchy%zu", i);
    mkdir(target, 0755);
    int result = i == 0 ? mount("x", target, "cgroup2", 0, NULL) : mount("x", target, "cgroup", 0, HIERARCHIES[i]);
    printf("mount %s %s\n", HIERARCHIES[i], result == 0 ? "made" : strerrorname_np(errno));
    return result;
}

static int visit(const char *path, const struct stat *status, int kind, struct FTW *at) {
    (void)status;
    if (kind != FTW_D)
        return 0;
    if (!strcmp(path + at->base, victim)) {
        char file[4200], number[32];
        printf("SEEN %s\n", path);
        snprintf(file, sizeof file, "%s/cgroup.procs", path);
        snprintf(number, sizeof number, "%d", getpid());
        if (put(file, number) == 0)
            printf("JOINED %s\n", path);
        snprintf(file, sizeof file, "%s/cgroup.kill", path);
        if (put(file, "1") == 0)
            printf("KILLED %s\n", path);
    }
    return 0;
}

/* Returns any group of the host with this name. */
int try_cgroups(const char *name) {
    char target[64];
    victim = name;
    enter();
    for (size_t i = 0; i < sizeof HIERARCHIES / sizeof *HIERARCHIES; i++)
        if (mounted(i, target, sizeof target) == 0)
            nftw(target, visit, 64, FTW_PHYS);
    nftw("/sys/fs/cgroup", visit, 64, FTW_PHYS);
    puts("searched");
    return 0;
}

/* Returns whether this process is in a group. Other processes of the host must not suffer from an attack that gets through. */
static int is_own(const char *group) {
    char path[4200];
    int pid, found = 0;
    snprintf(path, sizeof path, "%s/cgroup.procs", group);
    FILE *file = fopen(path, "re");
    while (file && fscanf(file, "%d", &pid) == 1)
        found |= pid == getpid();
    if (file)
        fclose(file);
    return found;
}

static char own[4200];

static int find_own(const char *path, const struct stat *status, int kind, struct FTW *at) {
    (void)status, (void)at;
    if (kind == FTW_D && strlen(path) < sizeof own && is_own(path))
        strcpy(own, path);
    return 0;
}

static void write_to(const char *group, const char *name, const char *value) {
    char path[4400];
    snprintf(path, sizeof path, "%s/%s", group, name);
    if (access(path, F_OK) == 0)
        printf("write %s %s\n", path, put(path, value) == 0 ? "made" : strerrorname_np(errno));
}

/* This process' group in a hierarchy, and each visible one above it. */
static void each_of_own(const char *root, void (*change)(const char *group)) {
    own[0] = 0;
    nftw(root, find_own, 64, FTW_PHYS);
    while (strlen(own) >= strlen(root)) {
        change(own);
        *strrchr(own, '/') = 0;
    }
}

static void in_each_hierarchy(void (*change)(const char *group)) {
    char target[64];
    enter();
    for (size_t i = 0; i < sizeof HIERARCHIES / sizeof *HIERARCHIES; i++)
        if (mounted(i, target, sizeof target) == 0)
            each_of_own(target, change);
    each_of_own("/sys/fs/cgroup", change);
}

static void lift(const char *group) {
    static const char *const LIMITS[][2] = {{"memory.limit_in_bytes", "-1"}, {"memory.max", "max"}, {"pids.max", "max"},
        {"cpu.cfs_quota_us", "-1"}, {"cpu.max", "max"}, {"memory.memsw.limit_in_bytes", "-1"}};
    for (size_t i = 0; i < sizeof LIMITS / sizeof *LIMITS; i++)
        write_to(group, LIMITS[i][0], LIMITS[i][1]);
}

/* Raises each limit that it finds. Other steps check whether that worked. */
int lift_limits(void) {
    in_each_hierarchy(lift);
    puts("tried to lift");
    return 0;
}

/* The root of a hierarchy, which has other processes too, has no file to freeze it. */
static void freeze(const char *group) {
    write_to(group, "freezer.state", "FROZEN");
    write_to(group, "cgroup.freeze", "1");
}

/* Freezes its own group. */
int freeze_self(void) {
    in_each_hierarchy(freeze);
    puts("not frozen");
    for (;;)
        pause();
}

static char inner[4200];

/* Makes a group below its own one: in a freezer of v1 where there is one, because SIGKILL waits there. */
static void make_inner(const char *group) {
    char path[4400];
    snprintf(path, sizeof path, "%s/freezer.state", group);
    int freezer = access(path, F_OK) == 0;
    snprintf(path, sizeof path, "%s/cgroup.freeze", group);
    if (!freezer && (inner[0] || access(path, F_OK) != 0))
        return;
    snprintf(inner, sizeof inner, "%.4000s/inner", group);
    if (mkdir(inner, 0755) < 0 && errno != EEXIST)
        inner[0] = 0;
}

/* Freezes a child in a group below, again after each thaw. */
int freeze_child(void) {
    char state[4300], freeze[4300], procs[4300];
    in_each_hierarchy(make_inner);
    printf("%s %s\n", inner[0] ? "made" : "no group", inner);
    snprintf(procs, sizeof procs, "%s/cgroup.procs", inner);
    snprintf(state, sizeof state, "%s/freezer.state", inner);
    snprintf(freeze, sizeof freeze, "%s/cgroup.freeze", inner);
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    char number[32];
    snprintf(number, sizeof number, "%d", child);
    say("moved", put(procs, number));
    puts("FREEZING");
    for (;;) {
        put(state, "FROZEN");
        put(freeze, "1");
    }
}
