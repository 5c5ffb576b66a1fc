/* A native thread that watches the thread of an event loop, and never takes the interpreter's lock.

At each tick it looks whether the loop's thread waits for events in its own selector. If not, it
writes to a descriptor that the event loop reads, and expects an answer. If there is none in time,
it samples what the loop's thread does, until there is one.

Or it watches the requests that threads of a WSGI server handle: at each tick it looks whether one
of them takes long, by the slots that journal/in_flight.py describes, and samples what its thread
does until the request ends, or for 10 s.

After the start it allocates nothing, calls nothing of Python and blocks all signals. Its memory
is shared with one object of Python: whoever lets go last frees it. */

#ifndef AQLTELEMETRY_WATCHDOG_H
#define AQLTELEMETRY_WATCHDOG_H

#ifndef __linux__
#error "the watchdog reads /proc of Linux"
#endif

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WATCHING, SUSPECTING, ENDED };
enum { MAX_SAMPLES = 1024, MAX_THREADS = 256, STACK_BYTES = 256 << 10 };
enum { NO_CALL = -1, RUNNING = -2, UNKNOWN_CALL = -3 };
enum { ALIVE_AT = 520, SLOTS_AT = 1024, SLOT_BYTES = 256, TEXT_AT = 32, TEXT_BYTES = 224 };
enum { MAX_LOOPS = 16 };
#define SUSPENDED_NS 50000000
#define LONGEST_LOOK_NS 10000000000
#define LOOK_FOR_END_NS 25000000
#define NO_SIGN_NS 2000000000

typedef struct {
    int64_t at_ns;
    int64_t cpu_ns;
    int64_t delay_ns;
    int64_t major_faults;
    int64_t overrun_ns;   /* how much later than asked for the watchdog itself woke up */
    int64_t own_delay_ns; /* how long it waited for a processor meanwhile */
    uint64_t argument;
    int32_t call;
    int32_t descriptor_kind;
    int32_t generation;
    int32_t collecting_tid;
    int32_t other_tid;
    int32_t state;
    int64_t throttled_ns; /* how long the control group was kept from its processors; -1: unknown */
} Sample;

typedef struct {
    int owners;
    int is_stopping;
    int is_ignored;
    int phase;
    pid_t loop_tid, probe_tid, own_tid;
    int64_t tick_ns, late_ns, period_ns, threshold_ns;
    int ping_fd, probe_fd, stop_fd;
    int stat_fd, schedstat_fd, syscall_fd, own_schedstat_fd, probe_schedstat_fd;
    int throttled_fd; /* the file of the control group's limit; -1 if there is none */
    int selector_fd;  /* the descriptor that the loop waits on; -1 while unknown */
    int64_t answered_ns, wanted_ns, got_ns;
    int collecting_tid, generation;
    int64_t wakeups, pings, pinged_ns, missed;
    /* of the suspected stall */
    int64_t quiet_ns, begin_ns, end_ns;
    int count, other_tid;
    int64_t throttled_ns;
    /* the file that journal/in_flight.py describes, and threads that have event loops */
    char *slots;
    size_t slots_bytes;
    int loop_tids[MAX_LOOPS];
    int is_unended, text_bytes;
    char text[TEXT_BYTES];
    Sample pinged, before;
    Sample samples[MAX_SAMPLES];
} Watch;

#define LOAD(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)
#define STORE(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)

