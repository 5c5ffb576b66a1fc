# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twin of `watchdog`: a native thread that never takes the interpreter's lock.

`watchdog.h` has the thread. Here is how Python starts it, answers it and takes what it found.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t

import errno
import os
import threading

from aqltelemetry.stalls.evidence import Sample as Sampled
from aqltelemetry.stalls.evidence import Suspicion
from aqltelemetry.recording.recorder import open_blocks
from aqltelemetry.stalls.probe import Seen, task_names
from aqltelemetry.stalls.naming.requests import JOIN, NAMES

from asyncio import current_task as _current_task


cdef extern from "watchdog.h" nogil:
    enum:
        WATCHING
        SUSPECTING
        ENDED
    ctypedef struct Sample:
        int64_t at_ns
        int64_t cpu_ns
        int64_t delay_ns
        int64_t major_faults
        int64_t overrun_ns
        int64_t own_delay_ns
        uint64_t argument
        int32_t call
        int32_t descriptor_kind
        int32_t generation
        int32_t collecting_tid
        int32_t other_tid
        int32_t state
        int64_t throttled_ns
    ctypedef struct Watch:
        int is_stopping
        int is_ignored
        int phase
        int loop_tid
        int64_t tick_ns
        int64_t late_ns
        int64_t period_ns
        int64_t threshold_ns
        int ping_fd
        int probe_schedstat_fd
        int syscall_fd
        int schedstat_fd
        int selector_fd
        int throttled_fd
        int other_tid
        char* slots
        int[16] loop_tids
        int is_unended
        int text_bytes
        char[224] text
        int64_t throttled_ns
        int64_t answered_ns
        int64_t wanted_ns
        int64_t got_ns
        int collecting_tid
        int generation
        int64_t wakeups
        int64_t pings
        int64_t missed
        int64_t quiet_ns
        int64_t begin_ns
        int64_t end_ns
        int count
        Sample before
        Sample samples[1024]
    Watch* watch_new(int loop_tid)
    int watch_map_slots(Watch* watch, void* slots, size_t size)
    int watch_start(Watch* watch)
    int watch_await(Watch* watch)
    int watch_wait(int fd, int64_t until_ns)
    int64_t watch_want(Watch* watch, int64_t* delay_ns)
    void watch_stop(Watch* watch)
    void watch_close(Watch* watch)
    void watch_release(Watch* watch)
    void watch_drain(int fd)
    void watch_schedstat(int fd, int64_t* cpu_ns, int64_t* delay_ns)
    void watch_runtime(void* runtime, uint64_t* first, uint64_t* last)
    int64_t watch_now_ns()
    int watch_open(const char* format, int tid)
    int watch_read(int fd, char* text, size_t size)
    void watch_close_fd(int* fd)


cdef extern from *:
    """
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    /* The interpreter's state; only its address is needed. */
    extern char _PyRuntime[];
    #define RUNTIME ((void *)_PyRuntime)
    #define STORE_INT(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)
    #define LOAD_INT(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)

    static int own_tid(void) { return (int)syscall(SYS_gettid); }

    /* Store the address of the peer of a socket, at most 128 bytes; return its length. */
    static int peer_of(int fd, char *address) {
        struct sockaddr_storage found;
        socklen_t length = sizeof found;
        if (getpeername(fd, (struct sockaddr *)&found, &length) != 0) return 0;
        if (length > sizeof found) length = sizeof found;
        memcpy(address, &found, length);
        return (int)length;
    }
    """
    void* RUNTIME
    void STORE_INT(...) nogil
    int64_t LOAD_INT(...) nogil
    int own_tid() nogil
    int peer_of(int fd, char* address)


