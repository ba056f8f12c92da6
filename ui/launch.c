/* See launch.h. */
#include "ui/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOG_TAIL_BYTES 4096

typedef struct Launch {
  GApplication *app;
  OrielLaunchFailed failed;
  GObject *data;
  char *what, *log_path;
} Launch;

static void free_launch(Launch *l)
{
  g_object_unref(l->app);
  g_clear_object(&l->data);
  g_free(l->what);
  g_free(l->log_path);
  g_free(l);
}

static char *dup_log_path(const char *what)
{
  g_autofree char *base = g_path_get_basename(what);
  g_autofree char *file = g_strconcat(base, ".log", NULL);
  g_autofree char *folder = g_build_filename(g_get_user_state_dir(), "oriel", NULL);
  g_mkdir_with_parents(folder, 0700);
  return g_build_filename(folder, file, NULL);
}

/* The last line that says something, without the program's name before it; NULL where there is none. */
static char *dup_last_line(const char *path)
{
  char text[LOG_TAIL_BYTES + 1];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return NULL;
  off_t size = lseek(fd, 0, SEEK_END);
  ssize_t got = pread(fd, text, LOG_TAIL_BYTES, MAX(size - LOG_TAIL_BYTES, 0));
  close(fd);
  text[MAX(got, 0)] = '\0';
  g_strchomp(text);
  const char *line = strrchr(text, '\n') ? strrchr(text, '\n') + 1 : text;
  if (g_str_has_prefix(line, "oriel: "))
    line += strlen("oriel: ");
  return *line != '\0' ? g_utf8_make_valid(line, -1) : NULL;
}

static void tell_end(const Launch *l, int wait_status)
{
  g_autofree char *said = dup_last_line(l->log_path);
  g_autofree char *text = NULL;
  if (WIFSIGNALED(wait_status)) {
    text = g_strdup_printf(_("“%s” was ended by signal %d; its disks are as it left them"), l->what,
                           WTERMSIG(wait_status));
  } else {
    /* 1: could not start, 2: something in its settings; other numbers are the guest's own. */
    int status = WEXITSTATUS(wait_status);
    if (status != 1 && status != 2)
      return;
    text = said ? g_strdup(said) : g_strdup_printf(_("“%s” could not be started (status %d)"), l->what, status);
  }
  l->failed(text, l->data);
}

static void on_ended(GPid pid, int wait_status, gpointer data)
{
  Launch *l = data;
  if (wait_status != 0)
    tell_end(l, wait_status);
  g_spawn_close_pid(pid);
  g_application_release(l->app);
  free_launch(l);
}

static bool spawn(const char *what, const char *log_path, GPid *pid, GError **error)
{
  g_autofree char *program = g_file_read_link("/proc/self/exe", error);
  const char *argv[] = { program, "run", what, NULL };
  if (program == NULL)
    return false;
  int log = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (log < 0) {
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "%s: %s", log_path, g_strerror(errno));
    return false;
  }
  bool ok = g_spawn_async_with_fds(NULL, (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, pid, -1, log, log,
                                   error);
  close(log);
  return ok;
}

void oriel_launch(GApplication *app, const char *what, OrielLaunchFailed failed, GObject *data)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *log_path = dup_log_path(what);
  GPid pid;
  if (!spawn(what, log_path, &pid, &error)) {
    failed(error->message, data);
    return;
  }
  Launch *l = g_new(Launch, 1);
  *l = (Launch){ g_object_ref(app), failed, data ? g_object_ref(data) : NULL, g_strdup(what),
                 g_steal_pointer(&log_path) };
  g_application_hold(app);
  g_child_watch_add(pid, on_ended, l);
}