static int64_t watch_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int watch_open(const char *format, int tid) {
    char path[64];
    snprintf(path, sizeof path, format, tid);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void watch_close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static void watch_close(Watch *w) {
    watch_close_fd(&w->probe_fd);
    watch_close_fd(&w->stop_fd);
    watch_close_fd(&w->stat_fd);
    watch_close_fd(&w->schedstat_fd);
    watch_close_fd(&w->syscall_fd);
    watch_close_fd(&w->own_schedstat_fd);
    watch_close_fd(&w->probe_schedstat_fd);
    watch_close_fd(&w->throttled_fd);
}

static void watch_release(Watch *w) {
    if (__atomic_sub_fetch(&w->owners, 1, __ATOMIC_ACQ_REL) > 0) return;
    watch_close(w);
    watch_close_fd(&w->ping_fd);
    if (w->slots != NULL) munmap(w->slots, w->slots_bytes);
    free(w);
}

static void watch_open_thread(Watch *w, int tid) {
    w->stat_fd = watch_open("/proc/self/task/%d/stat", tid);
    w->schedstat_fd = watch_open("/proc/self/task/%d/schedstat", tid);
    w->syscall_fd = watch_open("/proc/self/task/%d/syscall", tid);
}

static void watch_close_thread(Watch *w) {
    watch_close_fd(&w->stat_fd);
    watch_close_fd(&w->schedstat_fd);
    watch_close_fd(&w->syscall_fd);
}

/* Map the requests in flight once more, so that the watchdog's own mapping stays until its end. */
static int watch_map_slots(Watch *w, void *slots, size_t bytes) {
    void *mapped = mremap(slots, 0, bytes, MREMAP_MAYMOVE);
    if (mapped == MAP_FAILED) return errno;
    w->slots = mapped;
    w->slots_bytes = bytes;
    return 0;
}

/* Note that the process lives, if its event loop has not done so for some time.

The store may wait for the disk, so callers look at the clock after it. */
static void watch_stamp(Watch *w) {
    int64_t *alive_ns = w->slots == NULL ? NULL : (int64_t *)(w->slots + ALIVE_AT);
    int64_t now_ns = watch_now_ns();
    if (alive_ns != NULL && now_ns - LOAD(*alive_ns) > NO_SIGN_NS) STORE(*alive_ns, now_ns);
}

/* Return NULL if there is no memory or no descriptor. `loop_tid` is 0 to watch requests. */
static Watch *watch_new(int loop_tid) {
    Watch *w = calloc(1, sizeof(Watch));
    if (w == NULL) return NULL;
    w->owners = 1;
    w->loop_tid = loop_tid;
    w->selector_fd = -1;
    w->ping_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    w->probe_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    w->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    w->stat_fd = w->schedstat_fd = w->syscall_fd = -1;
    if (loop_tid) watch_open_thread(w, loop_tid);
    w->own_schedstat_fd = w->probe_schedstat_fd = w->throttled_fd = -1;
    if (w->ping_fd < 0 || w->probe_fd < 0 || w->stop_fd < 0) {
        watch_release(w);
        return NULL;
    }
    return w;
}

static void watch_signal(int fd) {
    uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof one);
    (void)written;
}

static void watch_drain(int fd) {
    uint64_t count;
    ssize_t got = read(fd, &count, sizeof count);
    (void)got;
}

/* Wait until a time, or until a descriptor can be read; return whether it can. */
static int watch_wait(int fd, int64_t until_ns) {
    struct pollfd wanted = {fd, POLLIN, 0};
    int64_t left_ns = until_ns - watch_now_ns();
    struct timespec left;
    if (left_ns < 0) left_ns = 0;
    left.tv_sec = left_ns / 1000000000;
    left.tv_nsec = left_ns % 1000000000;
    return ppoll(&wanted, 1, &left, NULL) > 0;
}

static int watch_read(int fd, char *text, size_t size) {
    ssize_t got = fd < 0 ? -1 : pread(fd, text, size - 1, 0);
    text[got < 0 ? 0 : got] = 0;
    return got > 0;
}

/* The time on a processor and the time spent waiting for one; -1 where it is not known. */
static void watch_schedstat(int fd, int64_t *cpu_ns, int64_t *delay_ns) {
    char text[128], *rest;
    *cpu_ns = *delay_ns = -1;
    if (!watch_read(fd, text, sizeof text)) return;
    *cpu_ns = strtoll(text, &rest, 10);
    *delay_ns = strtoll(rest, NULL, 10);
}

static void watch_stat(int fd, int32_t *state, int64_t *major_faults) {
    char text[512], *at;
    int field;
    *state = '?';
    *major_faults = -1;
    if (!watch_read(fd, text, sizeof text)) return;
    at = strrchr(text, ')');
    if (at == NULL || at[1] != ' ') return;
    at += 2;
    *state = *at;
    for (field = 3; field < 12 && at != NULL; field++) {
        at = strchr(at, ' ');
        if (at != NULL) at++;
    }
    if (at != NULL) *major_faults = strtoll(at, NULL, 10);
}

