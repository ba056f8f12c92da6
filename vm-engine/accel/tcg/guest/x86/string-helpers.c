/*
 * String instructions under REP.
 *
 * Each call does a bounded number of iterations, so that interrupts wait for microseconds at most, and leaves RCX, RSI and
 * RDI as the iterations done say; so a fault, an interrupt or the bound all continue by running the instruction again.
 * Upwards in RAM, a call moves, fills or searches whole stretches within the pages at hand; all else (devices, downwards,
 * elements across pages) goes element by element.
 */
#include "vm-engine/accel/tcg/guest/x86/translate-int.h"
#include "vm-engine/memory.h"

#define PAGE_BYTES          4096u
#define MAX_BULK_BYTES      65536u
#define MAX_SINGLE_ELEMENTS 1024u

typedef struct Walk {
  TcgCpu *cpu;
  unsigned width, bytes; /* of an element: log2, and that */
  unsigned addr_size;
  uint64_t addr_mask;
  unsigned source_seg;
  bool while_equal, down;
  uint64_t count; /* as the address size has it; a snapshot, written back by finish() */
  uint64_t todo;  /* iterations that this call may do yet */
} Walk;

/* With 32-bit addresses in 64-bit mode processors clear the upper halves of what they count in, whether or not an iteration
 * is made. */
static void narrow(const Walk *w, unsigned reg)
{
  if (w->addr_size == 2)
    w->cpu->x86.gpr[reg] &= w->addr_mask;
}

static Walk walk_begin(TcgCpu *cpu, uint64_t what)
{
  static const uint64_t masks[4] = { 0xff, 0xffff, 0xffffffff, ~0ull };
  Walk w = { .cpu = cpu, .width = what & X86_REP_WIDTH, .addr_size = what >> X86_REP_ADDRESS_SHIFT & 3 };
  w.bytes = 1u << w.width;
  w.addr_mask = masks[w.addr_size];
  w.source_seg = what >> X86_REP_SEG_SHIFT & 7;
  w.while_equal = what & X86_REP_WHILE_EQUAL;
  w.down = cpu->x86.rflags & X86_F_DF;
  w.count = cpu->x86.gpr[X86_RCX] & w.addr_mask;
  w.todo = what & X86_REP_ONCE ? 1 : MAX_BULK_BYTES;
  narrow(&w, X86_RCX);
  return w;
}

static uint64_t index_of(const Walk *w, unsigned reg)
{
  return w->cpu->x86.gpr[reg] & w->addr_mask;
}

static void set_index(Walk *w, unsigned reg, uint64_t value)
{
  uint64_t *r = &w->cpu->x86.gpr[reg];
  *r = w->addr_size == 1 ? (*r & ~0xffffull) | (value & 0xffff) : value & w->addr_mask;
}

static void move_index(Walk *w, unsigned reg, uint64_t elements)
{
  uint64_t distance = elements * w->bytes;
  set_index(w, reg, index_of(w, reg) + (w->down ? 0 - distance : distance));
}

/* `elements` iterations are done, as far as the count goes. */
static void count_down(Walk *w, uint64_t elements)
{
  w->count -= elements;
  set_index(w, X86_RCX, w->count);
  w->todo -= MIN(elements, w->todo);
}

static bool may_go_on(const Walk *w)
{
  return w->count && w->todo && !w->cpu->exit_block;
}

/* The call's result. RF keeps an instruction breakpoint from firing once for every call. */
static uint64_t walk_end(Walk *w)
{
  if (w->cpu->exc_pending || !w->count)
    return 0;
  if (w->cpu->hflags & TCG_HF_BREAKPOINTS)
    w->cpu->x86.rflags |= X86_F_RF;
  return 1;
}

/* ---- addresses ------------------------------------------------------------------------------------------------------ */

static bool is_flat(const TcgCpu *cpu, unsigned seg, bool write)
{
  if (cpu->hflags & TCG_HF_CS64)
    return true;
  return (cpu->hflags & TCG_HF_FLAT) && seg != X86_FS && seg != X86_GS && !(seg == X86_CS && write);
}

/* The linear address of one element. False with #GP or #SS pending. */
static bool element_address(const Walk *w, unsigned seg, uint64_t offset, bool write, uint64_t *linear)
{
  TcgCpu *cpu = w->cpu;
  if (is_flat(cpu, seg, write)) {
    bool based = (cpu->hflags & TCG_HF_CS64) && (seg == X86_FS || seg == X86_GS);
    *linear = offset + (based ? cpu->x86.seg[seg].base : 0);
    return true;
  }
  *linear = helper_seg_check(cpu, seg, offset, w->bytes | (write ? 0x100 : 0));
  return !cpu->exc_pending;
}

