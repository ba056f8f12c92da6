/*
 * I/O contexts: where devices live.
 *
 * An I/O context is an event-loop thread with one lock. The loop sleeps without the lock and takes it for the length of
 * every callback (timers, watched descriptors, invoked functions); a vCPU takes it for the length of one MMIO or port
 * access. So a device needs no lock of its own: all its entry points run with its context's lock held.
 *
 * A "manual" context has no thread: a test drives it, and its clock, by vm_io_context_step().
 *
 * Invariants: the lock is not recursive. Nothing waits for a vCPU while it holds the lock.
 */
#ifndef VM_IOCONTEXT_H
#define VM_IOCONTEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

typedef struct VmClock VmClock;
typedef struct VmIoContext VmIoContext;
typedef struct VmTimer VmTimer;
typedef struct VmIoWatch VmIoWatch;

/* Starts a context with a thread called `name`. `clock` is borrowed and must outlive it. NULL with `error` where the
 * host has no thread or descriptor left. Any thread. */
VmIoContext *vm_io_context_new(const char *name, VmClock *clock, GError **error);

/* A context without a thread, for device tests; see vm_io_context_step(). `clock` must be a manual clock. */
VmIoContext *vm_io_context_new_manual(VmClock *clock);

/* Stops the loop, joins its thread and frees the context. NULL is allowed. Not from the loop itself, lock not held. */
void vm_io_context_free(VmIoContext *ctx);

void vm_io_context_lock(VmIoContext *ctx);
void vm_io_context_unlock(VmIoContext *ctx);
/* For assertions: does the calling thread hold the lock? */
bool vm_io_context_is_locked(const VmIoContext *ctx);

VmClock *vm_io_context_get_clock(VmIoContext *ctx);

/* The loop's GMainContext, for libraries that bring their own GSources; their callbacks run with the lock held. */
GMainContext *vm_io_context_get_main_context(VmIoContext *ctx);

/* Runs `func(data)` in the loop, lock held, soon; then `destroy(data)` if it is not NULL. Calls keep their order.
 * Any thread, lock held or not. On a manual context it runs at the next step. */
void vm_io_context_invoke(VmIoContext *ctx, GSourceFunc func, void *data, GDestroyNotify destroy);

/* Calls `func(fd, condition, opaque)` in the loop, lock held, whenever `fd` is ready for `condition`.
 * The descriptor is borrowed. Remove with vm_io_watch_remove() (lock held; no call comes after it returns). */
typedef void (*VmIoWatchFunc)(int fd, GIOCondition condition, void *opaque);
VmIoWatch *vm_io_context_watch_fd(VmIoContext *ctx, int fd, GIOCondition condition, VmIoWatchFunc func, void *opaque);
void vm_io_watch_remove(VmIoWatch *watch);

/* Manual contexts: advances the clock by `ns`, firing due timers at their own deadlines in order, and runs what was
 * invoked. The lock is taken for each callback and is not held by the caller. */
void vm_io_context_step(VmIoContext *ctx, int64_t ns);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmIoContext, vm_io_context_free)

#endif
