; A boot sector that sets every combination of a few absurd VBE sizes and depths by the Bochs registers, with the linear
; framebuffer on, and writes '!' to port 0x402 when it is through.
bits 16
org 0x7c00
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        cld
        mov si, widths
width:  mov bp, heights
height: mov di, depths
depth:  mov ax, 4
        xor bx, bx
        call put                ; off
        mov ax, 1
        mov bx, [si]
        call put
        inc ax
        mov bx, [bp]
        call put
        inc ax
        movzx bx, byte [di]
        call put
        mov ax, 6
        mov bx, [bp]            ; virtual width: the height, for a change
        call put
        mov ax, 8
        mov bx, [si]            ; offsets
        call put
        inc ax
        call put
        mov ax, 4
        mov bx, 0x41
        call put
        mov cx, 0xffff
wait1:  loop wait1
        inc di
        cmp di, depths.end
        jne depth
        add bp, 2
        cmp bp, heights.end
        jne height
        add si, 2
        cmp si, widths.end
        jne width
        mov dx, 0x402
        mov al, '!'
        out dx, al
stop:   hlt
        jmp stop
put:    mov dx, 0x1ce
        out dx, ax
        inc dx
        xchg ax, bx
        out dx, ax
        xchg ax, bx
        ret
widths: dw 0, 1, 7, 640, 1023, 4096, 8191, 0xffff
.end:
heights: dw 0, 1, 480, 2160, 0x7fff, 0xffff
.end:
depths: db 0, 1, 4, 8, 15, 16, 24, 32, 33, 255
.end:
times 510 - ($ - $$) db 0
        dw 0xaa55
