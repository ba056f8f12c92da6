/*
 * Inside the floppy controller: its state, and what its three files call of each other. See floppy.c for how it works.
 */
#ifndef HW_STORAGE_FLOPPY_IMPL_H
#define HW_STORAGE_FLOPPY_IMPL_H

#include "block/block.h"
#include "hw/storage/floppy-format.h"
#include "hw/storage/floppy.h"
#include "vm-engine/device.h"
#include "vm-engine/vm.h"

#define DMA_CHANNEL  2
#define FIFO_BYTES   16
#define BUFFER_BYTES (FLOPPY_MAX_SECTORS * FLOPPY_SECTOR_BYTES)
#define MAX_TRACK    84
#define RESET_NS     (50 * VM_NS_PER_US)
#define SEEK_NS      (100 * VM_NS_PER_US)
#define STEP_NS      (10 * VM_NS_PER_US)
#define ID_NS        (100 * VM_NS_PER_US)
#define NOT_FOUND_NS (10 * VM_NS_PER_MS) /* a disk's two turns would be 400 ms */

/* Registers, by offset from 3F0. */
enum { REG_DOR = 2, REG_TDR = 3, REG_MSR_DSR = 4, REG_DATA = 5, REG_DIR_CCR = 7 };

enum {
  DOR_SELECT = 3,
  DOR_NOT_RESET = 1 << 2,
  DOR_DMA_GATE = 1 << 3,
  DOR_MOTOR_A = 1 << 4,

  DSR_RATE = 3,
  DSR_RESET = 1 << 7,

  MSR_BUSY = 1 << 4,
  MSR_NON_DMA = 1 << 5,
  MSR_TO_HOST = 1 << 6,
  MSR_READY = 1 << 7,

  DIR_CHANGED = 1 << 7,

  ST0_HEAD = 1 << 2,
  ST0_CHECK = 1 << 4,
  ST0_SEEK_END = 1 << 5,
  ST0_ABNORMAL = 1 << 6,
  ST0_INVALID = 1 << 7,
  ST0_POLLING = 3 << 6,

  ST1_NO_ADDRESS = 1 << 0,
  ST1_PROTECTED = 1 << 1,
  ST1_NO_DATA = 1 << 2,
  ST1_DATA_ERROR = 1 << 5,
  ST1_END = 1 << 7,

  ST2_WRONG_TRACK = 1 << 4,
  ST2_DATA_ERROR = 1 << 5,
  ST2_DELETED = 1 << 6,

  ST3_TWO_SIDES = 1 << 3,
  ST3_TRACK_0 = 1 << 4,
  ST3_READY = 1 << 5,
  ST3_PROTECTED = 1 << 6,

  CMD_MT = 1 << 7, /* over both sides */
  CMD_MFM = 1 << 6,
  CMD_BACKWARDS = 1 << 6, /* of RELATIVE SEEK: set, inwards */

  CONFIG_IMPLIED_SEEK = 1 << 6,
  CONFIG_NO_FIFO = 1 << 5,
  SPECIFY_NON_DMA = 1 << 0,
  SECTOR_SIZE_CODE = 2, /* 128 << 2 */
};

typedef struct Fifo {
  uint8_t bytes[FIFO_BYTES];
  uint8_t length, pos;
} Fifo;

typedef enum Phase {
  PHASE_COMMAND,   /* nothing, or command bytes come in */
  PHASE_RESETTING, /* the timer ends it */
  PHASE_IO,        /* a block request is under way */
  PHASE_DMA,       /* the buffer moves by DMA */
  PHASE_PIO,       /* … by the data register */
  PHASE_WAIT,      /* the timer shows the results that stand in the FIFO */
  PHASE_RESULT,
  PHASE_LAST = PHASE_RESULT
} Phase;

typedef enum Job { JOB_NONE, JOB_READ, JOB_WRITE, JOB_VERIFY, JOB_FORMAT, JOB_LAST = JOB_FORMAT } Job;

typedef struct Request {
  Floppy *fdc;
  bool busy, stale;
  uint8_t bytes[BUFFER_BYTES];
} Request;

typedef struct Drive {
  FloppyDriveType type;
  BlkImage *image;
  const FloppyFormat *format; /* NULL: empty */
  uint8_t track;              /* where the head stands */
  uint8_t next_id;            /* the sector that READ ID sees next, less one */
  bool changed;               /* the disk change line */
} Drive;

