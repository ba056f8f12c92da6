/*
 * What an ATAPI drive tells of itself and its medium: INQUIRY, mode pages, table of contents, features, events
 * (SPC-3, MMC-4). Each function writes the whole reply; the caller cuts it to what the guest has room for.
 *
 * A medium is one session with one data track that begins at sector 0.
 */
#include <string.h>

#include "hw/storage/ide-impl.h"

#define DVD_MIN_SECTORS       (UINT64_C(900) * 1000 * 1000 / IDE_CD_SECTOR_BYTES) /* no CD holds more */
#define DVD_MAX_LAYER_SECTORS 2298496u
#define DVD_FIRST_PHYSICAL    0x030000u
#define TRACK_DATA            0x14 /* ADR 1: position; control 4: data */
#define TRACK_LEAD_OUT        0xAA

enum { PROFILE_NONE = 0x0000, PROFILE_CD_ROM = 0x0008, PROFILE_DVD_ROM = 0x0010 };

bool ide_cd_is_dvd(const IdeDrive *drive)
{
  return ide_cd_has_medium(drive) && drive->n_sectors > DVD_MIN_SECTORS;
}

/* 0, minute, second, frame. Beyond 255 minutes, where only DVDs reach, the minute wraps. */
void ide_cd_put_msf(uint8_t *out, uint32_t lba)
{
  uint64_t frames = (uint64_t)lba + 150;
  out[0] = 0;
  out[1] = (uint8_t)(frames / (75 * 60));
  out[2] = (uint8_t)(frames / 75 % 60);
  out[3] = (uint8_t)(frames % 75);
}

static void put_address(uint8_t *out, bool msf, uint32_t lba)
{
  if (msf)
    ide_cd_put_msf(out, lba);
  else
    ide_put32(out, lba);
}

static void put_text(uint8_t *out, size_t size, const char *text)
{
  memset(out, ' ', size);
  memcpy(out, text, MIN(size, strlen(text)));
}

uint32_t ide_cd_inquiry(const IdeDrive *drive, uint8_t *out)
{
  if (drive->cd.packet[1] & 3 || drive->cd.packet[2] != 0) /* vital product data: none */
    return 0;
  memset(out, 0, 36);
  out[0] = 0x05; /* CD/DVD */
  out[1] = 0x80; /* removable */
  out[3] = 0x21; /* ATAPI 2, format 1 */
  out[4] = 36 - 5;
  put_text(out + 8, 8, "ORIEL");
  put_text(out + 16, 16, "DVD-ROM");
  put_text(out + 32, 4, "1.0");
  return 36;
}

/* ---- mode pages -------------------------------------------------------------------------------------------------- */

static uint32_t put_error_recovery(const IdeDrive *drive, uint8_t *out)
{
  memset(out, 0, 8);
  out[0] = 0x01;
  out[1] = 6;
  out[3] = 5; /* retries */
  return 8;
}

static uint32_t put_audio_control(const IdeDrive *drive, uint8_t *out)
{
  memset(out, 0, 16);
  out[0] = 0x0E;
  out[1] = 14;
  out[2] = 0x04; /* immediate */
  out[8] = 1;    /* port 0: channel 0, */
  out[9] = 0xFF; /* full volume */
  out[10] = 2;
  out[11] = 0xFF;
  return 16;
}

static uint32_t put_capabilities(const IdeDrive *drive, uint8_t *out)
{
  memset(out, 0, 22);
  out[0] = 0x2A;
  out[1] = 20;
  out[2] = 0x3B;                                         /* reads CD-R, CD-RW, DVD-ROM, DVD-R, DVD-RAM */
  out[4] = 0x70;                                         /* mode 2 forms, sessions */
  out[6] = (uint8_t)(0x29 | (drive->cd.locked ? 2 : 0)); /* tray, eject, lock */
  ide_put16(out + 8, 2822);                              /* kB/s: 16x */
  ide_put16(out + 12, IDE_BUFFER_BYTES / 1024);
  ide_put16(out + 14, 2822);
  return 22;
}

