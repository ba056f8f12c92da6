/*
 * Inside the IDE controllers: channels, drives and the steps that a command goes through.
 *
 * A drive does one command at a time. The command's data goes through the drive's buffer, a chunk at a time:
 *
 *   disk → buffer → guest:  start_io(READ), io_done, offer_data(in) … data_done, and again while sectors are left
 *   guest → buffer → disk:  offer_data(out) … data_done, start_io(WRITE), io_done, and again
 *
 * Towards the guest the buffer moves in DRQ blocks through the data port (PIO), or by the channel's bus master (DMA).
 * Towards the image it moves by one block request at a time, which has a buffer of its own: a reset, or a load, can then
 * drop the request's result without waiting (it becomes stale), and no late read reaches the drive's buffer. A new
 * request waits for a stale one, so that an abandoned write cannot overtake a later one.
 *
 * Saved states: a request under way is recorded (io, io_offset, io_bytes, and the buffer for a write) and issued anew
 * after a load. A read again gives the same, and a write again of the same bytes changes nothing, since the guest has
 * not been told yet that it is done; so neither the save nor the loop need wait for the disk.
 */
#ifndef HW_STORAGE_IDE_IMPL_H
#define HW_STORAGE_IDE_IMPL_H

#include "block/block.h"
#include "hw/storage/ide.h"
#include "vm-engine/device.h"
#include "vm-engine/irq.h"

#define IDE_SECTOR_BYTES    512u
#define IDE_CD_SECTOR_BYTES 2048u
#define IDE_RAW_CD_BYTES    2352u
#define IDE_BUFFER_BYTES    (128u << 10) /* 256 sectors: what a command without EXT can ask for */
#define IDE_PACKET_BYTES    12u
#define IDE_MAX_MULTIPLE    16u

/* Status register. */
enum {
  IDE_ST_ERR = 1 << 0,
  IDE_ST_DRQ = 1 << 3,
  IDE_ST_DSC = 1 << 4,
  IDE_ST_DF = 1 << 5,
  IDE_ST_DRDY = 1 << 6,
  IDE_ST_BSY = 1 << 7,
};

/* Error register. */
enum {
  IDE_ERR_ABRT = 1 << 2,
  IDE_ERR_IDNF = 1 << 4,
  IDE_ERR_UNC = 1 << 6,
};

/* Device register. */
enum { IDE_DEV_SLAVE = 1 << 4, IDE_DEV_LBA = 1 << 6 };

enum { IDE_CMD_PACKET = 0xA0 };

/* Interrupt reason, in the count register of a packet command. */
enum { IDE_REASON_COMMAND = 1 << 0, IDE_REASON_TO_HOST = 1 << 1 };

typedef enum IdePhase {
  IDE_PHASE_IDLE,
  IDE_PHASE_BUSY,     /* BSY: the image is asked, or about to be */
  IDE_PHASE_PACKET,   /* the guest writes a command packet */
  IDE_PHASE_DATA_IN,  /* the guest reads the data port */
  IDE_PHASE_DATA_OUT, /* the guest writes the data port */
  IDE_PHASE_DMA_IN,   /* the bus master is to take the buffer */
  IDE_PHASE_DMA_OUT,  /* the bus master is to fill the buffer */
  IDE_PHASE_LAST = IDE_PHASE_DMA_OUT
} IdePhase;

typedef enum IdeIo {
  IDE_IO_NONE,
  IDE_IO_READ,
  IDE_IO_WRITE,
  IDE_IO_VERIFY,
  IDE_IO_FLUSH,
  IDE_IO_LAST = IDE_IO_FLUSH
} IdeIo;

typedef struct IdeChannel IdeChannel;

/* The one block request that a drive may have under way. */
typedef struct IdeRequest {
  IdeDrive *drive;
  bool busy;
  bool stale; /* nobody wants the result any more */
  uint8_t bytes[IDE_BUFFER_BYTES];
} IdeRequest;

