/* Preloaded into the service by tests/service/stuck.rs: while the file named by HANG exists, a read of a file whose path
 * ends with what stands in it on a line `read PATH` does not return, and a sync neither for `sync PATH`. What a dead file server or disk does, without either. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is_meant(int fd, const char *verb, const char *control) {
    char link[64], path[4096], wanted[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    int file = open(control, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t got = read(file, wanted, sizeof wanted - 1);
    close(file);
    wanted[got > 0 ? got : 0] = 0;
    for (char *rest = wanted, *line; (line = strsep(&rest, "\n"));) {
        if (strncmp(line, verb, 5))
            continue;
        line += 5;
        size_t ending = strlen(line);
        if (ending && ending <= (size_t)length && !strcmp(path + length - ending, line))
            return 1;
    }
    return 0;
}

static void hang(int fd, const char *verb) {
    const char *control = getenv("HANG");
    if (!control || access(control, F_OK) || !is_meant(fd, verb, control))
        return;
    while (!access(control, F_OK))
        usleep(10000);
}

ssize_t pread64(int fd, void *buffer, size_t count, off64_t offset) {
    static ssize_t (*next)(int, void *, size_t, off64_t);
    if (!next)
        next = (ssize_t(*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
    hang(fd, "read ");
    return next(fd, buffer, count, offset);
}

ssize_t pread(int fd, void *buffer, size_t count, off_t offset) {
    static ssize_t (*next)(int, void *, size_t, off_t);
    if (!next)
        next = (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
    hang(fd, "read ");
    return next(fd, buffer, count, offset);
}

int fsync(int fd) {
    static int (*next)(int);
    if (!next)
        next = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    hang(fd, "sync ");
    return next(fd);
}

int fdatasync(int fd) {
    static int (*next)(int);
    if (!next)
        next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    hang(fd, "sync ");
    return next(fd);
}