/* How many elements from `offset` upwards are inside the segment and the address size, given that the first one is. */
static uint64_t elements_in_segment(const Walk *w, unsigned seg, uint64_t offset, bool write)
{
  uint64_t last = w->addr_mask;
  const X86Segment *s = &w->cpu->x86.seg[seg];
  if (!is_flat(w->cpu, seg, write)) {
    bool expands_down = !(s->attr & X86_ATTR_CODE) && (s->attr & X86_ATTR_DC) && (w->cpu->hflags & TCG_HF_PE);
    uint64_t end = !expands_down ? s->limit : s->attr & X86_ATTR_DB ? 0xffffffff : 0xffff;
    last = MIN(last, end);
  }
  if (last < offset)
    return 0;
  uint64_t room = last - offset;
  return room == UINT64_MAX ? UINT64_MAX : (room + 1) >> w->width;
}

/* A stretch of elements in RAM, upwards, all in one page. */
typedef struct Stretch {
  uint64_t linear;
  uint8_t *host; /* NULL: go by single elements */
  uint64_t n;    /* elements */
} Stretch;

/* False with a fault pending; it belongs to the first element. */
static bool find_stretch(Walk *w, unsigned seg, unsigned reg, X86Access access, Stretch *s)
{
  uint64_t offset = index_of(w, reg);
  bool write = access == X86_WRITE;
  s->host = NULL;
  if (!element_address(w, seg, offset, write, &s->linear))
    return false;
  uint64_t in_page = (PAGE_BYTES - (s->linear & (PAGE_BYTES - 1))) >> w->width;
  s->n = MIN(MIN(in_page, elements_in_segment(w, seg, offset, write)), MIN(w->count, w->todo));
  if (w->down || s->n == 0)
    return true;
  s->host = x86_host_pointer(w->cpu, s->linear, (unsigned)(s->n << w->width), access, x86_mmu(w->cpu));
  return !w->cpu->exc_pending;
}

/* Single elements cost more: they use up the bound faster. */
static void charge_single(Walk *w)
{
  uint64_t extra = MAX_BULK_BYTES / MAX_SINGLE_ELEMENTS - 1;
  w->todo -= MIN(w->todo, extra);
}

static bool read_element(Walk *w, uint64_t linear, uint64_t *value)
{
  *value = 0;
  return x86_read(w->cpu, linear, value, w->bytes, x86_mmu(w->cpu));
}

static bool write_element(Walk *w, uint64_t linear, uint64_t value)
{
  return x86_write(w->cpu, linear, &value, w->bytes, x86_mmu(w->cpu));
}

static uint64_t load_host(const uint8_t *from, unsigned bytes)
{
  uint64_t value = 0;
  memcpy(&value, from, bytes);
  return value;
}

/* ---- MOVS, STOS, LODS ----------------------------------------------------------------------------------------------------- */

/* In ascending order as the instruction has it: a destination just above the source repeats a pattern. */
static void copy_up(uint8_t *to, const uint8_t *from, uint64_t n_bytes, unsigned element)
{
  if (to <= from || to >= from + n_bytes) {
    memmove(to, from, n_bytes);
    return;
  }
  for (uint64_t i = 0; i < n_bytes; i += element) {
    uint64_t value = load_host(from + i, element);
    memcpy(to + i, &value, element);
  }
}

static bool move_single(Walk *w, uint64_t from, uint64_t to)
{
  uint64_t value;
  charge_single(w);
  return read_element(w, from, &value) && write_element(w, to, value);
}

uint64_t helper_rep_movs(TcgCpu *cpu, uint64_t what, uint64_t b, uint64_t c)
{
  Walk w = walk_begin(cpu, what);
  narrow(&w, X86_RSI);
  narrow(&w, X86_RDI);
  while (may_go_on(&w)) {
    Stretch from, to;
    if (!find_stretch(&w, w.source_seg, X86_RSI, X86_READ, &from) || !find_stretch(&w, X86_ES, X86_RDI, X86_WRITE, &to))
      break;
    uint64_t n = 1;
    if (from.host && to.host) {
      n = MIN(from.n, to.n);
      copy_up(to.host, from.host, n << w.width, w.bytes);
    } else if (!move_single(&w, from.linear, to.linear)) {
      break;
    }
    move_index(&w, X86_RSI, n);
    move_index(&w, X86_RDI, n);
    count_down(&w, n);
  }
  return walk_end(&w);
}