cdef extern from "Python.h":
    """
    /* Return a new reference to an argument of a frame; NULL if it was deleted. */
    #if PY_VERSION_HEX < 0x030c0000
    /* Python 3.11 has no public function that reads a variable and leaves the frame as it is. */
    #ifndef Py_BUILD_CORE
    #define Py_BUILD_CORE 1
    #endif
    #include "internal/pycore_frame.h"
    static PyObject *frame_argument(PyObject *frame, PyObject *name, int at) {
        PyObject *found = ((PyFrameObject *)frame)->f_frame->localsplus[at];
        if (found != NULL && PyCell_Check(found)) found = PyCell_GET(found);
        Py_XINCREF(found);
        return found;
    }
    #else
    static PyObject *frame_argument(PyObject *frame, PyObject *name, int at) {
        PyObject *found = PyFrame_GetVar((PyFrameObject *)frame, name);
        if (found == NULL) PyErr_Clear();
        return found;
    }
    #endif

    /* Return a new reference to the innermost frame of a thread, by its identifier. */
    static PyObject *frame_of_thread(unsigned long ident) {
        PyThreadState *state = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
        while (state != NULL && state->thread_id != ident) state = PyThreadState_Next(state);
        return state == NULL ? NULL : (PyObject *)PyThreadState_GetFrame(state);
    }
    /* The same by the number that the kernel gives the thread; NULL also for tid 0. */
    static PyObject *frame_of_tid(unsigned long tid) {
        PyThreadState *state = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
        while (state != NULL && state->native_thread_id != tid) state = PyThreadState_Next(state);
        return state == NULL || !tid ? NULL : (PyObject *)PyThreadState_GetFrame(state);
    }
    /* The identifier of a thread, by the number that the kernel gives it; 0 if it has none. */
    static unsigned long ident_of_tid(unsigned long tid) {
        PyThreadState *state = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
        while (state != NULL && state->native_thread_id != tid) state = PyThreadState_Next(state);
        return state == NULL || !tid ? 0 : state->thread_id;
    }
    static PyObject *frame_back(PyObject *frame) {
        return (PyObject *)PyFrame_GetBack((PyFrameObject *)frame);
    }
    static PyObject *frame_code(PyObject *frame) {
        return (PyObject *)PyFrame_GetCode((PyFrameObject *)frame);
    }
    static int frame_line(PyObject *frame) {
        return PyFrame_GetLineNumber((PyFrameObject *)frame);
    }
    """
    ctypedef struct PyObject
    PyObject* frame_of_thread(unsigned long ident)
    PyObject* frame_of_tid(unsigned long tid)
    unsigned long ident_of_tid(unsigned long tid)
    PyObject* frame_argument(PyObject* frame, object name, int at)
    PyObject* frame_back(PyObject* frame)
    PyObject* frame_code(PyObject* frame)
    int frame_line(PyObject* frame)
    void Py_DECREF(PyObject* thing)
    int PyGC_Disable()
    int PyGC_Enable()
    PyObject* PySequence_GetItem(object thing, Py_ssize_t at)
    Py_ssize_t PyObject_Size(object thing) except -1
    void PyErr_Clear()