/* What only an ATAPI drive has. */
typedef struct IdeCd {
  uint8_t packet[IDE_PACKET_BYTES];
  uint8_t sense_key, sense_code, sense_qualifier;
  uint8_t change; /* a new medium: 2 = "no medium" is to be told first, 1 = then "medium may have changed" */
  uint8_t event;  /* media event for GET EVENT STATUS NOTIFICATION */
  bool locked;    /* PREVENT MEDIUM REMOVAL */
  bool tray_open;
  uint8_t fields; /* what the guest gets of each sector: byte 9 of READ CD */
} IdeCd;

struct IdeDrive {
  IdeChannel *channel;
  IdeDriveKind kind;
  BlkImage *image;
  IdeRequest *request;
  uint64_t n_sectors; /* of a disk: 512 bytes; of a CD: 2048 */
  uint32_t cylinders, heads, sectors;
  uint32_t number; /* in the machine: serial number */

  /* Registers; [1] is what was written before ("high order byte"). */
  uint8_t error, status;
  uint8_t feature[2], count[2], lba_low[2], lba_mid[2], lba_high[2];
  uint8_t device;
  bool intrq;

  /* What commands have set. */
  uint8_t multiple;
  uint8_t transfer_mode; /* as SET FEATURES names it; 0: PIO only */
  uint8_t power_mode;    /* as CHECK POWER MODE answers */
  bool write_cache, look_ahead, smart;
  uint32_t current_cylinders, current_heads, current_sectors;

  /* The command under way. */
  uint8_t phase, io;
  uint8_t command;
  bool dma, ext;
  bool writing;
  uint64_t lba;   /* of the buffer's first sector */
  uint32_t left;  /* sectors not yet moved, the buffer's included */
  uint32_t chunk; /* sectors that the buffer holds or is to hold */
  uint64_t io_offset;
  uint32_t io_bytes;
  uint32_t pos, end;    /* in the buffer: moved to or from the guest up to, of */
  uint32_t burst_end;   /* of the DRQ block */
  uint32_t burst_bytes; /* largest DRQ block */
  IdeCd cd;
  uint8_t *buffer;
  size_t buffer_bytes; /* IDE_BUFFER_BYTES */
};

/* What a controller gives to its channels. */
typedef struct IdeBusOps {
  /* Moves up to `size` bytes between a drive's buffer and the guest, as far as the bus master runs. Returns the bytes
   * moved. The channel is told by ide_channel_run_dma() when there may be more. */
  size_t (*dma)(IdeChannel *channel, uint8_t *buffer, size_t size, bool to_guest);
  /* The channel's interrupt line. */
  void (*interrupt)(IdeChannel *channel, bool level);
} IdeBusOps;

struct IdeChannel {
  VmDevice *dev; /* the controller, for the log */
  const IdeBusOps *ops;
  IdeDrive drives[2];
  uint8_t selected;
  uint8_t control; /* device control register */
  bool irq_level;
};

extern const VmField ide_drive_fields[];
extern const VmField ide_channel_fields[];

/* ---- ide-channel.c ----------------------------------------------------------------------------------------------- */

void ide_channel_init(IdeChannel *channel, VmDevice *dev, const IdeBusOps *ops, unsigned number);
void ide_channel_reset(IdeChannel *channel);
void ide_channel_finish(IdeChannel *channel);
bool ide_channel_validate(const IdeChannel *scratch, GError **error);
void ide_channel_loaded(IdeChannel *channel);

/* Command block (offset 0–7) and control block (the one register). */
uint32_t ide_channel_read(IdeChannel *channel, unsigned offset, unsigned size);
void ide_channel_write(IdeChannel *channel, unsigned offset, uint32_t value, unsigned size);
uint8_t ide_channel_read_alternate_status(IdeChannel *channel);
void ide_channel_write_control(IdeChannel *channel, uint8_t value);

void ide_channel_update_irq(IdeChannel *channel);
void ide_channel_run_dma(IdeChannel *channel);

/* ---- ide-drive.c ---------------------------------------------------------------------------------------------- */