static void fill(uint8_t *to, uint64_t value, uint64_t n, unsigned bytes)
{
  if (bytes == 1) {
    memset(to, (int)(value & 0xff), n);
    return;
  }
  for (uint64_t i = 0; i < n; i++)
    memcpy(to + i * bytes, &value, bytes);
}

uint64_t helper_rep_stos(TcgCpu *cpu, uint64_t what, uint64_t b, uint64_t c)
{
  Walk w = walk_begin(cpu, what);
  narrow(&w, X86_RDI);
  uint64_t value = cpu->x86.gpr[X86_RAX];
  while (may_go_on(&w)) {
    Stretch to;
    if (!find_stretch(&w, X86_ES, X86_RDI, X86_WRITE, &to))
      break;
    uint64_t n = 1;
    if (to.host) {
      n = to.n;
      fill(to.host, value, n, w.bytes);
    } else {
      charge_single(&w);
      if (!write_element(&w, to.linear, value))
        break;
    }
    move_index(&w, X86_RDI, n);
    count_down(&w, n);
  }
  return walk_end(&w);
}

static void set_accumulator(Walk *w, uint64_t value)
{
  uint64_t *rax = &w->cpu->x86.gpr[X86_RAX];
  uint64_t keep = w->width == 0 ? ~0xffull : w->width == 1 ? ~0xffffull : 0;
  *rax = (*rax & keep) | value;
}

uint64_t helper_rep_lods(TcgCpu *cpu, uint64_t what, uint64_t b, uint64_t c)
{
  Walk w = walk_begin(cpu, what);
  while (may_go_on(&w)) {
    Stretch from;
    uint64_t value, n = 1;
    if (!find_stretch(&w, w.source_seg, X86_RSI, X86_READ, &from))
      break;
    if (from.host) {
      n = from.n;
      value = load_host(from.host + ((n - 1) << w.width), w.bytes);
    } else {
      charge_single(&w);
      if (!read_element(&w, from.linear, &value))
        break;
    }
    set_accumulator(&w, value);
    move_index(&w, X86_RSI, n);
    count_down(&w, n);
  }
  return walk_end(&w);
}

/* ---- CMPS, SCAS ----------------------------------------------------------------------------------------------------------------- */

/* The flags of a - b. */
static uint16_t compare_flags(uint64_t a, uint64_t b, unsigned width)
{
  unsigned bits = 8u << width;
  uint64_t mask = width == 3 ? ~0ull : (1ull << bits) - 1, sign = 1ull << (bits - 1);
  a &= mask;
  b &= mask;
  uint64_t r = (a - b) & mask, flags = 0;
  flags |= a < b ? X86_F_CF : 0;
  flags |= r == 0 ? X86_F_ZF : 0;
  flags |= r & sign ? X86_F_SF : 0;
  flags |= (a ^ b) & (a ^ r) & sign ? X86_F_OF : 0;
  flags |= (a ^ b ^ r) & X86_F_AF;
  flags |= __builtin_parity((unsigned)(r & 0xff)) ? 0 : X86_F_PF;
  return tcg_pack_flags(flags);
}

/* One comparison is done: sets flags and returns whether it ends the instruction. */
static bool compare(Walk *w, uint64_t a, uint64_t b)
{
  w->cpu->flags = compare_flags(a, b, w->width);
  bool equal = w->cpu->flags & X86_F_ZF << 8;
  return equal != w->while_equal;
}

static bool differ(uint64_t a, uint64_t b, unsigned width)
{
  return (a ^ b) << (64 - (8u << width)) != 0;
}

/* How many elements the comparison takes within a stretch, the deciding one included. */
static uint64_t compare_stretch(const Walk *w, const uint8_t *a, uint64_t constant, const uint8_t *b, uint64_t n)
{
  for (uint64_t i = 0; i < n; i++) {
    uint64_t x = a ? load_host(a + (i << w->width), w->bytes) : constant;
    if (differ(x, load_host(b + (i << w->width), w->bytes), w->width) == w->while_equal)
      return i + 1;
  }
  return n;
}

