/* Makes calls on the files of the store fail, as long as the file named by SHIM_FAULT says which: a line
 * "CALL ERRNO" with CALL one of write, sync, read, open. Everything else goes through. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static __thread int inside;

static const struct { const char *name; int number; } numbers[] = {
    {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EROFS", EROFS},
};

/* The error that this call has to fail with, or 0. */
static int fault(const char *call, const char *path) {
    const char *flag = getenv("SHIM_FAULT");
    if (!flag || inside || !path || !strstr(path, "/upspool.db") || strstr(path, ".witness")) return 0;
    inside = 1;
    int result = 0;
    FILE *file = fopen(flag, "re");
    char name[16], error[16];
    if (file) {
        while (fscanf(file, "%15s %15s", name, error) == 2)
            for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
                if (!strcmp(name, call) && !strcmp(error, numbers[i].name)) result = numbers[i].number;
        fclose(file);
    }
    inside = 0;
    return result;
}

static int fault_of(const char *call, int fd) {
    char link[64], path[4096];
    if (inside || !getenv("SHIM_FAULT")) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fault(call, path);
}

#define REAL(name) ({ static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name); real; })
#define FAIL_IF(number) do { int e = (number); if (e) { errno = e; return -1; } } while (0)

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    FAIL_IF(fault_of("write", fd));
    return REAL(pwrite)(fd, data, length, at);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) {
    FAIL_IF(fault_of("write", fd));
    return REAL(pwrite64)(fd, data, length, at);
}
ssize_t pread(int fd, void *data, size_t length, off_t at) {
    FAIL_IF(fault_of("read", fd));
    return REAL(pread)(fd, data, length, at);
}
ssize_t pread64(int fd, void *data, size_t length, off64_t at) {
    FAIL_IF(fault_of("read", fd));
    return REAL(pread64)(fd, data, length, at);
}
ssize_t read(int fd, void *data, size_t length) {
    FAIL_IF(fault_of("read", fd));
    return REAL(read)(fd, data, length);
}
int fsync(int fd) {
    FAIL_IF(fault_of("sync", fd));
    return REAL(fsync)(fd);
}
int fdatasync(int fd) {
    FAIL_IF(fault_of("sync", fd));
    return REAL(fdatasync)(fd);
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}
static int fault_of_open(const char *path, int flags) {
    return (flags & O_ACCMODE) == O_RDONLY ? 0 : fault("open", path);
}
int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    FAIL_IF(fault_of_open(path, flags));
    return REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    FAIL_IF(fault_of_open(path, flags));
    return REAL(open64)(path, flags, mode);
}
