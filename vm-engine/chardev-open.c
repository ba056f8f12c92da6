/*
 * The kinds of far ends: the terminal Oriel was started from, a pty, a file, a Unix socket, a serial port.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "vm-engine/chardev-private.h"
#include "vm-engine/vm.h"

static bool fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static bool fail(GError **error, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  g_set_error_literal(error, VM_ERROR, VM_ERROR_FAILED, text);
  return false;
}

/* ---- the terminal ----------------------------------------------------------------------------------------------------- */

/*
 * The controlling terminal is the process's, not a machine's, and has to be given back by exit() and by signal handlers,
 * which get no argument: hence the one piece of file-scope state here.
 */
static struct termios saved_terminal;
static _Atomic bool terminal_is_raw;

static void restore_terminal(void)
{
  if (atomic_exchange(&terminal_is_raw, false))
    tcsetattr(STDIN_FILENO, TCSANOW, &saved_terminal);
}

static void restore_and_die(int signal_number)
{
  restore_terminal();
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

/* Only signals that nobody has claimed: the program's own handlers end the machine, which restores too. */
static void guard_signals(void)
{
  static const int deadly[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
  for (unsigned i = 0; i < G_N_ELEMENTS(deadly); i++) {
    struct sigaction old, guard = { .sa_handler = restore_and_die };
    if (sigaction(deadly[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
      sigaction(deadly[i], &guard, NULL);
  }
}

/* Every key goes to the guest, Ctrl-C too. A background process leaves the terminal alone. */
static void make_raw(VmChardev *chardev)
{
  if (tcgetpgrp(STDIN_FILENO) != getpgrp() || atomic_load(&terminal_is_raw))
    return;
  struct termios now;
  if (tcgetattr(STDIN_FILENO, &now) != 0)
    return;
  saved_terminal = now;
  cfmakeraw(&now);
  now.c_oflag |= OPOST; /* guests that write bare newlines, and our own messages, stay readable */
  if (tcsetattr(STDIN_FILENO, TCSANOW, &now) != 0)
    return;
  atomic_store(&terminal_is_raw, true);
  chardev->raw_terminal = true;
  atexit(restore_terminal);
  guard_signals();
}

static bool open_stdio(VmChardev *chardev)
{
  chardev->in_fd = STDIN_FILENO;
  chardev->out_fd = STDOUT_FILENO;
  if (isatty(STDIN_FILENO))
    make_raw(chardev);
  return true;
}

/* ---- pty ------------------------------------------------------------------------------------------------------------------ */

static gboolean retry_pty(void *opaque)
{
  VmChardev *chardev = opaque;
  struct pollfd p = { .fd = chardev->in_fd, .events = POLLIN };
  if (poll(&p, 1, 0) >= 0 && (p.revents & POLLHUP))
    return G_SOURCE_CONTINUE;
  g_clear_pointer(&chardev->pty_retry, g_source_unref);
  chardev->out_fd = chardev->in_fd;
  vm_chardev_update_watch(chardev);
  return G_SOURCE_REMOVE;
}

/* A pty that nobody has open reads as hung up all the time; so look once in a while instead of watching it. Until then
 * what the guest writes is dropped: out_fd is -1. */
static void wait_for_pty_user(VmChardev *chardev)
{
  chardev->out_fd = -1;
  if (chardev->pty_retry != NULL)
    return;
  chardev->pty_retry = g_timeout_source_new(500);
  g_source_set_callback(chardev->pty_retry, retry_pty, chardev, NULL);
  g_source_attach(chardev->pty_retry, vm_io_context_get_main_context(chardev->ctx));
}

static bool open_pty(VmChardev *chardev, GError **error)
{
  int master, slave;
  char name[128];
  struct termios raw = { 0 };
  cfmakeraw(&raw);
  raw.c_cflag |= CREAD | CS8;
  if (openpty(&master, &slave, NULL, &raw, NULL) != 0)
    return fail(error, "cannot make a pty: %s", g_strerror(errno));
  if (ttyname_r(slave, name, sizeof(name)) == 0)
    chardev->path = g_strdup(name);
  close(slave);
  fcntl(master, F_SETFD, FD_CLOEXEC);
  fcntl(master, F_SETFL, O_NONBLOCK);
  chardev->in_fd = master;
  wait_for_pty_user(chardev);
  return true;
}

/* ---- file, serial port ------------------------------------------------------------------------------------------------------ */

static bool open_file(VmChardev *chardev, const char *path, GError **error)
{
  chardev->out_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  return chardev->out_fd >= 0 || fail(error, "cannot write the serial output to %s: %s", path, g_strerror(errno));
}

static bool open_host(VmChardev *chardev, const char *path, GError **error)
{
  int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0)
    return fail(error, "cannot open the serial port %s: %s%s", path, g_strerror(errno),
                errno == EACCES ? " (adding yourself to the group \"dialout\" may help)" : "");
  chardev->in_fd = chardev->out_fd = fd;
  struct termios raw;
  if (tcgetattr(fd, &raw) != 0)
    return fail(error, "%s is not a serial port", path);
  cfmakeraw(&raw);
  raw.c_cflag |= CREAD | CLOCAL;
  cfsetspeed(&raw, B115200);
  tcsetattr(fd, TCSANOW, &raw);
  return true;
}

/* ---- Unix socket ---------------------------------------------------------------------------------------------------------------- */

static void client_ready(int fd, GIOCondition condition, void *opaque)
{
  VmChardev *chardev = opaque;
  int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (client < 0)
    return;
  if (chardev->in_fd >= 0) { /* one at a time */
    close(client);
    return;
  }
  chardev->in_fd = chardev->out_fd = client;
  vm_chardev_update_watch(chardev);
}

/* Is somebody listening at the address? A socket's file outlives a process that was killed. */
static bool is_alive(const struct sockaddr_un *address)
{
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool alive = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;
  if (fd >= 0)
    close(fd);
  return alive;
}

static bool remove_stale(const struct sockaddr_un *address)
{
  struct stat st;
  return stat(address->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) && !is_alive(address) &&
         unlink(address->sun_path) == 0;
}

static bool open_unix(VmChardev *chardev, const char *path, GError **error)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  if (strlen(path) >= sizeof(address.sun_path))
    return fail(error, "the socket's path %s is too long: at most %zu bytes", path, sizeof(address.sun_path) - 1);
  memcpy(address.sun_path, path, strlen(path));
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return fail(error, "cannot make a socket at %s: %s", path, g_strerror(errno));
  chardev->listen_fd = fd;
  int bound = bind(fd, (struct sockaddr *)&address, sizeof(address));
  if (bound != 0 && errno == EADDRINUSE && remove_stale(&address))
    bound = bind(fd, (struct sockaddr *)&address, sizeof(address));
  if (bound != 0 || listen(fd, 1) != 0)
    return fail(error, "cannot listen at %s: %s", path, g_strerror(errno));
  chardev->path = g_strdup(path);
  chardev->listen_watch = vm_io_context_watch_fd(chardev->ctx, fd, G_IO_IN, client_ready, chardev);
  return true;
}

/* ---- all kinds ------------------------------------------------------------------------------------------------------------------- */

static const struct {
  const char *name; /* with its colon, if a path follows */
  VmChardevKind kind;
} kinds[] = {
  { "none", VM_CHARDEV_NONE },  { "window", VM_CHARDEV_WINDOW }, { "stdio", VM_CHARDEV_STDIO },
  { "pty", VM_CHARDEV_PTY },    { "file:", VM_CHARDEV_FILE },    { "unix:", VM_CHARDEV_UNIX },
  { "host:", VM_CHARDEV_HOST },
};

/* The kind that `spec` names, and the path after it ("" where the kind takes none). */
static bool parse(const char *spec, VmChardevKind *kind, const char **path)
{
  for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
    size_t n = strlen(kinds[i].name);
    bool takes_path = kinds[i].name[n - 1] == ':';
    if (takes_path ? !g_str_has_prefix(spec, kinds[i].name) || spec[n] == '\0' : strcmp(spec, kinds[i].name) != 0)
      continue;
    *kind = kinds[i].kind;
    *path = spec + n;
    return true;
  }
  return false;
}

bool vm_chardev_open(VmChardev *chardev, const char *spec, GError **error)
{
  const char *path;
  if (!parse(spec, &chardev->kind, &path))
    return fail(error,
                "\"%s\" is no serial line; it can be stdio, window, pty, none, file:PATH, unix:PATH or host:/dev/…",
                spec);
  switch (chardev->kind) {
  case VM_CHARDEV_STDIO:
    return open_stdio(chardev);
  case VM_CHARDEV_PTY:
    return open_pty(chardev, error);
  case VM_CHARDEV_FILE:
    return open_file(chardev, path, error);
  case VM_CHARDEV_UNIX:
    return open_unix(chardev, path, error);
  case VM_CHARDEV_HOST:
    return open_host(chardev, path, error);
  case VM_CHARDEV_NONE:
  case VM_CHARDEV_WINDOW:
    break;
  }
  return true;
}

static void close_streams(VmChardev *chardev)
{
  if (chardev->in_fd > STDERR_FILENO)
    close(chardev->in_fd);
  if (chardev->out_fd > STDERR_FILENO && chardev->out_fd != chardev->in_fd)
    close(chardev->out_fd);
  chardev->in_fd = chardev->out_fd = -1;
}

void vm_chardev_lost(VmChardev *chardev, bool writing)
{
  switch (chardev->kind) {
  case VM_CHARDEV_STDIO: /* the end of input, or a closed pipe: the other direction may live */
    if (!writing) {
      g_clear_pointer(&chardev->in_watch, vm_io_watch_remove);
      chardev->in_fd = -1;
      return;
    }
    chardev->out_fd = -1;
    break;
  case VM_CHARDEV_PTY:
    wait_for_pty_user(chardev);
    break;
  default:
    close_streams(chardev);
    break;
  }
  if (chardev->kind != VM_CHARDEV_STDIO)
    g_clear_pointer(&chardev->in_watch, vm_io_watch_remove);
  g_clear_pointer(&chardev->out_watch, vm_io_watch_remove);
  g_byte_array_set_size(chardev->out, 0);
  bool was_short = chardev->was_short;
  chardev->was_short = false;
  if (was_short && chardev->handler != NULL && chardev->handler->writable != NULL)
    chardev->handler->writable(chardev->handler_opaque); /* now everything is taken, into the void */
}

void vm_chardev_close(VmChardev *chardev)
{
  if (chardev->raw_terminal)
    restore_terminal();
  close_streams(chardev);
  if (chardev->listen_fd >= 0) {
    close(chardev->listen_fd);
    if (chardev->path != NULL)
      unlink(chardev->path);
  }
}
