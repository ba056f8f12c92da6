/*
 * The device base and the declarative state tables.
 *
 * A device is a struct that begins with a VmDevice, and a const VmDeviceType that names its fields. The table is read
 * by save, restore, the reset check, the debug dump and the test that no field escapes it. Every byte of the struct
 * after the base (but for padding) stands in exactly one row; what is not saved is listed as VM_TRANSIENT with a reason.
 *
 * Loading: a copy of the struct gets the saved values, is validated (the type's `validate`, the rows' limits), and only
 * then are the saved rows copied to the live device and `loaded` called. A bad stream leaves the device as it was.
 *
 * All calls with the device's I/O context's lock held, unless said otherwise.
 */
#ifndef VM_DEVICE_H
#define VM_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

#include "vm-engine/clock.h"

typedef struct Vm Vm;
typedef struct VmIoContext VmIoContext;
typedef struct VmDevice VmDevice;
typedef struct VmDeviceType VmDeviceType;

typedef enum VmFieldKind {
  VM_FIELD_END,
  VM_FIELD_UINT,     /* unsigned integer (or bool) of `size` bytes, `count` of them */
  VM_FIELD_BYTES,    /* `size` bytes as they are */
  VM_FIELD_TIMER,    /* VmTimer: its deadline */
  VM_FIELD_STRUCT,   /* `count` structs of `size` bytes described by `sub` */
  VM_FIELD_BUFFER,   /* a pointer to memory outside the struct; its length in bytes in the size_t at `length_offset` */
  VM_FIELD_TRANSIENT /* not saved, for the reason given */
} VmFieldKind;

typedef struct VmField {
  const char *name;
  VmFieldKind kind;
  size_t offset;
  size_t size; /* bytes of one element */
  size_t count;
  const struct VmField *sub;
  uint64_t max; /* UINT: largest value a load accepts; 0 = whatever fits */
  size_t length_offset;
  const char *reason;
  size_t align; /* of one element, to tell padding from a forgotten field; 0: not known */
} VmField;

#define VM_MEMBER_(S, f) (((S *)0)->f)
#define VM_ALIGN_(S, f) __alignof__(((S *)0)->f)
/* A bool holds 0 or 1 and nothing else, whatever a stream says. */
#define VM_LIMIT_(e) _Generic((e), bool: 1, default: 0)

#define VM_UINT(S, f) \
  { #f, VM_FIELD_UINT, offsetof(S, f), sizeof(VM_MEMBER_(S, f)), 1, NULL, VM_LIMIT_(VM_MEMBER_(S, f)), 0, NULL, \
    VM_ALIGN_(S, f) }