static void watch_syscall(int fd, int32_t *call, uint64_t *argument) {
    char text[256], *rest;
    *call = UNKNOWN_CALL;
    *argument = 0;
    if (!watch_read(fd, text, sizeof text)) return;
    if (text[0] == 'r') {
        *call = RUNNING;
        return;
    }
    *call = (int32_t)strtol(text, &rest, 10);
    if (*call >= 0) *argument = strtoull(rest, NULL, 16);
}

/* `throttled_usec` in version 2 of control groups, `throttled_time`, in ns, in version 1. */
static int64_t watch_throttled(int fd) {
    char text[1024], *at;
    if (!watch_read(fd, text, sizeof text)) return -1;
    at = strstr(text, "throttled_time ");
    if (at != NULL) return strtoll(at + 15, NULL, 10);
    at = strstr(text, "throttled_usec ");
    return at == NULL ? -1 : strtoll(at + 15, NULL, 10) * 1000;
}

static int32_t watch_kind(int32_t call, uint64_t argument) {
    struct stat described;
    if (call < 0 || argument >= (1 << 20) || fstat((int)argument, &described) != 0) return 0;
    return (int32_t)(described.st_mode & S_IFMT);
}

static int watch_is_epoll(int32_t call) {
#ifdef SYS_epoll_wait
    if (call == SYS_epoll_wait) return 1;
#endif
#ifdef SYS_epoll_pwait2
    if (call == SYS_epoll_pwait2) return 1;
#endif
    return call == SYS_epoll_pwait;
}

/* Whether the loop's thread waits for events in its own selector; note what it does. */
static int watch_is_idle(Watch *w) {
    Sample *pinged = &w->pinged;
    watch_syscall(w->syscall_fd, &pinged->call, &pinged->argument);
    return watch_is_epoll(pinged->call) && (int)pinged->argument == LOAD(w->selector_fd);
}

/* Return another thread of the process that runs or waits for a processor; 0 if there is none. */
static int watch_other_running(Watch *w) {
    char names[4096], text[512];
    int found = 0, seen = 0;
    int fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return 0;
    while (!found && seen < MAX_THREADS) {
        long got = syscall(SYS_getdents64, fd, names, sizeof names), at = 0;
        if (got <= 0) break;
        while (at < got && !found && seen < MAX_THREADS) {
            /* struct linux_dirent64: ino, offset, length (16 bits), type, name */
            unsigned short length;
            int tid = atoi(names + at + 19);
            memcpy(&length, names + at + 16, sizeof length);
            at += length;
            if (tid <= 0 || tid == w->loop_tid || tid == w->own_tid || tid == LOAD(w->probe_tid))
                continue;
            seen++;
            int stat_fd = watch_open("/proc/self/task/%d/stat", tid);
            char *end = watch_read(stat_fd, text, sizeof text) ? strrchr(text, ')') : NULL;
            if (end != NULL && end[1] == ' ' && end[2] == 'R') found = tid;
            if (stat_fd >= 0) close(stat_fd);
        }
    }
    close(fd);
    return found;
}

static void watch_sample(Watch *w, Sample *sample, int64_t due_ns, int64_t *own_delay_ns) {
    int64_t cpu_ns, before_ns = *own_delay_ns;
    memset(sample, 0, sizeof *sample);
    sample->at_ns = watch_now_ns();
    sample->overrun_ns = sample->at_ns - due_ns;
    watch_schedstat(w->own_schedstat_fd, &cpu_ns, own_delay_ns);
    sample->own_delay_ns = *own_delay_ns - before_ns;
    sample->generation = LOAD(w->generation);
    sample->collecting_tid = LOAD(w->collecting_tid);
    watch_stat(w->stat_fd, &sample->state, &sample->major_faults);
    watch_syscall(w->syscall_fd, &sample->call, &sample->argument);
    watch_schedstat(w->schedstat_fd, &sample->cpu_ns, &sample->delay_ns);
    sample->descriptor_kind = watch_kind(sample->call, sample->argument);
    sample->throttled_ns = watch_throttled(w->throttled_fd);
    if (sample->state == 'S') {
        int64_t wanted_ns = LOAD(w->wanted_ns);
        if (wanted_ns > LOAD(w->got_ns) && sample->at_ns - wanted_ns > 2000000)
            sample->other_tid = watch_other_running(w);
        if (sample->other_tid) STORE(w->other_tid, sample->other_tid);
        if (sample->collecting_tid && sample->collecting_tid != w->loop_tid)
            STORE(w->other_tid, sample->collecting_tid);
    }
}

