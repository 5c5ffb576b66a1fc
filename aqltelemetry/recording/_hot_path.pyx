# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twin of `hot_path`: it reads the clock and stores into the segment natively.

All of it runs with the interpreter's lock held, and between taking a slot and the last store
into it nothing calls Python: other threads, signal handlers and callbacks of the garbage
collector run before or after. Anything unusual goes the slow way.
"""

cimport cython
from cpython.exc cimport PyErr_Clear, PyErr_ExceptionMatches, PyErr_Occurred
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

import time

from aqltelemetry.recording.failures import failure_label
from aqltelemetry.recording.reentrancy import FINISHED, OverlappingEntries
from aqltelemetry.journal.format import DURATION_LAYOUT, VALUE_LAYOUT
from aqltelemetry.observation import CUSTOM

from aqltelemetry.journal._records cimport Slots, make_crc_tables, store_record


cdef extern from *:
    """
    #include <stdint.h>
    #include <time.h>

    static inline int64_t native_monotonic_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    """
    int64_t native_monotonic_ns()


cdef extern from "Python.h":
    ctypedef PyObject* (*vectorcallfunc)(PyObject*, PyObject**, size_t, PyObject*)
    ctypedef struct PyTypeObject:
        object (*tp_call)(object, object, object)
        vectorcallfunc tp_vectorcall
    PyTypeObject PyType_Type
    PyObject* PyDict_GetItemWithError(PyObject* mapping, PyObject* key)
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf)
    long long PyLong_AsLongLongAndOverflow(PyObject* number, int* overflow)
    bint PyLong_CheckExact(PyObject* thing)
    bint PyFloat_CheckExact(PyObject* thing)
    double PyFloat_AS_DOUBLE(PyObject* number)
    double PyLong_AsDouble(PyObject* number)


if time.get_clock_info("perf_counter").implementation != "clock_gettime(CLOCK_MONOTONIC)":
    raise ImportError("the Python module would read another clock")
make_crc_tables()


cdef Slots _slots = None
cdef object _segment = None
cdef object _clock = None
cdef object _slow = None
cdef object _decorate = None
cdef object _cpu_block = None


cdef extern from *:
    """
    /* A block that was entered while open blocks are followed, in a list of all of them. */
    typedef struct OpenBlock {
        struct OpenBlock *before, *after;
        PyObject *block;
        unsigned long thread;
        void *owner;
    } OpenBlock;

    enum { MOST_OPEN_BLOCKS = 10000 };
    static OpenBlock *newest_block;
    static int open_block_count, are_blocks_followed;
    static PyObject *running_tasks; /* of asyncio: the running task of each event loop */
    static PyObject *current_task;

    /* Return the running task of asyncio, or the context of the thread outside of tasks. */
    static void *block_owner(void) {
        PyObject *loop, *task = NULL;
        Py_ssize_t at = 0, running = running_tasks == NULL ? -1 : PyDict_GET_SIZE(running_tasks);
        if (running == 1) {
            if (PyDict_Next(running_tasks, &at, &loop, &task)) return task;
        } else if (running != 0) {
            task = PyObject_CallNoArgs(current_task);
            if (task == NULL)
                PyErr_Clear(); /* no event loop runs on this thread */
            else
                Py_DECREF(task);
            if (task != NULL && task != Py_None) return task;
        }
        return PyThreadState_Get()->context;
    }

    static void open_block(OpenBlock *opened, PyObject *block) {
        if (open_block_count >= MOST_OPEN_BLOCKS) return;
        void *owner = block_owner();
        open_block_count++;
        Py_INCREF(block);
        opened->block = block;
        opened->thread = PyThread_get_thread_ident();
        opened->owner = owner;
        opened->after = NULL;
        opened->before = newest_block;
        if (newest_block != NULL) newest_block->after = opened;
        newest_block = opened;
    }

    static void close_block(OpenBlock *closed) {
        PyObject *block = closed->block;
        if (closed->before != NULL) closed->before->after = closed->after;
        if (closed->after != NULL)
            closed->after->before = closed->before;
        else
            newest_block = closed->before;
        closed->block = NULL;
        open_block_count--;
        Py_DECREF(block);
    }

    /* Return the context of a thread. */
    static void *context_of(unsigned long thread) {
        PyThreadState *state = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
        while (state != NULL && state->thread_id != thread) state = PyThreadState_Next(state);
        return state == NULL ? NULL : state->context;
    }
    """
    ctypedef struct OpenBlock:
        OpenBlock* before
        PyObject* block
        unsigned long thread
        void* owner
    OpenBlock* newest_block
    bint are_blocks_followed
    PyObject* running_tasks
    PyObject* current_task
    void open_block(OpenBlock* opened, PyObject* block)
    void close_block(OpenBlock* closed)
    void* context_of(unsigned long thread)


cdef dict _running_tasks = None
cdef object _current_task = None


def follow_blocks(bint is_wanted, /):
    """Keep from now on which blocks are open, for `open_blocks`, or stop it."""
    global _running_tasks, _current_task, are_blocks_followed, running_tasks, current_task
    if is_wanted and _current_task is None:
        import asyncio
        found = getattr(asyncio.tasks, "_current_tasks", None)
        _running_tasks = found if type(found) is dict else None
        _current_task = asyncio.current_task
        running_tasks = NULL if _running_tasks is None else <PyObject*>_running_tasks
        current_task = <PyObject*>_current_task
    are_blocks_followed = is_wanted
    while not is_wanted and newest_block is not NULL:
        close_block(newest_block)


def set_slow_path(slow):
    """Set the function that records what the hot path can't."""
    global _slow
    _slow = slow


