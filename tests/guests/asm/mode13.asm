; A boot sector: mode 13h, each pixel's colour is (x ^ y) & 255, then the first palette entries set to known colours.
bits 16
org 0x7c00
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov ax, 0x0013
        int 0x10
        mov ax, 0xa000
        mov es, ax
        xor di, di
        xor dx, dx              ; y
row:    xor cx, cx              ; x
column: mov al, cl
        xor al, dl
        stosb
        inc cx
        cmp cx, 320
        jne column
        inc dx
        cmp dx, 200
        jne row
        ; palette entry 1: red 63, green 32, blue 0
        mov dx, 0x3c8
        mov al, 1
        out dx, al
        inc dx
        mov al, 63
        out dx, al
        mov al, 32
        out dx, al
        mov al, 0
        out dx, al
        mov dx, 0x402
        mov al, '!'
        out dx, al
stop:   hlt
        jmp stop
times 510 - ($ - $$) db 0
        dw 0xaa55
