; A boot sector that triple-faults: protected mode with an empty IDT.
bits 16
org 0x7c00
        cli
        xor ax, ax
        mov ds, ax
        lidt [none]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        int3
none:   dw 0
        dd 0
times 510 - ($ - $$) db 0
        dw 0xaa55