/* Keep every second sample; what is left stands for the time since the one before it. */
static void watch_thin(Watch *w) {
    int kept;
    for (kept = 0; 2 * kept + 1 < w->count; kept++) w->samples[kept] = w->samples[2 * kept + 1];
    w->count = kept;
}

static void watch_end(Watch *w, int64_t end_ns) {
    int is_long = end_ns - w->begin_ns >= w->threshold_ns && w->count > 0;
    w->end_ns = end_ns;
    w->throttled_ns = watch_throttled(w->throttled_fd);
    STORE(w->phase, is_long && !LOAD(w->is_ignored) ? ENDED : WATCHING);
    STORE(w->is_ignored, 0);
}

/* Sample the loop's thread until it answers; return whether the watchdog is to stop. */
static int watch_stall(Watch *w, int64_t quiet_ns, int64_t due_ns, int64_t *own_delay_ns) {
    int64_t period_ns = w->period_ns;
    w->quiet_ns = quiet_ns;
    w->begin_ns = w->pinged_ns;
    w->before = w->pinged;
    w->count = 0;
    STORE(w->other_tid, 0);
    STORE(w->phase, SUSPECTING);
    watch_signal(w->probe_fd);
    for (;;) {
        int64_t answered_ns = LOAD(w->answered_ns);
        if (answered_ns >= w->begin_ns) {
            watch_end(w, answered_ns);
            return 0;
        }
        if (!LOAD(w->is_ignored)) {
            if (w->count == MAX_SAMPLES) {
                watch_thin(w);
                period_ns *= 2;
            }
            watch_sample(w, &w->samples[w->count], due_ns, own_delay_ns);
            w->count++;
        } else {
            period_ns = w->tick_ns;
        }
        watch_stamp(w);
        due_ns = watch_now_ns() + period_ns;
        if (watch_wait(w->stop_fd, due_ns) || LOAD(w->is_stopping)) return 1;
    }
}

/* Note a stall that has ended before the watchdog, which was late itself, could look at it. */
static void watch_late(Watch *w, int64_t quiet_ns, const Sample *before, int64_t end_ns,
                       int64_t due_ns, int64_t *own_delay_ns) {
    w->quiet_ns = quiet_ns;
    w->begin_ns = before->at_ns;
    w->before = *before;
    watch_sample(w, &w->samples[0], due_ns, own_delay_ns);
    w->samples[0].state = '?';
    w->samples[0].call = UNKNOWN_CALL;
    w->count = 1;
    STORE(w->phase, SUSPECTING);
    watch_end(w, end_ns);
    watch_signal(w->probe_fd);
}

static void watch_ping(Watch *w, int64_t now_ns) {
    w->pings++;
    w->pinged_ns = w->pinged.at_ns = now_ns;
    watch_schedstat(w->schedstat_fd, &w->pinged.cpu_ns, &w->pinged.delay_ns);
    watch_stat(w->stat_fd, &w->pinged.state, &w->pinged.major_faults);
    w->pinged.descriptor_kind = watch_kind(w->pinged.call, w->pinged.argument);
    w->pinged.throttled_ns = watch_throttled(w->throttled_fd);
    watch_signal(w->ping_fd);
}

