# What Oriel is built with, runs on and is tested by: Debian 12's package names. Sourced by ./run and ./tests/run.

build_packages=(gcc libc6-dev binutils meson ninja-build pkg-config gettext desktop-file-utils
  libglib2.0-dev libglib2.0-dev-bin libgtk-3-dev libepoxy-dev libvte-2.91-dev libjson-glib-dev libpng-dev zlib1g-dev libzstd-dev)
run_packages=(seabios libgl1-mesa-dri adwaita-icon-theme)
demo_packages=(cpio gzip)
test_packages=(python3 python3-gi gir1.2-atspi-2.0 at-spi2-core dbus dbus-x11 xvfb xauth xdotool imagemagick x11-utils
  qemu-system-x86 qemu-utils libzydis-dev libasan8 libubsan1 grub-pc-bin grub-common xorriso mtools nasm acpica-tools
  cpio gzip xz-utils kmod file appstream mmdebstrap syslinux syslinux-common e2fsprogs fdisk
  dosfstools fakeroot uidmap)

# as_root COMMAND…: by sudo unless we are root already.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# missing_packages NAME…: those that are not installed.
missing_packages() {
  local name
  for name in "$@"; do
    case "$(dpkg-query -W -f '${Status}' "$name" 2>/dev/null)" in
      "install ok installed") ;;
      *) echo "$name" ;;
    esac
  done
}

# install_packages NAME…: installs what is missing, saying so.
install_packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "Installing: ${missing[*]}" >&2
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    echo "These Debian packages are missing; install them as root: apt-get install ${missing[*]}" >&2
    return 1
  fi
  as_root apt-get -qq update >&2 &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >&2
}
