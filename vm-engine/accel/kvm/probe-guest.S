/*
 * What the probe runs in its throw-away machine: see probe.c for the machine around it, probe.h for the numbers.
 *
 * The code is copied to PROBE_CODE and runs there, so every absolute address is written as ADDRESS(label). Each phase
 * ends by writing its number to PROBE_PORT; what went wrong is told by PROBE_FAILED in its place.
 */
#include "vm-engine/accel/kvm/probe.h"

#define ADDRESS(label) (PROBE_CODE + (label - vm_kvm_probe_guest))
#define PHASE(number) movb $number, %al; outb %al, $PROBE_PORT

  .section .rodata
  .globl vm_kvm_probe_guest, vm_kvm_probe_guest_end
  .hidden vm_kvm_probe_guest, vm_kvm_probe_guest_end
  .balign 16
vm_kvm_probe_guest:

/* ---- real mode ---- */
  .code16
  xorw %ax, %ax
  movw %ax, %ds
  movw %ax, %ss
  movw $PROBE_STACK, %sp
  movw $PROBE_EXITS, %cx
1: outb %al, $PROBE_NULL_PORT
  loop 1b
  PHASE(PROBE_PHASE_REAL)
  movl $PROBE_SPINS, %ecx
1: decl %ecx
  jnz 1b
  PHASE(PROBE_PHASE_REAL_SPIN)
  lgdtl ADDRESS(gdt_pointer)
  movl %cr0, %eax
  orb $1, %al
  movl %eax, %cr0
  ljmpl $0x08, $ADDRESS(protected)

/* ---- protected mode, 32-bit paging ---- */
  .code32
protected:
  movw $0x10, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movl $PROBE_STACK, %esp
  movl %cr4, %eax
  orb $0x10, %al /* pages of 4 MiB */
  movl %eax, %cr4
  movl $PROBE_PAGE_DIR32, %eax
  movl %eax, %cr3
  movl %cr0, %eax
  orl $0x80010000, %eax
  movl %eax, %cr0
  /* The second 4 MiB show the first. */
  movl $0x600df00d, PROBE_DATA
  cmpl $0x600df00d, 0x400000 + PROBE_DATA
  jne failed32
  PHASE(PROBE_PHASE_PROTECTED)
  movl $PROBE_SPINS, %ecx
1: decl %ecx
  jnz 1b
  PHASE(PROBE_PHASE_PROTECTED_SPIN)
  movl %cr0, %eax
  andl $0x7fffffff, %eax
  movl %eax, %cr0
  movl %cr4, %eax
  orl $0x20, %eax
  movl %eax, %cr4
  movl $PROBE_PML4, %eax
  movl %eax, %cr3
  movl $0xc0000080, %ecx
  rdmsr
  orl $0x901, %eax
  wrmsr
  movl %cr0, %eax
  orl $0x80010000, %eax
  movl %eax, %cr0
  ljmpl $0x18, $ADDRESS(long_mode)
failed32:
  PHASE(PROBE_FAILED)
  hlt

/* ---- long mode: what a kernel does ---- */
  .code64
long_mode:
  movw $0x10, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movq $PROBE_STACK, %rsp
  lgdt ADDRESS(gdt_pointer)
  lidt ADDRESS(idt_pointer)
  movw $0x40, %ax
  ltr %ax
  PHASE(PROBE_PHASE_LONG)

  movl $PROBE_SPINS, %ecx
1: decl %ecx
  jnz 1b
  PHASE(PROBE_PHASE_LONG_SPIN)

  /* GS bases and swapgs; STAR, LSTAR, SFMASK for later. */
  movl $0xc0000081, %ecx
  xorl %eax, %eax
  movl $0x00230018, %edx
  wrmsr
  movl $0xc0000082, %ecx
  movl $ADDRESS(syscall_entry), %eax
  xorl %edx, %edx
  wrmsr
  movl $0xc0000084, %ecx
  movl $0x47700, %eax
  wrmsr
  movl $PROBE_ROUNDS, %ebx