def set_decorator(decorate):
    """Set what a block does when it decorates a function."""
    global _decorate
    _decorate = decorate


def set_cpu_blocks(kind):
    """Set the class of the blocks that record their CPU time too."""
    global _cpu_block
    _cpu_block = kind


def set_clock(clock):
    """Set the clock, which returns nanoseconds; None for the monotonic clock."""
    global _clock
    _clock = clock


def set_segment(segment):
    """Record into a segment from now on; None switches recording off."""
    global _segment, _slots
    cdef Slots slots = None if segment is None else segment.slots
    # Nothing is freed before both are set, so no other code sees one without the other.
    before = _segment, _slots
    _segment = segment
    _slots = slots
    del before


def current_segment():
    """Return the segment that is recorded into; None if recording is off."""
    return _segment


def is_on():
    """Return whether observations are recorded."""
    return _slots is not None


cdef bint is_recording() noexcept:
    return _slots is not None


cdef inline int64_t _now() except? -1:
    return native_monotonic_ns() if _clock is None else _clock()


def now_ns():
    """Return the time of the clock that durations are measured by, in nanoseconds."""
    return _now()


cdef int64_t monotonic_ns() except? -1:
    return _now()


cdef inline bint _store(Slots slots, PyObject* key, int64_t at_ns, uint64_t value) except -1:
    """Store a record if the segment knows its series and has a slot left; say whether it did."""
    cdef PyObject* found = PyDict_GetItemWithError(<PyObject*>slots._ids, key)
    cdef int overflow = 0
    cdef Py_ssize_t position
    cdef uint32_t label_id
    if found is NULL:
        if PyErr_Occurred() is not NULL:
            _forgive()
        return False
    label_id = <uint32_t>PyLong_AsLongLongAndOverflow(found, &overflow)
    position = slots._next
    if position >= slots._stop:
        return False
    slots._next = position + 24
    store_record(slots._base + position, <uint64_t>at_ns, value, label_id, <uint32_t>position)
    return True


cdef int _forgive() except -1:
    # A label need not be hashable; any other exception than an Exception passes through.
    if not PyErr_ExceptionMatches(Exception):
        return -1
    PyErr_Clear()
    return 0


cdef inline int _append(object label, int64_t end_ns, int64_t duration_ns) except -1:
    cdef Slots slots = _slots
    if slots is not None and not _store(slots, <PyObject*>label, end_ns, <uint64_t>duration_ns):
        _slow(label, end_ns, duration_ns, DURATION_LAYOUT)
    return 0


cdef int append(object label, int64_t end_ns, int64_t duration_ns) except -1:
    return _append(label, end_ns, duration_ns)


def append_duration(label, end_ns, duration_ns):
    """Record a duration that ended at a monotonic time."""
    cdef int64_t end = 0, duration = 0
    cdef int overflow = 0, also = 0
    if _slots is None:
        return
    if PyLong_CheckExact(<PyObject*>end_ns) and PyLong_CheckExact(<PyObject*>duration_ns):
        end = PyLong_AsLongLongAndOverflow(<PyObject*>end_ns, &overflow)
        duration = PyLong_AsLongLongAndOverflow(<PyObject*>duration_ns, &also)
        if not overflow and not also:
            _append(label, end, duration)
            return
    _slow(label, end_ns, duration_ns, DURATION_LAYOUT)


