/* The attacks that need a program of their own: the first argument selects one. */
#include "probe.h"

int main(int count, char **arguments) {
    const char *attack = count > 1 ? arguments[1] : "";
    const char *first = count > 2 ? arguments[2] : "";
    const char *second = count > 3 ? arguments[3] : "";
    const char *third = count > 4 ? arguments[4] : "";
    const char *fourth = count > 5 ? arguments[5] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(attack, "calls"))
        return try_calls();
    if (!strcmp(attack, "foreign-calls"))
        return try_foreign_calls();
    if (!strcmp(attack, "keys"))
        return try_keys(first);
    if (!strcmp(attack, "plant-key"))
        return plant_key(first, second);
    if (!strcmp(attack, "look-at-key"))
        return look_at_key(first);
    if (!strcmp(attack, "remove-keys"))
        return remove_keys(first);
    if (!strcmp(attack, "cgroups"))
        return try_cgroups(first);
    if (!strcmp(attack, "lift"))
        return lift_limits();
    if (!strcmp(attack, "freeze"))
        return freeze_self();
    if (!strcmp(attack, "freeze-child"))
        return freeze_child();
    if (!strcmp(attack, "cwd"))
        return look_from_cwd(count - 2, arguments + 2);
    if (!strcmp(attack, "hunt"))
        return hunt(first, second);
    if (!strcmp(attack, "descriptors"))
        return list_descriptors();
    if (!strcmp(attack, "files"))
        return make_files(first, atol(second));
    if (!strcmp(attack, "lease"))
        return take_lease(first, second);
    if (!strcmp(attack, "attributes"))
        return make_attributes(first, atol(second));
    if (!strcmp(attack, "fork"))
        return fork_many(atol(first));
    if (!strcmp(attack, "memory"))
        return take_memory(atol(first));
    if (!strcmp(attack, "nodes"))
        return open_nodes();
    if (!strcmp(attack, "chroot"))
        return break_chroot(first);
    if (!strcmp(attack, "push-input"))
        return push_input();
    if (!strcmp(attack, "loop"))
        return attach_loop(first);
    if (!strcmp(attack, "send"))
        return send_directory(first, second);
    if (!strcmp(attack, "receive"))
        return receive_directory(first, count - 3, arguments + 3);
    if (!strcmp(attack, "receive-and-rename"))
        return receive_and_rename(first, second, third, fourth);
    if (!strcmp(attack, "receive-and-unmount"))
        return receive_and_unmount(first, second);
    if (!strcmp(attack, "leave-and-rename"))
        return leave_and_rename(first, second, third, fourth);
    if (!strcmp(attack, "swap"))
        return change_places(first, second);
    if (!strcmp(attack, "remove-place"))
        return remove_place(first, second);
    if (!strcmp(attack, "who")) {
        printf("euid %d egid %d\n", geteuid(), getegid());
        return 0;
    }
    fprintf(stderr, "no attack %s\n", attack);
    return 64;
}