struct Floppy {
  VmDevice dev;
  I8237 *dma;
  VmIrq irq;
  Request *request;
  Drive drives[FLOPPY_N_DRIVES];

  uint8_t dor, tdr, rate;
  uint8_t specify[2], configure, pretrack, perpendicular;
  bool locked;
  bool irq_pending;

  uint8_t phase;
  Fifo fifo;
  uint8_t wanted; /* bytes that the command has */

  uint8_t sense_after_reset; /* interrupts of the reset that wait to be sensed */
  uint8_t seek_ended;        /* drives whose seek waits to be sensed: a bit each */
  uint8_t seek_st0[FLOPPY_N_DRIVES + 2];
  uint8_t seeking;
  uint8_t seek_target[FLOPPY_N_DRIVES];

  /* The transfer under way. */
  uint8_t job, unit, head, cylinder, id_head, sector, last_sector;
  bool both_sides, deleted, terminal_count;
  uint8_t format_count, format_done, fill;
  uint8_t run; /* sectors in the buffer */
  uint32_t pos, end;
  uint64_t io_offset;
  uint32_t io_bytes;
  uint8_t buffer[BUFFER_BYTES];

  VmTimer timer;
  VmTimer seek_timers[FLOPPY_N_DRIVES];
};

/* ---- FIFO -------------------------------------------------------------------------------------------------------- */

static inline void fdc_fifo_clear(Fifo *fifo)
{
  fifo->length = fifo->pos = 0;
}

static inline bool fdc_fifo_push(Fifo *fifo, uint8_t byte)
{
  if (fifo->length >= FIFO_BYTES)
    return false;
  fifo->bytes[fifo->length++] = byte;
  return true;
}

static inline bool fdc_fifo_pop(Fifo *fifo, uint8_t *byte)
{
  if (fifo->pos >= fifo->length || fifo->pos >= FIFO_BYTES)
    return false;
  *byte = fifo->bytes[fifo->pos++];
  return true;
}

/* Byte `i` of the command; 0 for one that did not come. */
static inline uint8_t fdc_parameter(const Floppy *fdc, unsigned i)
{
  return i < fdc->fifo.length ? fdc->fifo.bytes[i] : 0;
}

static inline int64_t fdc_now_ns(const Floppy *fdc)
{
  return vm_clock_get_ns(vm_get_clock(fdc->dev.vm));
}

static inline Drive *fdc_get_drive(Floppy *fdc, unsigned unit)
{
  return unit < FLOPPY_N_DRIVES && fdc->drives[unit].type != FLOPPY_DRIVE_NONE ? &fdc->drives[unit] : NULL;
}

/* ---- floppy.c: interrupts and results -------------------------------------------------------------------------- */

void fdc_drive_irq(Floppy *fdc);
void fdc_set_irq(Floppy *fdc, bool pending);
/* An answer without an execution phase: no interrupt. */
void fdc_answer(Floppy *fdc, const uint8_t *bytes, unsigned n);
void fdc_answer_invalid(Floppy *fdc);
/* The seven result bytes of the data commands; shown at once, or after `delay_ns`. */
void fdc_finish_job(Floppy *fdc, uint8_t st0, uint8_t st1, uint8_t st2, int64_t delay_ns);
void fdc_fail_job(Floppy *fdc, uint8_t st1, uint8_t st2);

/* ---- floppy-transfer.c --------------------------------------------------------------------------------------------- */

/* Issues the block request that io_offset and io_bytes describe. */
void fdc_issue_io(Floppy *fdc);
void fdc_abandon_io(Floppy *fdc);
bool fdc_is_double_stepping(const Drive *drive);
/* Does something turn there that can be read at this rate and side? */
bool fdc_finds_addresses(const Floppy *fdc, const Drive *drive, uint8_t command, unsigned unit, unsigned head);
void fdc_start_job(Floppy *fdc, Job job, bool deleted);
/* The buffer's first `size` bytes are for the guest, or wanted from it. */
void fdc_start_moving(Floppy *fdc, uint32_t size);
void fdc_run_dma(Floppy *fdc);
/* The guest has given or taken what it wants. */
void fdc_moved(Floppy *fdc);

/* ---- floppy-commands.c --------------------------------------------------------------------------------------------- */

void fdc_write_command_byte(Floppy *fdc, uint8_t value);
void fdc_end_seek(Floppy *fdc, unsigned unit);

#endif