cdef class Watchdog:
    """Watches the thread that makes it, which runs an event loop; see `watchdog`.

    With None for the loop it watches the threads that handle requests, once `know_slots` was called.
    """

    cdef Watch* _watch
    cdef unsigned long _ident
    cdef int depth
    cdef object _loop
    cdef object _queue

    is_native = True

    def __cinit__(
        self, loop, int64_t tick_ns, int64_t late_ns, int64_t period_ns, int64_t threshold_ns
    ):
        self._watch = watch_new(0 if loop is None else own_tid())
        if self._watch is NULL:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._watch.tick_ns = tick_ns
        self._watch.late_ns = late_ns
        self._watch.period_ns = period_ns
        self._watch.threshold_ns = threshold_ns
        self._ident = 0 if loop is None else threading.get_ident()
        self._loop = loop

    def __dealloc__(self):
        # In a forked child the other owner does not exist, and the memory stays.
        if self._watch is not NULL:
            watch_release(self._watch)

    @property
    def ping_fd(self):
        """The descriptor that the event loop reads, to call `answer`."""
        return self._watch.ping_fd

    @property
    def reads(self):
        """Return which of the kernel's files can be read."""
        return {
            "syscall": self._watch.syscall_fd >= 0, "schedstat": self._watch.schedstat_fd >= 0
        }

    @property
    def wakeups(self):
        """How often the native thread has woken up."""
        return self._watch.wakeups

    @property
    def pings(self):
        """How often the event loop was asked to answer."""
        return self._watch.pings

    @property
    def missed(self):
        """How often a stall was not sampled, since the one before was not taken yet."""
        return self._watch.missed

    @property
    def is_stopping(self):
        """Whether it has been stopped."""
        return bool(LOAD_INT(self._watch.is_stopping))

    def start(self):
        """Start the native thread; raises OSError."""
        error = watch_start(self._watch)
        if error:
            raise OSError(error, os.strerror(error))

    def know_loop(self, int selector_fd, queue):
        """Set the descriptor that the loop waits on, and the queue of its callbacks."""
        self._queue = queue
        STORE_INT(self._watch.selector_fd, selector_fd)

    def know_slots(self, mapped):
        """Set the slots of the requests in flight, and where to note that the process lives.

        Raises OSError.
        """
        cdef char[::1] slots = mapped
        error = watch_map_slots(self._watch, &slots[0], slots.shape[0])
        if error:
            raise OSError(error, os.strerror(error))

    def know_loops(self, tids):
        """Set which threads run event loops: their requests are not watched."""
        cdef int at = 0
        for tid in list(tids)[:16]:
            STORE_INT(self._watch.loop_tids[at], <int>tid)
            at += 1

    def know_limit(self, int throttled_fd):
        """Set the file that says how long the control group was throttled; it is closed here."""
        STORE_INT(self._watch.throttled_fd, throttled_fd)

    def lock_addresses(self):
        """Return the first and the last address of the interpreter's state; None if not known."""
        cdef uint64_t first = 0, last = 0
        watch_runtime(RUNTIME, &first, &last)
        return (first, last) if last > first else None

    def answer(self):
        """Answer that the event loop runs; it calls this when `ping_fd` can be read."""
        watch_drain(self._watch.ping_fd)
        STORE_INT(self._watch.answered_ns, watch_now_ns())
        if not self.depth:
            self.depth = _count_frames(self._ident)

    def collecting(self, phase, info):
        """Note the begin or the end of a garbage collection; a callback of the collector."""
        if phase == "start":
            STORE_INT(self._watch.generation, <int>info["generation"])
            STORE_INT(self._watch.collecting_tid, own_tid())
        else:
            STORE_INT(self._watch.collecting_tid, 0)

    def wait(self):
        """Wait for a suspected stall and then for the interpreter's lock.

        Returns the parts of a `LockWait`; None once the watchdog has been stopped.
        """
        cdef int is_stopping
        cdef int64_t before_ns, wanted_ns
        with nogil:
            is_stopping = watch_await(self._watch)
            wanted_ns = watch_want(self._watch, &before_ns)
        return None if is_stopping else self._got(wanted_ns, before_ns)

    def probe(self, int64_t pause_ns):
        """Wait for a moment and then for the interpreter's lock; returns the same."""
        cdef int64_t before_ns, wanted_ns
        with nogil:
            watch_wait(-1, watch_now_ns() + pause_ns)
            wanted_ns = watch_want(self._watch, &before_ns)
        return self._got(wanted_ns, before_ns)

    cdef object _got(self, int64_t wanted_ns, int64_t before_ns):
        cdef int64_t cpu_ns, after_ns, got_ns = watch_now_ns()
        STORE_INT(self._watch.got_ns, got_ns)
        watch_schedstat(self._watch.probe_schedstat_fd, &cpu_ns, &after_ns)
        return wanted_ns, got_ns, after_ns - before_ns

    @property
    def is_suspecting(self):
        """Whether a suspected stall goes on, and is watched."""
        is_stopping = LOAD_INT(self._watch.is_stopping)
        return not is_stopping and LOAD_INT(self._watch.phase) == SUSPECTING

    def look(self):
        """Return what the loop's thread does.

        Nothing of Python's bytecode runs meanwhile and no reference to a frame or task is kept,
        so the thread does not go on, and no destructor of the application runs on this one.
        """
        cdef int was_on = PyGC_Disable()
        try:
            return self._look()
        finally:
            if was_on:
                PyGC_Enable()

    cdef object _look(self):
        cdef list requests = []
        cdef list frames
        cdef list others = _frames(frame_of_tid(LOAD_INT(self._watch.other_tid)), None)
        cdef unsigned long ident = self._ident
        if self._loop is None:
            ident = ident_of_tid(self._watch.loop_tid)
            frames = _frames(frame_of_tid(self._watch.loop_tid), None)
        else:
            frames = _frames(frame_of_thread(ident), requests)
        cdef uint64_t following = _first_of(self._queue)
        cdef uint64_t number = 0
        name = coroutine = ""
        task = None if self._loop is None else _current_task(self._loop)
        if task is not None:
            number = <uint64_t><PyObject*>task
            name, coroutine = task_names(task)
        blocks = open_blocks(ident, None if self._loop is None else number)
        return Seen(
            frames, self.depth, following, number, name, coroutine, others, blocks, requests[::-1]
        )

    def waited_call(self):
        """Return what the kernel says of the system call of the watched thread."""
        cdef char[256] text
        cdef int fd
        if self._loop is not None:
            watch_read(self._watch.syscall_fd, text, sizeof(text))
        else:  # the native thread closes its own file with the request
            fd = watch_open(b"/proc/self/task/%d/syscall", self._watch.loop_tid)
            watch_read(fd, text, sizeof(text))
            watch_close_fd(&fd)
        return (<char*>text).decode("ascii", "replace")

    def peer(self, int fd):
        """Return the address of the peer of a socket, as getpeername(2) does; empty if none."""
        cdef char[128] address
        return address[:peer_of(fd, address)]

    def ignore(self):
        """Drop the suspected stall, since the event loop does not run."""
        self.depth = 0
        STORE_INT(self._watch.is_ignored, 1)

    def take(self):
        """Return what was found of a stall that has ended, once; None if there is none."""
        cdef Watch* watch = self._watch
        cdef int at
        if LOAD_INT(watch.phase) != ENDED:
            return None
        samples = [_seen(&watch.samples[at]) for at in range(watch.count)]
        found = Suspicion(
            watch.quiet_ns, watch.begin_ns, watch.end_ns, _seen(&watch.before), samples,
            watch.throttled_ns,
        )
        if self._loop is None:
            request = watch.text[:watch.text_bytes].decode("utf-8", "replace")
            found = found._replace(
                tid=watch.loop_tid, request=request, is_ended=not watch.is_unended
            )
        STORE_INT(watch.phase, WATCHING)
        return found

    def stop(self):
        """End the native thread and the wait of the probe, without waiting for either."""
        watch_stop(self._watch)

    def abandon_in_child(self):
        """Close the descriptors that a forked child has of its parent's watchdog."""
        watch_close(self._watch)


