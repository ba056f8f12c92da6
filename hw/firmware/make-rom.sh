#!/bin/sh
# make-rom.sh CC SOURCE.S OUTPUT.h NAME: assembles 16-bit code to a flat image and writes it as a C array.
set -e
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
$1 -m32 -c -o "$work/rom.o" "$2"
ld -m elf_i386 -Ttext=0 --oformat=binary -e _start -o "$work/rom.bin" "$work/rom.o"
{
  echo "/* Made from $(basename "$2"). */"
  echo "static const unsigned char $4[] = {"
  od -An -v -tx1 "$work/rom.bin" | sed 's/ \([0-9a-f][0-9a-f]\)/ 0x\1,/g'
  echo "};"
} >"$3"
