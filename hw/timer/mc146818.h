/*
 * The real-time clock and its battery-backed memory (Motorola MC146818), at ports 0x70/0x71 with 128 bytes. Reset
 * keeps the contents.
 */
#ifndef HW_TIMER_MC146818_H
#define HW_TIMER_MC146818_H

#include "vm-engine/device.h"
#include "vm-engine/irq.h"

typedef struct Mc146818 Mc146818;

#define MC146818_CMOS_BYTES 128

/* Creates "rtc". `irq` is ISA line 8. `start_wall_ns`: the clock's first value as seconds-since-1970 in ns (UTC as the
 * guest shall see it: add an offset for local time); -1: the host's UTC now. */
Mc146818 *mc146818_create(Vm *vm, VmIrq irq, int64_t start_wall_ns);
/* While high, the clock does not drive IRQ 8: the HPET's legacy replacement. */
VmIrq mc146818_irq_inhibit(Mc146818 *rtc);
/* Driven with bit 7 of port 0x70 (NMI mask). Set-up only. */
void mc146818_set_nmi_mask_line(Mc146818 *rtc, VmIrq line);
/* Told of the interrupt output too (before inhibition), for the power management's RTC_STS. Set-up only. */
void mc146818_set_alarm_line(Mc146818 *rtc, VmIrq line);

/* ---- contents, for the board; checksum 0x2E/0x2F is kept right ------------------------------------------------- */

/* `index` 0x0E–0x7F (clock registers are the clock's own). */
void mc146818_set_cmos(Mc146818 *rtc, uint8_t index, uint8_t value);
uint8_t mc146818_get_cmos(const Mc146818 *rtc, uint8_t index);
/* Memory sizes at 0x15–0x18, 0x30/31 (KiB), 0x34/35 (64 KiB above 16 MiB), 0x5B–0x5D (64 KiB above 4 GiB). Both in
 * bytes: RAM from address 0 below 4 GiB, and from 4 GiB up. */
void mc146818_set_memory(Mc146818 *rtc, uint64_t below_4g_bytes, uint64_t above_4g_bytes);
/* Drive types of floppies A and B (0 none, 2 = 1.2M, 4 = 1.44M, 5 = 2.88M): 0x10, and the equipment byte 0x14. */
void mc146818_set_floppies(Mc146818 *rtc, uint8_t type_a, uint8_t type_b);
/* Fixed disk 0 or 1 as user type 47 with this geometry (0x12, 0x19/1A, 0x1B–0x2C); cylinders 0: none. */
void mc146818_set_disk(Mc146818 *rtc, unsigned disk, uint16_t cylinders, uint8_t heads, uint8_t sectors);
/* SeaBIOS's boot order (0x3D, 0x38): 1 floppy, 2 hard disk, 3 CD-ROM, 4 network, 0 none; whether to check floppies'
 * boot signature. */
void mc146818_set_boot_order(Mc146818 *rtc, uint8_t first, uint8_t second, uint8_t third, bool check_floppy);
/* The number of CPUs less one, at 0x5F. */
void mc146818_set_n_cpus(Mc146818 *rtc, unsigned n_cpus);

#endif