/* A load refuses more than `limit`: for whatever indexes an array. */
#define VM_UINT_MAX(S, f, limit) \
  { #f, VM_FIELD_UINT, offsetof(S, f), sizeof(VM_MEMBER_(S, f)), 1, NULL, limit, 0, NULL, VM_ALIGN_(S, f) }
#define VM_UINT_ARRAY(S, f) \
  { #f, VM_FIELD_UINT, offsetof(S, f), sizeof(VM_MEMBER_(S, f[0])), G_N_ELEMENTS(VM_MEMBER_(S, f)), NULL, \
    VM_LIMIT_(VM_MEMBER_(S, f[0])), 0, NULL, VM_ALIGN_(S, f) }
#define VM_BYTES(S, f) \
  { #f, VM_FIELD_BYTES, offsetof(S, f), sizeof(VM_MEMBER_(S, f)), 1, NULL, 0, 0, NULL, VM_ALIGN_(S, f) }
#define VM_TIMER(S, f) \
  { #f, VM_FIELD_TIMER, offsetof(S, f), sizeof(VmTimer), 1, NULL, 0, 0, NULL, VM_ALIGN_(S, f) }
#define VM_TIMER_ARRAY(S, f) \
  { #f, VM_FIELD_TIMER, offsetof(S, f), sizeof(VmTimer), G_N_ELEMENTS(VM_MEMBER_(S, f)), NULL, 0, 0, NULL, \
    VM_ALIGN_(S, f) }
#define VM_STRUCT(S, f, table) \
  { #f, VM_FIELD_STRUCT, offsetof(S, f), sizeof(VM_MEMBER_(S, f)), 1, table, 0, 0, NULL, VM_ALIGN_(S, f) }
#define VM_STRUCT_ARRAY(S, f, table) \
  { #f, VM_FIELD_STRUCT, offsetof(S, f), sizeof(VM_MEMBER_(S, f[0])), G_N_ELEMENTS(VM_MEMBER_(S, f)), table, 0, 0, \
    NULL, VM_ALIGN_(S, f) }
#define VM_BUFFER(S, f, len) \
  { #f, VM_FIELD_BUFFER, offsetof(S, f), sizeof(VM_MEMBER_(S, f)), 1, NULL, 0, offsetof(S, len), NULL, VM_ALIGN_(S, f) }
#define VM_TRANSIENT(S, f, why) \
  { #f, VM_FIELD_TRANSIENT, offsetof(S, f), sizeof(VM_MEMBER_(S, f)), 1, NULL, 0, 0, why, VM_ALIGN_(S, f) }
#define VM_FIELDS_END { NULL, VM_FIELD_END, 0, 0, 0, NULL, 0, 0, NULL }

struct VmDeviceType {
  const char *name; /* "i8254": stands in saved states, so it stays */
  uint32_t version;
  size_t size; /* of the whole struct, the base included */
  /* In order of offset. The check begins at sizeof(VmDevice), or at 0 if the first row stands there: a PCI device's
   * first row is VM_STRUCT(S, pci, pci_device_fields), which covers the base inside. */
  const VmField *fields;
  /* To the state after power-on. Asserted wiring (RAM, IRQs, bus) stays. Mandatory. */
  void (*reset)(VmDevice *dev);
  /* Judges a loaded copy; its pointers and timers are not to be used. NULL: rows' limits suffice. */
  bool (*validate)(const VmDevice *scratch, GError **error);
  /* Re-derives what the table calls transient (mappings, IRQ levels, caches). */
  void (*loaded)(VmDevice *dev);
  /* Makes what is saved true (e.g. counts a running counter up to now) before a save; may not change behaviour. */
  void (*saving)(VmDevice *dev);
  /* Frees what the device owns, but not the struct. */
  void (*finish)(VmDevice *dev);
};

struct VmDevice {
  const VmDeviceType *type;
  Vm *vm;
  VmIoContext *ctx;
  char *id; /* unique in the machine: "pit", "ide.0" */
  struct VmDeviceLog *log; /* how much of it was logged lately */
};

/* Allocates a zeroed device of `type` and adds it to the machine, which owns it from then on and saves, restores,
 * resets and destroys devices in the order of their creation (destroys in reverse). `id` is copied. Its context is the
 * machine's main one. The caller initialises the rest; vm_reset() calls `reset` before the machine first runs. */
void *vm_device_new(Vm *vm, const VmDeviceType *type, const char *id);

/* Saves the device's rows into `out` / loads them from bytes, as described above. */
void vm_device_save(VmDevice *dev, GByteArray *out);
bool vm_device_load(VmDevice *dev, const uint8_t *bytes, size_t size, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Name = value lines, for the monitor. Owned text. */
char *vm_device_dup_description(const VmDevice *dev);

/* Does every byte of the struct stand in exactly one row? If not, `error` names the first gap or overlap. For tests. */
bool vm_device_type_check(const VmDeviceType *type, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Logs what a guest did wrong, as "id: text", at most a few lines a second for each device. Any thread. */
void vm_device_log(VmDevice *dev, const char *format, ...) G_GNUC_PRINTF(2, 3);

#endif