def append_failure(label, exc_type, end_ns, duration_ns):
    """Record a duration under `<label> failed` if the exception that ended it is a failure."""
    name = failure_label(label, exc_type)
    if name is not None:
        append_duration(name, end_ns, duration_ns)


def record(label, measurement, prefix=CUSTOM):
    """Record a value with the current time, for the files `<prefix>.*.csv`.

    Nothing is recorded while recording is off.

    Args:
        label: Names the time series; at most 200 bytes of UTF-8 are kept.
        measurement: The value, in any unit; an int or a float that fits into 64 bits.
        prefix: Starts the names of the files: 1 to 40 letters, digits, `_` and `-`, not starting
            with `-`, and none of `duration`, `runtime`, `account`, `profiler`, `cpu_time`,
            `stall`, `stall-details` and `removed`.

    Returns:
        None. Never raises: an observation that can't be recorded is counted as dropped.

    Example:
        record("queue length", len(queue))
        record("order value", 12.5, prefix="shop")
    """
    if _slots is not None:
        _append_value((prefix, label), measurement)


def append_value(key, measurement):
    """Record a value of a series, taken now, by its key."""
    if _slots is not None:
        _append_value(key, measurement)


cdef inline int _append_value(object key, object measurement) except -1:
    cdef int64_t at_ns = _now()
    cdef double value
    cdef uint64_t bits
    cdef Slots slots
    if PyFloat_CheckExact(<PyObject*>measurement):
        value = PyFloat_AS_DOUBLE(<PyObject*>measurement)
    elif PyLong_CheckExact(<PyObject*>measurement):
        value = PyLong_AsDouble(<PyObject*>measurement)
        if value == -1.0 and PyErr_Occurred() is not NULL:
            PyErr_Clear()
            _slow(key, at_ns, measurement, VALUE_LAYOUT)
            return 0
    else:
        _slow(key, at_ns, measurement, VALUE_LAYOUT)
        return 0
    memcpy(&bits, &value, 8)
    # The callbacks of a collection, when the key was made, may have replaced the segment.
    slots = _slots
    if slots is not None and not _store(slots, <PyObject*>key, at_ns, bits):
        _slow(key, at_ns, measurement, VALUE_LAYOUT)
    return 0


# A generator made in Python, which the interpreter awaits without calling a method.
cdef object _FINISHED = FINISHED


cdef enum:
    OUTSIDE = 0
    INSIDE = 1
    SHARED = 2