static uint32_t put_power_condition(const IdeDrive *drive, uint8_t *out)
{
  memset(out, 0, 12);
  out[0] = 0x1A;
  out[1] = 10;
  return 12;
}

typedef struct ModePage {
  uint8_t code;
  uint32_t (*put)(const IdeDrive *drive, uint8_t *out);
} ModePage;

static const ModePage mode_pages[] = {
  { 0x01, put_error_recovery },
  { 0x0E, put_audio_control },
  { 0x1A, put_power_condition },
  { 0x2A, put_capabilities },
};

uint32_t ide_cd_mode_sense(const IdeDrive *drive, bool ten, uint8_t *out)
{
  uint8_t wanted = drive->cd.packet[2] & 0x3F;
  uint32_t header = ten ? 8 : 4, n = header;
  memset(out, 0, header);
  for (size_t i = 0; i < G_N_ELEMENTS(mode_pages); i++) {
    if (wanted != 0x3F && wanted != mode_pages[i].code)
      continue;
    uint32_t size = mode_pages[i].put(drive, out + n);
    if (drive->cd.packet[2] >> 6 == 1) /* changeable values: none */
      memset(out + n + 2, 0, size - 2);
    n += size;
  }
  if (n == header)
    return 0;
  uint8_t medium = !ide_cd_has_medium(drive) ? (drive->cd.tray_open ? 0x71 : 0x70) : 0x01;
  if (ten) {
    ide_put16(out, (uint16_t)(n - 2));
    out[2] = medium;
  } else {
    out[0] = (uint8_t)(n - 1);
    out[1] = medium;
  }
  return n;
}

/* ---- table of contents ------------------------------------------------------------------------------------------ */

static uint32_t toc_tracks(const IdeDrive *drive, bool msf, uint8_t start, uint8_t *out)
{
  uint32_t n = 4;
  if (start > 1 && start != TRACK_LEAD_OUT)
    return 0;
  out[2] = out[3] = 1; /* first and last track */
  if (start <= 1) {
    out[n + 1] = TRACK_DATA;
    out[n + 2] = 1;
    put_address(out + n + 4, msf, 0);
    n += 8;
  }
  out[n + 1] = TRACK_DATA;
  out[n + 2] = TRACK_LEAD_OUT;
  put_address(out + n + 4, msf, (uint32_t)drive->n_sectors);
  return n + 8;
}

static uint32_t toc_sessions(bool msf, uint8_t *out)
{
  out[2] = out[3] = 1;
  out[5] = TRACK_DATA;
  out[6] = 1; /* first track of the last session */
  put_address(out + 8, msf, 0);
  return 12;
}

/* The lead-in's own entries: points A0 (first track), A1 (last), A2 (lead-out), and the track. Times are in BCD only in
 * the lead-in itself, not here. */
static uint32_t toc_full(const IdeDrive *drive, uint8_t *out)
{
  static const uint8_t points[] = { 0xA0, 0xA1, 0xA2, 0x01 };
  uint8_t msf[4];
  out[2] = out[3] = 1;
  for (unsigned i = 0; i < G_N_ELEMENTS(points); i++) {
    uint8_t *entry = out + 4 + 11 * i;
    entry[0] = 1; /* session */
    entry[1] = TRACK_DATA;
    entry[3] = points[i];
    ide_cd_put_msf(msf, points[i] == 0xA2 ? (uint32_t)drive->n_sectors : 0);
    if (points[i] == 0xA0 || points[i] == 0xA1)
      entry[8] = 1; /* track number */
    else
      memcpy(entry + 8, msf + 1, 3);
  }
  return 4 + 11 * G_N_ELEMENTS(points);
}