bool ide_drive_attach(IdeDrive *drive, IdeDriveKind kind, BlkImage *image, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void ide_drive_finish(IdeDrive *drive);
/* After power-on (`hard`) or a software reset: drops the command, shows the signature. */
void ide_drive_reset(IdeDrive *drive, bool hard);
void ide_drive_set_signature(IdeDrive *drive);
bool ide_drive_validate(const IdeDrive *scratch, GError **error);
void ide_drive_loaded(IdeDrive *drive);
/* Forgets the block request under way, if there is one. */
void ide_drive_abandon_io(IdeDrive *drive);

void ide_drive_start_io(IdeDrive *drive, IdeIo io, uint64_t offset_bytes, uint32_t size_bytes);
/* The buffer's first `size` bytes are for the guest, or are wanted from it: by PIO in blocks of `burst_bytes`, or by
 * DMA. `interrupt` tells whether the first block is announced by one. */
void ide_drive_offer_data(IdeDrive *drive, bool to_guest, uint32_t size, uint32_t burst_bytes, bool interrupt);
/* SET FEATURES' transfer mode in the count register: PIO 0–4, multiword DMA 0–2, Ultra DMA 0–5. Ends the command. */
void ide_drive_set_transfer_mode(IdeDrive *drive);
void ide_drive_complete(IdeDrive *drive);                 /* success, with an interrupt */
void ide_drive_fail(IdeDrive *drive, uint8_t error_bits); /* ERR, with an interrupt */

uint32_t ide_drive_read_data(IdeDrive *drive, unsigned size);
void ide_drive_write_data(IdeDrive *drive, uint32_t value, unsigned size);
/* The buffer has been moved whole. */
void ide_drive_data_done(IdeDrive *drive);
void ide_drive_command(IdeDrive *drive, uint8_t command);

/* ---- the two kinds ----------------------------------------------------------------------------------------------- */

void ide_disk_command(IdeDrive *drive, uint8_t command);
void ide_disk_io_done(IdeDrive *drive, IdeIo io, int error);
void ide_disk_data_done(IdeDrive *drive);
void ide_disk_identify(const IdeDrive *drive, uint8_t *buffer); /* IDE_SECTOR_BYTES */
void ide_disk_smart_page(uint8_t feature, uint8_t *buffer);

void ide_cd_reset(IdeDrive *drive);
void ide_cd_command(IdeDrive *drive, uint8_t command);
void ide_cd_packet_done(IdeDrive *drive);
void ide_cd_io_done(IdeDrive *drive, int error);
void ide_cd_data_done(IdeDrive *drive);
void ide_cd_identify(const IdeDrive *drive, uint8_t *buffer);
/* What a sector comes to with these fields: 0 to IDE_RAW_CD_BYTES. */
uint32_t ide_cd_sector_bytes(uint8_t fields);
bool ide_cd_has_medium(const IdeDrive *drive);

/* atapi-info.c: replies that tell of the drive and the medium; the length, or 0 for a field that is not valid. */
uint32_t ide_cd_inquiry(const IdeDrive *drive, uint8_t *reply);
uint32_t ide_cd_mode_sense(const IdeDrive *drive, bool ten, uint8_t *reply);
uint32_t ide_cd_toc(const IdeDrive *drive, uint8_t *reply);
uint32_t ide_cd_configuration(const IdeDrive *drive, uint8_t *reply);
uint32_t ide_cd_event_status(IdeDrive *drive, uint8_t *reply);
uint32_t ide_cd_mechanism_status(const IdeDrive *drive, uint8_t *reply);
uint32_t ide_cd_disc_information(const IdeDrive *drive, uint8_t *reply);
uint32_t ide_cd_subchannel(const IdeDrive *drive, uint8_t *reply);
uint32_t ide_cd_dvd_structure(const IdeDrive *drive, uint8_t *reply);
bool ide_cd_is_dvd(const IdeDrive *drive);
void ide_cd_put_msf(uint8_t *out, uint32_t lba);
#define IDE_CD_MAX_REPLY 4096u
#define IDE_CD_USER_DATA 0x10u /* of the fields of READ CD */

static inline void ide_put16(uint8_t *at, uint16_t value)
{
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}
static inline void ide_put32(uint8_t *at, uint32_t value)
{
  ide_put16(at, (uint16_t)(value >> 16));
  ide_put16(at + 2, (uint16_t)value);
}
static inline uint16_t ide_get16(const uint8_t *at)
{
  return (uint16_t)(at[0] << 8 | at[1]);
}
static inline uint32_t ide_get32(const uint8_t *at)
{
  return (uint32_t)ide_get16(at) << 16 | ide_get16(at + 2);
}

#endif
