; A boot sector: mode 12h (640x480, 16 colours), sixteen vertical bars of 40 pixels by set/reset and write mode 0.
bits 16
org 0x7c00
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov ax, 0x0012
        int 0x10
        mov ax, 0xa000
        mov es, ax
        mov dx, 0x3ce
        mov ax, 0x0f01          ; enable set/reset on all planes
        out dx, ax
        xor bx, bx              ; colour
bar:    mov ah, bl
        xor al, al              ; set/reset = colour
        mov dx, 0x3ce
        out dx, ax
        mov di, bx
        imul di, di, 5          ; five bytes are forty pixels
        mov cx, 480
line:   mov al, 0xff
        mov dx, cx
        mov cx, 5
        rep stosb
        mov cx, dx
        add di, 75
        loop line
        inc bx
        cmp bx, 16
        jne bar
        mov dx, 0x402
        mov al, '!'
        out dx, al
stop:   hlt
        jmp stop
times 510 - ($ - $$) db 0
        dw 0xaa55
