; A boot sector that greets on COM1 and then sends back every letter as a capital.
bits 16
org 0x7c00
        cli
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov si, hello
tell:   lodsb
        test al, al
        jz next
        call put
        jmp tell
next:   mov dx, 0x3fd
        in al, dx
        test al, 1
        jz next
        mov dx, 0x3f8
        in al, dx
        cmp al, 'a'
        jb other
        cmp al, 'z'
        ja other
        sub al, 32
other:  call put
        jmp next
put:    push ax
        mov dx, 0x3fd
full:   in al, dx
        test al, 0x20
        jz full
        pop ax
        mov dx, 0x3f8
        out dx, al
        ret
hello:  db "Hello from COM1", 13, 10, 0
times 510 - ($ - $$) db 0
        dw 0xaa55
