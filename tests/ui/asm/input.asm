; A boot sector that tells on COM1 what the keyboard controller hands it: "kXX " for each byte of the keyboard (scan code set 1)
; and "mXX " for each of the mouse. It polls, with interrupts off. "ready" comes first.
bits 16
org 0x7c00
        cli
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov al, 0xa8            ; mouse port on
        call command
        mov al, 0x60            ; command byte: translation, no interrupts
        call command
        mov al, 0x40
        call data
        mov al, 0xd4            ; to the mouse: report movement
        call command
        mov al, 0xf4
        call data
        mov cx, 2000            ; its answers
drain:  in al, 0x64
        test al, 1
        jz idle
        in al, 0x60
idle:   loop drain
        mov si, ready
tell:   lodsb
        test al, al
        jz next
        call put
        jmp tell
next:   in al, 0x64
        test al, 1
        jz next
        mov ah, al
        in al, 0x60
        mov bl, al
        mov al, 'k'
        test ah, 0x20
        jz whose
        mov al, 'm'
whose:  call put
        mov al, bl
        shr al, 4
        call digit
        mov al, bl
        and al, 15
        call digit
        mov al, ' '
        call put
        jmp next
digit:  cmp al, 10
        jb low
        add al, 'a' - 10 - '0'
low:    add al, '0'
put:    push ax
        mov dx, 0x3fd
full:   in al, dx
        test al, 0x20
        jz full
        pop ax
        mov dx, 0x3f8
        out dx, al
        ret
command:
        push ax
        call room
        pop ax
        out 0x64, al
        ret
data:   push ax
        call room
        pop ax
        out 0x60, al
        ret
room:   in al, 0x64
        test al, 2
        jnz room
        ret
ready:  db "ready ", 0
times 510 - ($ - $$) db 0
        dw 0xaa55
