/* Sends a directory from one step to another over a socket; the receiver uses it after the sender has ended. PATIENCE, from
   the compiler's command line, is the number of seconds that one waits for the other. */
#include "probe.h"
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static int stream(const char *path, struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    strncpy(address->sun_path, path, sizeof address->sun_path - 1);
    return socket(AF_UNIX, SOCK_STREAM, 0);
}

/* Opens a directory or file, sends it, and ends when the receiver asks for that or has ended. */
int send_directory(const char *path, const char *directory) {
    struct sockaddr_un address;
    int connection = stream(path, &address), tries = PATIENCE * 50;
    while (connect(connection, (void *)&address, sizeof address) && --tries)
        usleep(20000);
    int opened = open(directory, O_RDONLY);
    char byte = 'x', room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &opened, sizeof opened);
    if (opened < 0 || sendmsg(connection, &message, 0) < 0)
        return 1;
    return read(connection, &byte, 1) < 0;
}

static void look(int directory, const char *path) {
    struct stat status;
    char bytes[16];
    int file = openat(directory, path, O_RDONLY | O_NONBLOCK);
    if (file >= 0 && !fstat(file, &status) && S_ISDIR(status.st_mode) && !mkdirat(file, "planted", 0700))
        printf("PLANTED IN %s\n", path);
    /* A null device hides the file. */
    if (file >= 0 && !strcmp(path, "keys") && read(file, bytes, sizeof bytes) > 0)
        printf("READABLE %s\n", path);
    close(file);
    /* Opened, never written: the file is the host's. */
    if (!strncmp(path, "sys/", 4) && (file = openat(directory, path, O_WRONLY)) >= 0) {
        printf("WRITABLE %s\n", path);
        close(file);
    }
}

/* Receives a descriptor, and confirms it; -1 where none came. Stores the connection to its sender in the argument. */
static int receive(const char *path, int *connection) {
    struct sockaddr_un address;
    int listening = stream(path, &address), received;
    alarm(PATIENCE);
    if (bind(listening, (void *)&address, sizeof address) || listen(listening, 1))
        return -1;
    *connection = accept(listening, NULL, NULL);
    char byte, room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    if (recvmsg(*connection, &message, 0) < 1 || !CMSG_FIRSTHDR(&message))
        return -1;
    memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof received);
    puts("TRYING");
    return received;
}

/* Receives a descriptor while its sender runs: the connection stays open to the end of this process. */
int receive_descriptor(const char *path) {
    int connection;
    return receive(path, &connection);
}

/* Receives a directory, and looks at files in it for a second, on a usual machine, after its sender has ended. */
int receive_directory(const char *path, int count, char **paths) {
    char byte = 'x';
    int connection, directory = receive(path, &connection);
    if (directory < 0 || write(connection, &byte, 1) != 1 || read(connection, &byte, 1) != 0)
        return 1;
    for (int turn = 0; turn < PATIENCE / 2; turn++, usleep(100000))
        for (int at = 0; at < count; at++)
            look(directory, paths[at]);
    return 0;
}
