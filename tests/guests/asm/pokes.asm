; A boot sector that writes rubbish to every port and to video registers for ever, by a linear congruential generator,
; but for the ports that reset or switch the machine off. It ticks on port 0x402 now and then.
bits 16
org 0x7c00
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        cli
        mov esi, 12345
next:   imul esi, esi, 1664525
        add esi, 1013904223
        mov edx, esi
        shr edx, 16             ; port
        cmp dx, 0x64            ; keyboard controller: reset line
        je next
        cmp dx, 0x92
        je next
        cmp dx, 0xcf9
        je next
        cmp dx, 0xb2
        je next
        mov eax, esi
        shr eax, 3
        test esi, 0x400
        jz narrow
        out dx, al
        in al, dx
        jmp video
narrow: test esi, 0x800
        jz wide
        out dx, ax
        in ax, dx
        jmp video
wide:   out dx, eax
        in eax, dx
video:  ; the VGA's and VBE's registers get their share
        mov eax, esi
        shr eax, 5
        mov dx, 0x3c0
        mov cl, al
        and cl, 0x1f
        add dl, cl
        mov al, ah
        out dx, al
        mov dx, 0x1ce
        mov eax, esi
        shr eax, 12
        and ax, 0x0f
        out dx, ax
        inc dx
        mov eax, esi
        shr eax, 2
        out dx, ax
        inc word [count]
        test word [count], 0x3fff
        jnz next
        mov dx, 0x402
        mov al, '.'
        out dx, al
        jmp next
count:  dw 0
times 510 - ($ - $$) db 0
        dw 0xaa55