uint32_t ide_cd_toc(const IdeDrive *drive, uint8_t *out)
{
  const uint8_t *packet = drive->cd.packet;
  bool msf = packet[1] & 2;
  unsigned format = packet[2] & 15;
  uint32_t n;
  if (format == 0) /* SFF-8020i had it elsewhere */
    format = packet[9] >> 6;
  memset(out, 0, 64);
  if (format == 0)
    n = toc_tracks(drive, msf, packet[6], out);
  else if (format == 1)
    n = toc_sessions(msf, out);
  else if (format == 2)
    n = toc_full(drive, out);
  else
    return 0;
  ide_put16(out, (uint16_t)(n - 2));
  return n;
}

/* ---- features and events ---------------------------------------------------------------------------------------- */

typedef struct Feature {
  uint16_t code;
  uint8_t flags;   /* version << 2 | persistent << 1; bit 0 (current) is added */
  uint8_t profile; /* current only with this one; 0: always */
  uint8_t size;
  uint8_t data[8];
} Feature;

static const Feature features[] = {
  { 0x0000, 0x02, 0, 8, { 0, PROFILE_DVD_ROM, 0, 0, 0, PROFILE_CD_ROM, 0, 0 } }, /* profiles */
  { 0x0001, 0x0A, 0, 8, { 0, 0, 0, 2, 1 } },                                     /* core: ATAPI, reports busy events */
  { 0x0002, 0x06, 0, 4, { 2 } },                                                 /* morphing: events, polled */
  { 0x0003, 0x02, 0, 4, { 0x29 } },                                              /* removable: tray, eject, lock */
  { 0x0010, 0x00, 0xFF, 8, { 0, 0, 8, 0, 0, 1, 0, 0 } },                         /* random reading in blocks of 2048 */
  { 0x001E, 0x08, PROFILE_CD_ROM, 4, { 0 } },                                    /* reads CDs */
  { 0x001F, 0x00, PROFILE_DVD_ROM, 4, { 0 } },                                   /* reads DVDs */
  { 0x0100, 0x02, 0, 0, { 0 } },                                                 /* power management */
  { 0x0105, 0x02, 0, 4, { 0 } },                                                 /* time-outs */
};

uint32_t ide_cd_configuration(const IdeDrive *drive, uint8_t *out)
{
  const uint8_t *packet = drive->cd.packet;
  unsigned which = packet[1] & 3, start = ide_get16(packet + 2);
  uint16_t profile = ide_cd_is_dvd(drive) ? PROFILE_DVD_ROM : ide_cd_has_medium(drive) ? PROFILE_CD_ROM : PROFILE_NONE;
  uint32_t n = 8;
  if (which == 3)
    return 0;
  memset(out, 0, 8);
  ide_put16(out + 6, profile);
  for (size_t i = 0; i < G_N_ELEMENTS(features); i++) {
    const Feature *f = &features[i];
    bool current = f->profile == 0 || f->profile == profile || (f->profile == 0xFF && profile != PROFILE_NONE);
    if (f->code < start || (which == 2 && f->code != start) || (which == 1 && !current))
      continue;
    ide_put16(out + n, f->code);
    out[n + 2] = (uint8_t)(f->flags | current);
    out[n + 3] = f->size;
    memcpy(out + n + 4, f->data, f->size);
    if (f->code == 0) { /* each profile says whether it is the current one */
      out[n + 6] = profile == PROFILE_DVD_ROM;
      out[n + 10] = profile == PROFILE_CD_ROM;
    }
    n += 4u + f->size;
  }
  ide_put32(out, n - 4);
  return n;
}

uint32_t ide_cd_event_status(IdeDrive *drive, uint8_t *out)
{
  const uint8_t media_class = 4;
  memset(out, 0, 8);
  out[3] = 1u << media_class; /* what we know events of */
  if (!(drive->cd.packet[4] & 1u << media_class)) {
    out[1] = 2;
    out[2] = 0x80; /* no event of the classes asked for */
    return 4;
  }
  out[1] = 6;
  out[2] = media_class;
  out[4] = drive->cd.event;
  out[5] = (uint8_t)((drive->cd.tray_open ? 1 : 0) | (ide_cd_has_medium(drive) ? 2 : 0));
  drive->cd.event = 0;
  return 8;
}