2:
  movl $0xc0000101, %ecx
  movl $PROBE_DATA, %eax
  xorl %edx, %edx
  wrmsr
  movl $0xc0000102, %ecx
  movl $PROBE_DATA + 8, %eax
  wrmsr
  movq $0x1111, PROBE_DATA
  movq $0x2222, PROBE_DATA + 8
  cmpq $0x1111, %gs:0
  jne failed
  swapgs
  cmpq $0x2222, %gs:0
  jne failed
  swapgs
  decl %ebx
  jnz 2b
  PHASE(PROBE_PHASE_MSRS)

  /* Page-table changes: one virtual page shown two physical ones in turn. */
  movl $PROBE_ROUNDS, %ebx
  movq $PROBE_PT_ENTRY, %rdi
3:
  movq $PROBE_DATA + 3, (%rdi)
  invlpg PROBE_WINDOW
  cmpq $0x1111, PROBE_WINDOW
  jne failed
  movq $PROBE_DATA2 + 3, (%rdi)
  invlpg PROBE_WINDOW
  cmpq $0x3333, PROBE_WINDOW
  jne failed
  decl %ebx
  jnz 3b
  PHASE(PROBE_PHASE_REMAP)

  /* Page faults: the handler maps the page. */
  movl $PROBE_ROUNDS, %ebx
4:
  movq $0, (%rdi)
  invlpg PROBE_WINDOW
  cmpq $0x3333, PROBE_WINDOW
  jne failed
  decl %ebx
  jnz 4b
  PHASE(PROBE_PHASE_FAULTS)

  /* New page tables. */
  movl $PROBE_ROUNDS, %ebx
5:
  movq $PROBE_PML4_OTHER, %rax
  movq %rax, %cr3
  cmpq $0x3333, PROBE_WINDOW
  jne failed
  movq $PROBE_PML4, %rax
  movq %rax, %cr3
  decl %ebx
  jnz 5b
  PHASE(PROBE_PHASE_CR3)

  /* To ring 3 and back. */
  movl $PROBE_ROUNDS, %ebx
6:
  movq $ADDRESS(user), %rcx
  movl $0x202, %r11d
  movq %rsp, %r15
  sysretq
user:
  syscall
syscall_entry:
  movq %r15, %rsp
  decl %ebx
  jnz 6b
  PHASE(PROBE_PHASE_SYSCALLS)
  hlt

failed:
  PHASE(PROBE_FAILED)
  hlt

page_fault:
  addq $8, %rsp
  pushq %rax
  movq %cr2, %rax
  cmpq $PROBE_WINDOW, %rax
  jne failed
  movq $PROBE_DATA2 + 3, PROBE_PT_ENTRY
  popq %rax
  iretq

  .balign 16
gdt:
  .quad 0
  .quad 0x00cf9b000000ffff  /* 08: 32-bit code */
  .quad 0x00cf93000000ffff  /* 10: data */
  .quad 0x00af9b000000ffff  /* 18: 64-bit code */
  .quad 0x00cf93000000ffff  /* 20: data, as SYSCALL takes it */
  .quad 0x00cff3000000ffff  /* 28: user data, base selector + 8 of SYSRET (23 + 8) */
  .quad 0x00affb000000ffff  /* 30: user 64-bit code, + 16 */
  .quad 0
  .quad 0x0000890000000067 + (PROBE_TSS << 16) /* 40: task state */
  .quad 0
gdt_end:
gdt_pointer:
  .word gdt_end - gdt - 1
  .quad ADDRESS(gdt)
idt_pointer:
  .word 15 * 16 - 1
  .quad PROBE_IDT
  /* For probe.c: the page-fault handler's address. */
  .balign 8
  .globl vm_kvm_probe_page_fault
  .hidden vm_kvm_probe_page_fault
vm_kvm_probe_page_fault:
  .quad ADDRESS(page_fault)
vm_kvm_probe_guest_end:
  .section .note.GNU-stack, "", @progbits
