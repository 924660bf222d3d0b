/* Counts the syncs of the files in one directory, keeps an image of what has been made durable, and ends the process at
 * the sync that it is told. Loaded with LD_PRELOAD; nothing in the program knows of it.
 *
 *   CUT_DIR    the directory, absolute; without it nothing is done
 *   CUT_IMAGE  a directory with `data/` and `entries/`: the durable image
 *   CUT_AT     end the process at this sync, counted from 1 in each process; 0: never
 *   CUT_WHEN   «before»: nothing of that sync has happened; «after»: all of it has, and nobody was told yet
 *   CUT_SNAPS  a directory: before sync n the database files are copied to CUT_SNAPS/n,
 *   CUT_FROM   beginning with this n
 *   CUT_LIES   if set, no sync reaches the image: a disk that forgets
 *   CUT_LOG    a file: one line for each sync, its number and the file's name
 *
 * The image is pessimistic: the content of a file is what it was when its last completed sync began, and a name is there,
 * or gone, only since a completed sync of the directory. So nothing that a power cut may take is in it. A file is named
 * in `data/` by inode and time of birth; `entries/NAME` is a link that says which of them the name stands for.
 *
 * The database itself is read by the descriptor that is being synced, and never opened here: closing another descriptor
 * of it would drop the locks that SQLite holds by fcntl. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int (*sync_call)(int);

static char dir[PATH_MAX], image[PATH_MAX], snaps[PATH_MAX];
static long cut_at, snaps_from, count;
static int cut_after, lies, log_fd = -1, image_lock = -1;
static sync_call real_fsync, real_fdatasync;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

/* What cannot be modelled must not look like a passed test: the driver tells SIGABRT from SIGKILL. */
static void __attribute__((noreturn, format(printf, 1, 2))) give_up(const char *format, ...) {
    char text[PATH_MAX + 200];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text - 1, format, arguments);
    va_end(arguments);
    text[length++] = '\n';
    if (write(2, text, (size_t)length) < 0) _exit(134);
    abort();
}

static void __attribute__((format(printf, 2, 3))) path(char *to, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(to, PATH_MAX, format, arguments);
    va_end(arguments);
    if (length < 0 || length >= PATH_MAX) give_up("shim: a path is too long");
}

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static void __attribute__((constructor)) begin(void) {
    real_fsync = (sync_call)dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (sync_call)dlsym(RTLD_NEXT, "fdatasync");
    path(dir, "%s", setting("CUT_DIR"));
    path(image, "%s", setting("CUT_IMAGE"));
    path(snaps, "%s", setting("CUT_SNAPS"));
    cut_at = atol(setting("CUT_AT"));
    snaps_from = atol(setting("CUT_FROM"));
    cut_after = strcmp(setting("CUT_WHEN"), "after") == 0;
    lies = *setting("CUT_LIES") != 0;
    if (!*dir) return;
    char name[PATH_MAX];
    path(name, "%s/lock", image);
    image_lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (image_lock < 0) give_up("shim: %s: %s", name, strerror(errno));
    if (*setting("CUT_LOG")) {
        log_fd = open(setting("CUT_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log_fd < 0) give_up("shim: %s: %s", setting("CUT_LOG"), strerror(errno));
    }
}

static void write_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t written = write(fd, bytes, length);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) give_up("shim: write: %s", strerror(errno));
        bytes += written;
        length -= (size_t)written;
    }
}

/* Copies by pread, so that the position of a descriptor that is the program's stays where it is. */
static void copy_to(int from, const char *to) {
    static char block[1 << 16];
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0) give_up("shim: %s: %s", to, strerror(errno));
    for (off_t at = 0;;) {
        ssize_t got = pread(from, block, sizeof block, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) give_up("shim: pread for %s: %s", to, strerror(errno));
        if (got == 0) break;
        write_all(out, block, (size_t)got);
        at += got;
    }
    close(out);
}

/* What tells this file from any other that has its name or its inode at another time. */
static int identity(int at, const char *name, int flags, char *key, int *regular) {
    struct statx found;
    if (statx(at, name, flags, STATX_INO | STATX_TYPE | STATX_BTIME, &found) != 0) return -1;
    *regular = S_ISREG(found.stx_mode);
    path(key, "%llu-%lld.%09u", (unsigned long long)found.stx_ino, (long long)found.stx_btime.tv_sec,
         found.stx_btime.tv_nsec);
    return 0;
}