static void *watch_run(void *given) {
    Watch *w = given;
    int is_awaited = 0;
    int64_t cpu_ns, own_delay_ns, due_ns, now_ns, quiet_ns = watch_now_ns();
    w->own_tid = (int)syscall(SYS_gettid);
    w->own_schedstat_fd = watch_open("/proc/self/task/%d/schedstat", w->own_tid);
    for (;;) {
        watch_stamp(w);
        watch_schedstat(w->own_schedstat_fd, &cpu_ns, &own_delay_ns);
        due_ns = watch_now_ns() + w->tick_ns;
        if (watch_wait(w->stop_fd, due_ns) || LOAD(w->is_stopping)) break;
        w->wakeups++;
        now_ns = watch_now_ns();
        if (is_awaited) {
            if (LOAD(w->answered_ns) < w->pinged_ns) {
                if (now_ns - w->pinged_ns < w->late_ns) continue;
                if (LOAD(w->phase) != WATCHING) { /* the probe has not taken the last one yet */
                    w->missed++;
                    continue;
                }
                if (watch_stall(w, quiet_ns, due_ns, &own_delay_ns)) break;
                now_ns = watch_now_ns();
            } else if (LOAD(w->answered_ns) - w->pinged_ns >= w->threshold_ns
                       && LOAD(w->phase) == WATCHING) {
                watch_late(w, quiet_ns, &w->pinged, LOAD(w->answered_ns), due_ns, &own_delay_ns);
            }
            quiet_ns = LOAD(w->answered_ns);
            is_awaited = 0;
        } else if (now_ns - due_ns > SUSPENDED_NS && now_ns - due_ns >= w->threshold_ns
                   && LOAD(w->phase) == WATCHING) {
            /* The process was suspended while its event loop was idle. */
            Sample before;
            int64_t delay_ns;
            watch_schedstat(w->own_schedstat_fd, &cpu_ns, &delay_ns);
            if (now_ns - due_ns - (delay_ns - own_delay_ns) > SUSPENDED_NS) {
                memset(&before, 0, sizeof before);
                before.state = '?';
                before.call = UNKNOWN_CALL;
                before.throttled_ns = -1;
                before.at_ns = due_ns;
                watch_schedstat(w->schedstat_fd, &before.cpu_ns, &before.delay_ns);
                watch_late(w, due_ns, &before, now_ns, due_ns, &own_delay_ns);
            }
        }
        if (watch_is_idle(w)) {
            quiet_ns = now_ns;
        } else {
            watch_ping(w, now_ns);
            is_awaited = 1;
        }
    }
    watch_release(w);
    return NULL;
}

/* A request in flight, as it is in its slot. */
typedef struct {
    const char *slot;
    uint64_t control;
    int64_t begin_ns;
    int tid;
} Handled;

static uint64_t watch_word(const char *slot, int word) {
    return __atomic_load_n((const uint64_t *)slot + word, __ATOMIC_ACQUIRE);
}

static int watch_is_handled(const Handled *handled) {
    return watch_word(handled->slot, 0) == handled->control
           && (int64_t)watch_word(handled->slot, 1) == handled->begin_ns;
}

static int watch_has_loop(Watch *w, int tid) {
    int at;
    for (at = 0; at < MAX_LOOPS; at++)
        if (LOAD(w->loop_tids[at]) == tid) return 1;
    return 0;
}

/* Find the oldest request that takes long, and whose begin is not too long ago to be looked at. */
static int watch_find(Watch *w, int64_t now_ns, Handled *found) {
    size_t at;
    found->slot = NULL;
    for (at = SLOTS_AT; at + SLOT_BYTES <= w->slots_bytes; at += SLOT_BYTES) {
        const char *slot = w->slots + at;
        Handled each = {slot, watch_word(slot, 0), (int64_t)watch_word(slot, 1), 0};
        if (each.begin_ns == 0) break; /* this slot and those behind it were never used */
        if (each.control == 0 || now_ns - each.begin_ns < w->late_ns
            || now_ns - each.begin_ns > LONGEST_LOOK_NS)
            continue;
        each.tid = (int)(uint32_t)watch_word(slot, 2);
        if (found->slot != NULL && found->begin_ns <= each.begin_ns) continue;
        if (each.tid > 0 && !watch_has_loop(w, each.tid) && watch_is_handled(&each)) *found = each;
    }
    return found->slot != NULL;
}