uint64_t helper_rep_cmps(TcgCpu *cpu, uint64_t what, uint64_t b, uint64_t c)
{
  Walk w = walk_begin(cpu, what);
  uint16_t flags_before = cpu->flags;
  bool done = false;
  while (!done && may_go_on(&w)) {
    Stretch first, second;
    uint64_t x = 0, y = 0, n = 1;
    if (!find_stretch(&w, w.source_seg, X86_RSI, X86_READ, &first) ||
        !find_stretch(&w, X86_ES, X86_RDI, X86_READ, &second))
      break;
    if (first.host && second.host) {
      n = compare_stretch(&w, first.host, 0, second.host, MIN(first.n, second.n));
      x = load_host(first.host + ((n - 1) << w.width), w.bytes);
      y = load_host(second.host + ((n - 1) << w.width), w.bytes);
    } else {
      charge_single(&w);
      if (!read_element(&w, first.linear, &x) || !read_element(&w, second.linear, &y))
        break;
    }
    done = compare(&w, x, y);
    move_index(&w, X86_RSI, n);
    move_index(&w, X86_RDI, n);
    count_down(&w, n);
  }
  if (cpu->exc_pending)
    cpu->flags = flags_before;
  return done ? 0 : walk_end(&w);
}

uint64_t helper_rep_scas(TcgCpu *cpu, uint64_t what, uint64_t b, uint64_t c)
{
  Walk w = walk_begin(cpu, what);
  uint16_t flags_before = cpu->flags;
  uint64_t x = cpu->x86.gpr[X86_RAX];
  bool done = false;
  while (!done && may_go_on(&w)) {
    Stretch at;
    uint64_t y = 0, n = 1;
    if (!find_stretch(&w, X86_ES, X86_RDI, X86_READ, &at))
      break;
    if (at.host) {
      n = compare_stretch(&w, NULL, x, at.host, at.n);
      y = load_host(at.host + ((n - 1) << w.width), w.bytes);
    } else {
      charge_single(&w);
      if (!read_element(&w, at.linear, &y))
        break;
    }
    done = compare(&w, x, y);
    move_index(&w, X86_RDI, n);
    count_down(&w, n);
  }
  if (cpu->exc_pending)
    cpu->flags = flags_before;
  return done ? 0 : walk_end(&w);
}

/* ---- INS, OUTS -------------------------------------------------------------------------------------------------------------------- */

static uint16_t port_of(const TcgCpu *cpu)
{
  return (uint16_t)cpu->x86.gpr[X86_RDX];
}

/* Whether both ends of the element can be written, so that the store behind a port's read cannot fault. */
static bool is_writable(Walk *w, uint64_t linear)
{
  x86_host_pointer(w->cpu, linear, 1, X86_WRITE, x86_mmu(w->cpu));
  if (!w->cpu->exc_pending && w->bytes > 1)
    x86_host_pointer(w->cpu, linear + w->bytes - 1, 1, X86_WRITE, x86_mmu(w->cpu));
  return !w->cpu->exc_pending;
}

uint64_t helper_rep_ins(TcgCpu *cpu, uint64_t what, uint64_t b, uint64_t c)
{
  Walk w = walk_begin(cpu, what);
  if (w.count)
    helper_check_io(cpu, port_of(cpu), w.bytes, 0);
  while (!cpu->exc_pending && may_go_on(&w)) {
    uint64_t linear;
    charge_single(&w);
    if (!element_address(&w, X86_ES, index_of(&w, X86_RDI), true, &linear) || !is_writable(&w, linear))
      break;
    uint32_t fp = x86_host_fp_begin();
    uint32_t value = vm_port_read(cpu->memory, port_of(cpu), w.bytes);
    x86_host_fp_end(fp);
    if (!write_element(&w, linear, value))
      break;
    move_index(&w, X86_RDI, 1);
    count_down(&w, 1);
  }
  return walk_end(&w);
}

uint64_t helper_rep_outs(TcgCpu *cpu, uint64_t what, uint64_t b, uint64_t c)
{
  Walk w = walk_begin(cpu, what);
  if (w.count)
    helper_check_io(cpu, port_of(cpu), w.bytes, 0);
  while (!cpu->exc_pending && may_go_on(&w)) {
    uint64_t linear, value;
    charge_single(&w);
    if (!element_address(&w, w.source_seg, index_of(&w, X86_RSI), false, &linear) || !read_element(&w, linear, &value))
      break;
    uint32_t fp = x86_host_fp_begin();
    vm_port_write(cpu->memory, port_of(cpu), (uint32_t)value, w.bytes);
    x86_host_fp_end(fp);
    move_index(&w, X86_RSI, 1);
    count_down(&w, 1);
  }
  return walk_end(&w);
}
