; A firmware of 64 KB that triple-faults at its first instructions: an empty IDT, then an exception.
bits 16
org 0
times 0xff00 - ($ - $$) db 0xff
start:  o32 lidt [cs:none]
        int3
none:   dw 0
        dd 0
times 0xfff0 - ($ - $$) db 0xff
        jmp 0xf000:start
times 0x10000 - ($ - $$) db 0xff