/* Sample the thread of a request until it ends; return whether the watchdog is to stop. */
static int watch_request(Watch *w, const Handled *handled, int64_t due_ns, int64_t *own_delay_ns) {
    int64_t period_ns = w->period_ns;
    w->text_bytes = (int)(handled->control & 0xffff);
    if (w->text_bytes > TEXT_BYTES) w->text_bytes = TEXT_BYTES;
    memcpy(w->text, handled->slot + TEXT_AT, w->text_bytes);
    if (!watch_is_handled(handled)) return 0;
    w->loop_tid = handled->tid;
    watch_open_thread(w, handled->tid);
    w->quiet_ns = w->begin_ns = handled->begin_ns;
    watch_sample(w, &w->before, due_ns, own_delay_ns);
    due_ns = w->before.at_ns;
    w->count = 0;
    STORE(w->other_tid, 0);
    STORE(w->phase, SUSPECTING);
    watch_signal(w->probe_fd);
    for (;;) {
        int64_t now_ns = watch_now_ns(), wait_ns;
        w->is_unended = watch_is_handled(handled);
        if (!w->is_unended || now_ns - w->before.at_ns > LONGEST_LOOK_NS || LOAD(w->is_ignored)) {
            watch_end(w, now_ns);
            watch_close_thread(w);
            return 0;
        }
        if (now_ns >= due_ns) {
            if (w->count == MAX_SAMPLES) {
                watch_thin(w);
                period_ns *= 2;
            }
            watch_sample(w, &w->samples[w->count], due_ns, own_delay_ns);
            w->count++;
            watch_stamp(w);
            due_ns = watch_now_ns() + period_ns;
        }
        wait_ns = due_ns - now_ns < LOOK_FOR_END_NS ? due_ns : now_ns + LOOK_FOR_END_NS;
        if (watch_wait(w->stop_fd, wait_ns) || LOAD(w->is_stopping)) return 1;
    }
}

static void *watch_run_requests(void *given) {
    Watch *w = given;
    Handled found;
    int64_t cpu_ns, own_delay_ns, due_ns;
    w->own_tid = (int)syscall(SYS_gettid);
    w->own_schedstat_fd = watch_open("/proc/self/task/%d/schedstat", w->own_tid);
    for (;;) {
        watch_stamp(w);
        watch_schedstat(w->own_schedstat_fd, &cpu_ns, &own_delay_ns);
        due_ns = watch_now_ns() + w->tick_ns;
        if (watch_wait(w->stop_fd, due_ns) || LOAD(w->is_stopping)) break;
        w->wakeups++;
        if (LOAD(w->phase) != WATCHING || !watch_find(w, watch_now_ns(), &found)) continue;
        w->pings++;
        if (watch_request(w, &found, due_ns, &own_delay_ns)) break;
    }
    watch_release(w);
    return NULL;
}

/* Return 0, or the number of an error. */
static int watch_start(Watch *w) {
    sigset_t all, before;
    pthread_attr_t attributes;
    int error;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    __atomic_add_fetch(&w->owners, 1, __ATOMIC_ACQ_REL);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    error = pthread_create(&thread, &attributes, w->loop_tid ? watch_run : watch_run_requests, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error) __atomic_sub_fetch(&w->owners, 1, __ATOMIC_ACQ_REL);
    return error;
}

/* Wait, in the probe, for a suspected stall; return whether the probe is to stop. */
static int watch_await(Watch *w) {
    struct pollfd wanted = {w->probe_fd, POLLIN, 0};
    if (w->probe_tid == 0) {
        w->probe_tid = (int)syscall(SYS_gettid);
        w->probe_schedstat_fd = watch_open("/proc/self/task/%d/schedstat", w->probe_tid);
    }
    while (!LOAD(w->is_stopping)) {
        if (LOAD(w->phase) != WATCHING && !LOAD(w->is_ignored)) return 0;
        if (poll(&wanted, 1, -1) > 0) watch_drain(w->probe_fd);
    }
    return 1;
}

/* Note that the probe wants the interpreter's lock from now on; return the time. */
static int64_t watch_want(Watch *w, int64_t *delay_ns) {
    int64_t cpu_ns, wanted_ns;
    watch_schedstat(w->probe_schedstat_fd, &cpu_ns, delay_ns);
    wanted_ns = watch_now_ns();
    STORE(w->wanted_ns, wanted_ns);
    return wanted_ns;
}

static void watch_stop(Watch *w) {
    STORE(w->is_stopping, 1);
    watch_signal(w->stop_fd);
    watch_signal(w->probe_fd);
}

/* The addresses of the interpreter's state, where its lock is; 0 if they are not known. */
static void watch_runtime(void *runtime, uint64_t *first, uint64_t *last) {
    Dl_info found;
    ElfW(Sym) *symbol = NULL;
    *first = *last = 0;
    if (dladdr1(runtime, &found, (void **)&symbol, RTLD_DL_SYMENT) && symbol != NULL) {
        *first = (uint64_t)(uintptr_t)runtime;
        *last = *first + symbol->st_size;
    }
}

#endif