uint32_t ide_cd_mechanism_status(const IdeDrive *drive, uint8_t *out)
{
  memset(out, 0, 8);
  out[1] = drive->cd.tray_open ? 0x10 : 0;
  out[5] = 1; /* one slot, and no table of it */
  return 8;
}

uint32_t ide_cd_disc_information(const IdeDrive *drive, uint8_t *out)
{
  if (drive->cd.packet[1] & 7) /* track and blank resources */
    return 0;
  memset(out, 0, 34);
  ide_put16(out, 32);
  out[2] = 0x0E;                         /* complete disc, complete last session */
  out[3] = out[4] = out[5] = out[6] = 1; /* first track, sessions, first and last track of the last session */
  out[7] = 0x20;                         /* unrestricted use */
  memset(out + 16, 0xFF, 8);             /* no next session, no last lead-out to write */
  return 34;
}

uint32_t ide_cd_subchannel(const IdeDrive *drive, uint8_t *out)
{
  const uint8_t *packet = drive->cd.packet;
  memset(out, 0, 24);
  out[1] = 0x15; /* no audio is playing */
  if (!(packet[2] & 0x40))
    return 4;
  out[4] = packet[3];
  switch (packet[3]) {
  case 1: /* where it is */
    ide_put16(out + 2, 12);
    out[5] = TRACK_DATA;
    out[6] = out[7] = 1;
    put_address(out + 8, packet[1] & 2, 0);
    put_address(out + 12, packet[1] & 2, 0);
    return 16;
  case 2: /* catalogue number: none */
    ide_put16(out + 2, 20);
    return 24;
  case 3: /* recording code of a track: none */
    ide_put16(out + 2, 20);
    out[5] = TRACK_DATA;
    out[6] = packet[6];
    return 24;
  default:
    return 0;
  }
}

/* ---- DVD structures ----------------------------------------------------------------------------------------------- */

static void put_physical_format(const IdeDrive *drive, uint8_t *out)
{
  bool two = drive->n_sectors > DVD_MAX_LAYER_SECTORS;
  uint32_t n = (uint32_t)drive->n_sectors;
  out[0] = 0x01;              /* DVD-ROM, version 1 */
  out[1] = 0x0F;              /* 120 mm, no rate given */
  out[2] = two ? 0x21 : 0x01; /* layers; embossed data */
  ide_put32(out + 4, DVD_FIRST_PHYSICAL);
  ide_put32(out + 8, DVD_FIRST_PHYSICAL + n - 1);
  ide_put32(out + 12, two ? DVD_FIRST_PHYSICAL + n / 2 - 1 : 0); /* end of layer 0 */
}

static uint32_t put_structure_list(uint8_t *out)
{
  static const struct {
    uint8_t format;
    uint16_t size;
  } rows[] = { { 0x00, 2052 }, { 0x01, 8 }, { 0x04, 2052 } };
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    out[4 * i] = rows[i].format;
    out[4 * i + 1] = 0x40; /* readable */
    ide_put16(out + 4 * i + 2, rows[i].size);
  }
  return 4 * G_N_ELEMENTS(rows);
}

uint32_t ide_cd_dvd_structure(const IdeDrive *drive, uint8_t *out)
{
  uint32_t n = 4;
  memset(out, 0, IDE_CD_MAX_REPLY);
  if (drive->cd.packet[1] & 15) /* another kind of medium */
    return 0;
  switch (drive->cd.packet[7]) {
  case 0x00:
    put_physical_format(drive, out + 4);
    n += 2048;
    break;
  case 0x01: /* copyright: unprotected, all regions */
    n += 4;
    break;
  case 0x04: /* manufacturer: nothing to tell */
    n += 2048;
    break;
  case 0xFF:
    n += put_structure_list(out + 4);
    break;
  default:
    return 0;
  }
  ide_put16(out, (uint16_t)(n - 2));
  return n;
}