@cython.freelist(64)
cdef class time_block:
    """time_block(label, *, cpu=False)\n--\n\nTime a block of code: `with time_block(label):` or `async with time_block(label):`.

    The duration, in seconds with nanosecond resolution, is recorded when the block ends, also if
    an exception ends it; the exception is not changed. An `Exception` counts as a failure: the
    duration is then recorded under `<label> failed` too. The object may be entered again before
    it is left, by other tasks and threads too: each entry is timed separately. Nothing is
    recorded for a block that was entered while recording was off.

    With `cpu`, the CPU time is recorded too, under the same label in `cpu_time.*.csv`: the seconds
    in which the thread ran on a processor in the block. A block in which a coroutine is suspended
    has none, unless `time_it(cpu=True)` or the option `with_cpu_time` measures the coroutine.

    Args:
        label: Names the time series in `duration.*.csv`; at most 200 bytes of UTF-8 are kept.
        cpu: Whether to record the CPU time too.

    Returns:
        A context manager for `with` and `async with`, which gives None. As a decorator,
        `@time_block(label)` times a function, as `@time_it(label=label)` does, with the same `cpu`.

    Raises:
        TypeError: If it decorates an object that is no function.

    Example:
        with time_block("parse"):
            parse(text)
        async with time_block("db query"):
            await query()
    """

    cdef readonly object _label
    cdef public object _entered
    cdef int64_t _start_ns
    cdef int _state
    cdef OpenBlock _open

    def __init__(self, label):
        self._label = label

    def __call__(self, function):
        return _decorate(function, self._label)

    def __enter__(self):
        if _slots is not None:
            self._enter()

    def __exit__(self, exc_type, exc, traceback):
        if self._state != OUTSIDE:
            if exc_type is None:
                self._leave()
            else:
                self._leave_by(exc_type)

    def __aenter__(self):
        if _slots is not None:
            self._enter()
        return _FINISHED

    def __aexit__(self, exc_type, exc, traceback):
        if self._state != OUTSIDE:
            if exc_type is None:
                self._leave()
            else:
                self._leave_by(exc_type)
        return _FINISHED

    def _take_start(self):
        """Leave a block that was entered once, without a record; return when it was entered."""
        if self._state != INSIDE:
            return None
        self._state = OUTSIDE
        self._close()
        return self._start_ns

    def _opened(self):
        """Note that the block is open, if open blocks are followed."""
        if are_blocks_followed and self._open.block is NULL:
            open_block(&self._open, <PyObject*>self)

    def _closed(self):
        self._close()

    cdef inline int _enter(self) except -1:
        cdef int64_t now_ns = _now()
        if self._state == OUTSIDE:
            self._start_ns = now_ns
            self._state = INSIDE
            if are_blocks_followed:
                open_block(&self._open, <PyObject*>self)
        else:
            self._enter_again(now_ns)
        return 0

    cdef inline void _close(self) noexcept:
        if self._open.block is not NULL:
            close_block(&self._open)

    cdef int _enter_again(self, int64_t now_ns) except -1:
        entries = OverlappingEntries()
        # Nothing calls Python from here until `enter`.
        if self._state == INSIDE:
            entries.first = self._start_ns
            self._entered = entries
            self._state = SHARED
            self._close()
        elif self._state == OUTSIDE:
            self._entered = entries
            self._state = SHARED
        self._entered.enter(now_ns)
        return 0

    cdef inline int _leave(self) except -1:
        cdef int64_t end_ns = _now()
        if self._state == INSIDE:
            self._state = OUTSIDE
            self._close()
            _append(self._label, end_ns, end_ns - self._start_ns)
        elif self._state == SHARED:
            start_ns = self._entered.leave()
            if start_ns is not None:
                _append(self._label, end_ns, end_ns - <int64_t>start_ns)
        return 0

    cdef int _leave_by(self, object exc_type) except -1:
        cdef int64_t end_ns = _now()
        cdef int64_t duration_ns
        if self._state == INSIDE:
            self._state = OUTSIDE
            self._close()
            duration_ns = end_ns - self._start_ns
        elif self._state == SHARED:
            start_ns = self._entered.leave()
            if start_ns is None:
                return 0
            duration_ns = end_ns - <int64_t>start_ns
        else:
            return 0
        # The block may be entered again while these run.
        _append(self._label, end_ns, duration_ns)
        append_failure(self._label, exc_type, end_ns, duration_ns)
        return 0


cdef object _new_block(object cls, PyObject** arguments, size_t nargsf, PyObject* names):
    """Create a block from one positional argument without making a tuple of it."""
    cdef Py_ssize_t count = PyVectorcall_NARGS(nargsf), index
    cdef time_block block
    if names is NULL and count == 1:
        block = time_block.__new__(time_block)
        block._label = <object>arguments[0]
        return block
    positional = tuple([<object>arguments[index] for index in range(count)])
    keywords = {}
    if names is not NULL:
        for index, name in enumerate(<tuple>names):
            keywords[name] = <object>arguments[count + index]
    if "cpu" in keywords and cls is time_block:
        cls = _cpu_block if keywords.pop("cpu") else time_block
    return PyType_Type.tp_call(cls, positional, keywords)


def open_blocks(unsigned long thread, task):
    """Return the labels of the blocks that a task on a thread is in, the outermost first.

    `task` is the address of the task of asyncio, 0 outside of tasks, None for all on the thread.
    """
    cdef uint64_t address = 0 if task is None else task
    cdef void* owner = context_of(thread) if address == 0 else <void*>address
    cdef list found = []
    cdef OpenBlock* each = newest_block
    while each is not NULL:
        if each.thread == thread and (task is None or each.owner == owner):
            found.append((<time_block>each.block)._label)
        each = each.before
    found.reverse()
    return found


(<PyTypeObject*>time_block).tp_vectorcall = <vectorcallfunc>_new_block
