/* A disk that fails on demand: preloaded into a process, it counts the calls that change files
 * under one folder, and at the N-th kills the process, tears the write, or fails it.
 *
 *     cc -shared -fPIC -o disk.so disk.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { OFF, KILL, TORN, FULL, BROKEN, SHORT, INTERRUPTED };

static int mode = OFF;
static long number = 0, seen = 0, faults = 0;
static __thread long mine = 0; /* which call this thread is at: several threads write */
static char folder[PATH_MAX];

void disk_arm(int new_mode, long new_number, const char *new_folder) {
    strncpy(folder, new_folder, sizeof folder - 1);
    number = new_number;
    seen = faults = 0;
    mode = new_mode;
}

long disk_seen(void) { return seen; }

long disk_faults(void) { return faults; }

static int fail(int reason) {
    faults++;
    errno = reason;
    return 1;
}

static int ours(const char *path) {
    return mode != OFF && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int ours_open(int file) {
    char link[64], path[PATH_MAX];
    if (mode == OFF) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return ours(path);
}

/* Whether this call fails, with errno set; a kill does not return. `half` tears a write. */
static int struck(int is_write) {
    /* These strike writes alone, and count them alone: several threads write, so that the place of
       a write among all calls is another in every run. */
    if (!is_write && (mode == TORN || mode == SHORT || mode == INTERRUPTED)) return 0;
    mine = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    if (mine < number || mode == OFF) return 0;
    if (mode == FULL) { /* stays full, but what needs no space goes on working */
        if (!is_write && mine > number) return 0;
        return fail(ENOSPC);
    }
    if (mine > number) return 0;
    if (mode == KILL) kill(getpid(), SIGKILL);
    if (mode == BROKEN) return fail(EIO);
    if (mode == INTERRUPTED && is_write) return fail(EINTR);
    return 0;
}

static int halved(void) {
    if (mine != number || (mode != TORN && mode != SHORT)) return 0;
    faults++;
    return 1;
}

static void end_if_torn(void) { if (mode == TORN) kill(getpid(), SIGKILL); }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *data, size_t size) {
    if (!ours_open(file)) return REAL(write)(file, data, size);
    if (struck(1)) return -1;
    if (!halved()) return REAL(write)(file, data, size);
    ssize_t done = REAL(write)(file, data, (size + 1) / 2);
    end_if_torn();
    return done;
}

#define PWRITE(name, offset_type)                                             \
    ssize_t name(int file, const void *data, size_t size, offset_type at) {   \
        if (!ours_open(file)) return REAL(name)(file, data, size, at);        \
        if (struck(1)) return -1;                                             \
        if (!halved()) return REAL(name)(file, data, size, at);               \
        ssize_t done = REAL(name)(file, data, (size + 1) / 2, at);            \
        end_if_torn();                                                        \
        return done;                                                          \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define ON_FILE(name, extra, pass)                                            \
    int name(int file extra) {                                                \
        if (ours_open(file) && struck(0)) return -1;                          \
        return REAL(name)(file pass);                                         \
    }
#define COMMA ,
ON_FILE(fsync, , )
ON_FILE(fdatasync, , )
ON_FILE(ftruncate, COMMA off_t size, COMMA size)
ON_FILE(ftruncate64, COMMA off64_t size, COMMA size)

#define ON_PATH(name, extra, pass)                                            \
    int name(const char *path extra) {                                        \
        if (ours(path) && struck(0)) return -1;                               \
        return REAL(name)(path pass);                                         \
    }
ON_PATH(rename, COMMA const char *to, COMMA to)
ON_PATH(unlink, , )
ON_PATH(rmdir, , )
ON_PATH(mkdir, COMMA mode_t rights, COMMA rights)

int link(const char *from, const char *to) {
    if (ours(from) && struck(0)) return -1;
    return REAL(link)(from, to);
}

/* os.link of Python may come as linkat. */
int linkat(int a, const char *from, int b, const char *to, int flags) {
    if (ours(from) && struck(0)) return -1;
    return REAL(linkat)(a, from, b, to, flags);
}
