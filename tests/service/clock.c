/* Shifts the calendar, and nothing else, by the seconds that the file CLOCK_SHIFT says: the boot clock stays. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    const char *path = getenv("CLOCK_SHIFT");
    if (result == 0 && clock == CLOCK_REALTIME && path) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            char text[32] = {0};
            if (read(file, text, sizeof text - 1) > 0) time->tv_sec += atoll(text);
            close(file);
        }
    }
    return result;
}