/* The name in the directory of what a descriptor is open on: «.» for the directory itself, null if it lies elsewhere. */
static const char *name_in_dir(int fd, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length <= 0) return NULL;
    buffer[length] = 0;
    size_t own = strlen(dir);
    if (strncmp(buffer, dir, own) != 0) return NULL;
    if (buffer[own] == 0) return ".";
    return buffer[own] == '/' ? buffer + own + 1 : NULL;
}

/* The names that lie in the directory now become the durable ones. */
static void publish_entries(void) {
    char name[PATH_MAX], temporary[PATH_MAX], key[PATH_MAX];
    int regular;
    DIR *now = opendir(dir);
    if (!now) give_up("shim: %s: %s", dir, strerror(errno));
    path(temporary, "%s/entry", image);
    for (struct dirent *entry; (entry = readdir(now));) {
        if (identity(dirfd(now), entry->d_name, AT_SYMLINK_NOFOLLOW, key, &regular) != 0 || !regular) continue;
        path(name, "%s/entries/%s", image, entry->d_name);
        unlink(temporary);
        if (symlink(key, temporary) != 0 || rename(temporary, name) != 0) {
            give_up("shim: %s: %s", name, strerror(errno));
        }
    }
    closedir(now);
    path(name, "%s/entries", image);
    DIR *durable = opendir(name);
    if (!durable) give_up("shim: %s: %s", name, strerror(errno));
    for (struct dirent *entry; (entry = readdir(durable));) {
        if (entry->d_name[0] == '.') continue;
        path(name, "%s/%s", dir, entry->d_name);
        if (faccessat(AT_FDCWD, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0) unlinkat(dirfd(durable), entry->d_name, 0);
    }
    closedir(durable);
}

/* Copies the database files, in a child: there the locks of this process are not to be lost. */
static void snapshot(long n) {
    pid_t child = fork();
    if (child < 0) give_up("shim: fork: %s", strerror(errno));
    if (child == 0) {
        char from[PATH_MAX], to[PATH_MAX];
        const char *names[] = {"upspool.db", "upspool.db-wal", "upspool.db-journal"};
        path(to, "%s/%ld", snaps, n);
        if (mkdir(to, 0700) != 0) _exit(1);
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            path(from, "%s/%s", dir, names[i]);
            path(to, "%s/%ld/%s", snaps, n, names[i]);
            int fd = open(from, O_RDONLY | O_CLOEXEC);
            if (fd >= 0) copy_to(fd, to);
        }
        _exit(0);
    }
    int status;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) give_up("shim: waitpid: %s", strerror(errno));
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) give_up("shim: no snapshot %ld", n);
}

static void __attribute__((noreturn)) die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int synced(int fd, sync_call real) {
    char buffer[PATH_MAX], line[PATH_MAX + 32], key[PATH_MAX], temporary[PATH_MAX], data[PATH_MAX];
    int saved = errno, regular;
    const char *name = *dir ? name_in_dir(fd, buffer) : NULL;
    if (!name) {
        errno = saved;
        return real(fd);
    }
    pthread_mutex_lock(&turn);
    /* A command may write beside the service. */
    while (flock(image_lock, LOCK_EX) != 0) {
        if (errno != EINTR) give_up("shim: flock: %s", strerror(errno));
    }
    long n = ++count;
    if (log_fd >= 0) write_all(log_fd, line, (size_t)snprintf(line, sizeof line, "%ld %s\n", n, name));
    if (snaps_from > 0 && n >= snaps_from) snapshot(n);
    if (n == cut_at && !cut_after) die();
    if (identity(fd, "", AT_EMPTY_PATH, key, &regular) != 0) give_up("shim: statx: %s", strerror(errno));
    if (regular) {
        path(temporary, "%s/content", image);
        path(data, "%s/data/%s", image, key);
        copy_to(fd, temporary);
    }
    errno = saved;
    int result = real(fd);
    saved = errno;
    if (result == 0 && !lies) {
        if (!regular) publish_entries();
        else if (rename(temporary, data) != 0) give_up("shim: %s: %s", data, strerror(errno));
    }
    if (n == cut_at) die();
    flock(image_lock, LOCK_UN);
    pthread_mutex_unlock(&turn);
    errno = saved;
    return result;
}

int fsync(int fd) { return synced(fd, real_fsync); }

int fdatasync(int fd) { return synced(fd, real_fdatasync); }

/* Nothing that the program does with its store goes this way today. */
int syncfs(int fd) { give_up("shim: syncfs(%d) is not modelled", fd); }

void sync(void) { give_up("shim: sync() is not modelled"); }