cdef dict _arguments = {}
cdef Py_ssize_t _known_names = 0

cdef enum:
    MOST_CODES = 10000
    MOST_REQUESTS = 20


cdef tuple _argument_of(object code):
    """Return the code, and the name and the number of its first argument that may be a request."""
    global _known_names
    if _known_names != len(NAMES):
        _known_names = len(NAMES)
        _arguments.clear()
    key = <uint64_t><PyObject*>code
    known = _arguments.get(key)
    if known is not None:
        return known
    names = ("self",) if code is JOIN else code.co_varnames[:code.co_argcount]
    found = (code, None, -1)
    for at, name in enumerate(names):
        if name in NAMES or code is JOIN:
            found = (code, name, at)
            break
    if len(_arguments) < MOST_CODES:
        _arguments[key] = found
    return found


cdef int _add_request(list requests, PyObject* frame, object code) except -1:
    """Append an argument of a frame that may be a request, with its name."""
    cdef PyObject* value
    cdef Py_ssize_t count
    _, name, at = _argument_of(code)
    if name is None:
        return 0
    value = frame_argument(frame, name, at)
    if value is not NULL:
        count = len(requests)
        if not count or requests[count - 1][1] is not <object>value:
            if count >= MOST_REQUESTS:  # the outermost ones are the last
                requests.pop()
            requests.append((name, <object>value))
        Py_DECREF(value)
    return 0


cdef list _frames(PyObject* frame, list requests):
    """Return a frame, whose reference is taken over, and those that called it.

    The arguments of the frames that may be requests are added to `requests`, if it is not None.
    """
    cdef PyObject* back
    cdef PyObject* code
    cdef list found = []
    while frame is not NULL:
        code = frame_code(frame)
        found.append((<object>code, frame_line(frame), <uint64_t>frame))
        if requests is not None:
            _add_request(requests, frame, <object>code)
        Py_DECREF(code)
        back = frame_back(frame)
        Py_DECREF(frame)
        frame = back
    return found


cdef int _count_frames(unsigned long ident):
    return <int>len(_frames(frame_of_thread(ident), None))


cdef uint64_t _first_of(object queue):
    """Return the address of the first of a queue; 0 if there is none."""
    cdef PyObject* first
    if queue is None or PyObject_Size(queue) <= 0:
        return 0
    first = PySequence_GetItem(queue, 0)
    if first is NULL:
        PyErr_Clear()
        return 0
    Py_DECREF(first)
    return <uint64_t>first


cdef object _seen(Sample* sample):
    return Sampled(
        sample.at_ns, sample.cpu_ns, sample.delay_ns, sample.major_faults, sample.overrun_ns,
        sample.own_delay_ns, sample.argument, sample.call, sample.descriptor_kind,
        sample.generation, sample.collecting_tid, sample.other_tid, chr(sample.state),
        sample.throttled_ns,
    )
