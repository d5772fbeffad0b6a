; The lab's guest: a 512-byte boot sector that beats.   nasm -f bin hb.asm -o hb.bin
; On COM1: "BOOT <gen> <last beat of the run before>" once, "HB <gen> 1" at once after it, then "HB <gen> <beat>" at each tick of the RTC
; (1 Hz; the PIT is masked, so QEMU wakes once a second), hlt in between. So beat 2 follows beat 1 within 0 to 1 s.
; Sector 1 of the disk holds {gen, beat} and is written before the beat is said: a restart elsewhere shows gen+1 and at least the last beat
; that was said. Two copies that run at a time show up as a beat that goes backwards or a generation that boots twice.
; No ACPI: an ordered shutdown is ignored, destroy it.
bits 16
org 0x7c00
BUF equ 0x8000
start:
  cli
  xor ax,ax
  mov ds,ax
  mov es,ax
  mov ss,ax
  mov sp,0x7c00
  mov [drv],dl
  cld
  mov dx,0x3fb
  mov al,0x80
  out dx,al
  mov dx,0x3f8
  mov al,1
  out dx,al
  inc dx
  xor al,al
  out dx,al
  mov dx,0x3fb
  mov al,3
  out dx,al
  mov al,0xfb            ; only the cascade and IRQ8 (RTC) stay enabled
  out 0x21,al
  mov al,0xfe
  out 0xa1,al
  mov word [0x70*4],isr
  mov word [0x70*4+2],0
  mov al,0x8b
  out 0x70,al
  in al,0x71
  or al,0x10             ; UIE
  push ax
  mov al,0x8b
  out 0x70,al
  pop ax
  out 0x71,al
  mov al,0x0c
  out 0x70,al
  in al,0x71
  sti
  mov ah,0x42
  call disk
  jc derr
  inc dword [BUF]
  push dword [BUF+4]     ; the last beat of the run before
  mov dword [BUF+4],1
  call save              ; disk before speech: what was said is never forgotten, and no generation boots twice
  mov si,msg_boot
  call puts
  mov eax,[BUF]
  call hex
  pop eax
  call hex
  call nl
  mov byte [tick],0
.loop:
  mov si,msg_hb
  call puts
  mov eax,[BUF]
  call hex
  mov eax,[BUF+4]
  call hex
  call nl
.w: hlt
  cmp byte [tick],0
  je .w
  dec byte [tick]
  inc dword [BUF+4]
  call save
  jmp .loop
save:
  mov ax,0x4300
  call disk
  jc derr
  ret
derr:
  mov si,msg_err
  call puts
.h: hlt
  jmp .h
isr:
  push ax
  mov al,0x0c
  out 0x70,al
  in al,0x71
  inc byte [cs:tick]
  mov al,0x20
  out 0xa0,al
  out 0x20,al
  pop ax
  iret
disk:                     ; ah=42 read / 43 write, 1 sector, LBA 1
  mov si,dap
  mov dl,[drv]
  int 0x13
  ret
hex:                      ; print eax as 8 digits + space
  mov di,8
.h: rol eax,4
  push eax
  and al,15
  cmp al,10
  sbb al,0x69
  das
  call putc
  pop eax
  dec di
  jnz .h
  mov al,' '
putc:
  push dx
  push ax
  mov dx,0x3fd
.w: in al,dx
  test al,0x20
  jz .w
  pop ax
  mov dx,0x3f8
  out dx,al
  pop dx
  ret
nl: mov si,msg_nl
puts:
  lodsb
  test al,al
  jz .r
  call putc
  jmp puts
.r: ret
drv: db 0
tick: db 0
dap: db 16,0
  dw 1,BUF,0
  dq 1
msg_boot: db "BOOT ",0
msg_hb: db "HB ",0
msg_err: db "DISKERR"
msg_nl: db 13,10,0
times 510-($-$$) db 0
dw 0xaa55
