/*
 * The boot ROM: an option ROM with a bootstrap entry vector (BIOS Boot Specification 1.01, appendix A; Plug and Play BIOS
 * 1.0A). The firmware starts it like a network card's ROM. It fetches the plan that direct-boot.c made (BootPlan in
 * direct-boot-impl.h) by fw_cfg DMA, lets the device copy each item to its place, asks the firmware for the memory map
 * if the plan wants it, and jumps: to a Linux kernel's real-mode setup code, or to 32-bit protected mode.
 *
 * It works in the scratch segment at linear 0x7E00, free once a boot device is being started.
 */
        .set SCRATCH, 0x07e0
        .set SCRATCH_LINEAR, 0x7e00
        /* offsets in the scratch segment */
        .set PLAN, 0x000
        .set KIND, PLAN + 0
        .set ENTRY, PLAN + 4
        .set EAX_VALUE, PLAN + 8
        .set EBX_VALUE, PLAN + 12
        .set E820_GPA, PLAN + 16
        .set E820_PREFIX, PLAN + 20
        .set E820_COUNT_GPA, PLAN + 24
        .set E820_SCALE, PLAN + 28
        .set N_ITEMS, PLAN + 32
        .set ITEMS, PLAN + 36
        .set DMA, 0x200
        .set E820_ENTRY, 0x220
        .set E820_COUNT, 0x240
        .set GDTR, 0x250
        .set FAR_POINTER, 0x258
        .set STACK_TOP, 0x1000

        .set PLAN_KEY, 0x8008
        .set PLAN_BYTES, 36 + 20 * 12
        .set FW_CFG_DMA_LOW, 0x518
        .set SMAP, 0x534d4150

        .code16
        .text
        .globl _start
_start:
        .byte 0x55, 0xaa
        .byte 2                         /* length in 512-byte units */
        jmp init
        .org 0x18
        .word 0                         /* no PCI data structure */
        .word pnp_header

        .org 0x20
pnp_header:
        .ascii "$PnP"
        .byte 1                         /* revision */
        .byte 2                         /* length in 16-byte units */
        .word 0                         /* no next header */
        .byte 0
        .byte 0                         /* checksum: filled in when the ROM is handed out */
        .long 0                         /* device identifier */
        .word 0                         /* manufacturer string */
        .word product
        .byte 0, 0, 0                   /* device type */
        .byte 0x64                      /* ROM initialises the device, may be shadowed, is an IPL device */
        .word 0                         /* boot connection vector */
        .word 0                         /* disconnect vector */
        .word boot                      /* bootstrap entry vector */
        .word 0
        .word 0                         /* static resource vector */

product:
        .asciz "Oriel direct boot"

init:                                   /* AX bits 4-5: an IPL device is attached */
        mov $0x20, %ax
        lret

/* Copies %ecx bytes of item %ax to physical address %ebx. Clobbers %eax, %dx. DS is the scratch segment. */
fetch:
        movzwl %ax, %eax
        shl $16, %eax
        or $0x0a, %eax                  /* select and read */
        bswap %eax
        mov %eax, DMA
        mov %ecx, %eax
        bswap %eax
        mov %eax, DMA + 4
        movl $0, DMA + 8
        mov %ebx, %eax
        bswap %eax
        mov %eax, DMA + 12
        mov $(SCRATCH_LINEAR + DMA), %eax
        bswap %eax
        mov $FW_CFG_DMA_LOW, %dx
        outl %eax, %dx
1:      mov DMA, %eax
        bswap %eax
        test $~1, %eax
        jnz 1b
        test $1, %eax
        jz 2f
        int $0x18                       /* the device refused: no bootable medium here */
2:      ret

/* ES:DI = the address in %eax, below 1 MiB. */
point_at:
        mov %eax, %edi
        and $15, %edi
        shr $4, %eax
        mov %ax, %es
        ret

boot:
        cli
        cld
        mov $SCRATCH, %ax
        mov %ax, %ds
        mov %ax, %ss
        mov $STACK_TOP, %esp
        sti

        mov $PLAN_KEY, %ax
        mov $SCRATCH_LINEAR + PLAN, %ebx
        mov $PLAN_BYTES, %ecx
        call fetch

        mov $ITEMS, %si
        mov N_ITEMS, %bp
next_item:
        test %bp, %bp
        jz items_done
        mov 0(%si), %ax
        mov 4(%si), %ebx
        mov 8(%si), %ecx
        call fetch
        add $12, %si
        dec %bp
        jmp next_item
items_done:

        movl $0, E820_COUNT
        cmpl $0, E820_GPA
        je map_done
        xor %ebx, %ebx
next_range:
        mov %ds, %ax
        mov %ax, %es
        mov $E820_ENTRY, %di
        mov $0xe820, %eax
        mov $SMAP, %edx
        mov $20, %ecx
        int $0x15
        jc map_counted
        cmp $SMAP, %eax
        jne map_counted
        mov E820_GPA, %eax
        call point_at
        mov $E820_ENTRY, %si
        mov $5, %cx
        cmpl $0, E820_PREFIX
        je 1f
        mov $20, %eax
        stosl
        rep movsl
        jmp 2f
1:      rep movsl
        xor %eax, %eax
        stosl
2:      addl $24, E820_GPA
        incl E820_COUNT
        cmpl $128, E820_COUNT
        jae map_counted
        test %ebx, %ebx
        jnz next_range
map_counted:
        mov E820_COUNT_GPA, %eax
        call point_at
        mov E820_COUNT, %eax
        mull E820_SCALE
        stosl
map_done:

        cmpl $0, KIND
        jne protected

        /* Linux/x86 boot protocol, "running the kernel": all segments on the setup code, entry 0x200 bytes in. */
        cli
        mov ENTRY, %eax
        mov EBX_VALUE, %ebx
        shr $4, %eax
        mov %ax, %ds
        mov %ax, %es
        mov %ax, %fs
        mov %ax, %gs
        mov %ax, %ss
        mov %ebx, %esp
        add $0x20, %ax
        push %ax
        push $0
        lret

protected:
        cli
        xor %eax, %eax
        mov %cs, %ax
        shl $4, %eax
        mov %eax, %edx
        add $gdt, %eax
        movw $(gdt_end - gdt - 1), GDTR
        mov %eax, GDTR + 2
        add $protected32, %edx
        mov %edx, FAR_POINTER
        movw $8, FAR_POINTER + 4
        mov ENTRY, %ecx
        mov EAX_VALUE, %esi
        mov EBX_VALUE, %ebx
        lgdtl GDTR
        mov %cr0, %eax
        or $1, %al
        mov %eax, %cr0
        ljmpl *FAR_POINTER

        .code32
protected32:
        mov $0x10, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %fs
        mov %eax, %gs
        mov %eax, %ss
        mov %esi, %eax
        xor %edx, %edx
        xor %esi, %esi
        xor %edi, %edi
        xor %ebp, %ebp
        jmp *%ecx

        .balign 8
gdt:    .quad 0
        .quad 0x00cf9b000000ffff        /* code, base 0, 4 GiB, 32-bit */
        .quad 0x00cf93000000ffff        /* data */
gdt_end:
        .org 1023
        .byte 0                         /* checksum: filled in when the ROM is handed out */
