/*
 * The "new machine" dialog. Limits come from the settings table; an error stays in the dialog, beside what was typed, and
 * nothing is made by halves.
 */
#include "ui/new-machine-dialog.h"

#include <fcntl.h>
#include <glib/gi18n.h>
#include <string.h>
#include <unistd.h>

#include "app/library.h"
#include "app/settings.h"

#define MIB                (1 << 20)
#define GIB                (1 << 30)
#define DEFAULT_MEMORY_MIB 1024
#define DEFAULT_DISK_GIB   20
#define MAX_DISK_GIB       16384

#define ISO_MAGIC_OFFSET 0x8001
#define ISO_LABEL_OFFSET 0x8028 /* the volume identifier of ECMA-119's primary volume descriptor */
#define ISO_LABEL_BYTES  32

typedef struct NewMachine {
  GtkWidget *dialog, *grid, *name, *memory, *cpus, *disk, *medium, *error;
  char *suggested_name; /* what stood in `name` before anybody typed there */
  int rows;
} NewMachine;

static void add_row(NewMachine *n, const char *text, GtkWidget *field)
{
  GtkWidget *label = gtk_label_new_with_mnemonic(text);
  gtk_label_set_mnemonic_widget(GTK_LABEL(label), field);
  atk_object_set_name(gtk_widget_get_accessible(field), gtk_label_get_text(GTK_LABEL(label)));
  gtk_widget_set_halign(label, GTK_ALIGN_END);
  gtk_widget_set_hexpand(field, TRUE);
  gtk_grid_attach(GTK_GRID(n->grid), label, 0, n->rows, 1, 1);
  gtk_grid_attach(GTK_GRID(n->grid), field, 1, n->rows++, 1, 1);
}

/* As much memory as the host has is the most that is offered. */
static double host_memory_mib(void)
{
  return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGE_SIZE) / MIB;
}

static GtkWidget *new_spin(double least, double most, double step, double value)
{
  GtkWidget *spin = gtk_spin_button_new_with_range(least, most, step);
  gtk_spin_button_set_value(GTK_SPIN_BUTTON(spin), value);
  gtk_entry_set_activates_default(GTK_ENTRY(spin), TRUE);
  return spin;
}

/* The first of "BASE", "BASE 2", … that is free. */
static char *suggest_name(const char *base)
{
  char *name = g_strdup(base);
  for (unsigned i = 2; oriel_library_exists(name); i++) {
    g_free(name);
    name = g_strdup_printf("%s %u", base, i);
  }
  return name;
}

/* ---- the medium ---------------------------------------------------------------------------------------------------------- */

/* An ISO's label, NULL where there is none that could name a machine. */
static char *dup_iso_label(const char *path)
{
  char text[ISO_LABEL_BYTES + 1] = "", magic[5];
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  bool ok = fd >= 0 && pread(fd, magic, sizeof magic, ISO_MAGIC_OFFSET) == sizeof magic &&
            memcmp(magic, "CD001", sizeof magic) == 0 &&
            pread(fd, text, ISO_LABEL_BYTES, ISO_LABEL_OFFSET) == ISO_LABEL_BYTES;
  if (fd >= 0)
    close(fd);
  g_strstrip(text);
  return ok && oriel_library_check_name(text, NULL) ? g_strdup(text) : NULL;
}

/* The machine is named after its medium, unless somebody has named it. */
static void on_medium_set(GtkFileChooserButton *chooser, gpointer data)
{
  NewMachine *n = data;
  g_autofree char *path = gtk_file_chooser_get_filename(GTK_FILE_CHOOSER(chooser));
  g_autofree char *label = path ? dup_iso_label(path) : NULL;
  if (label == NULL || !g_str_equal(gtk_entry_get_text(GTK_ENTRY(n->name)), n->suggested_name))
    return;
  g_free(n->suggested_name);
  n->suggested_name = suggest_name(label);
  gtk_entry_set_text(GTK_ENTRY(n->name), n->suggested_name);
}

static GtkWidget *new_medium_button(NewMachine *n)
{
  GtkWidget *button = gtk_file_chooser_button_new(_("Choose a Disc Image"), GTK_FILE_CHOOSER_ACTION_OPEN);
  GtkFileFilter *images = gtk_file_filter_new(), *all = gtk_file_filter_new();
  gtk_file_filter_set_name(images, _("Disc images"));
  gtk_file_filter_add_pattern(images, "*.[iI][sS][oO]");
  gtk_file_filter_add_mime_type(images, "application/x-cd-image");
  gtk_file_filter_set_name(all, _("All files"));
  gtk_file_filter_add_pattern(all, "*");
  gtk_file_chooser_add_filter(GTK_FILE_CHOOSER(button), images);
  gtk_file_chooser_add_filter(GTK_FILE_CHOOSER(button), all);
  g_signal_connect(button, "file-set", G_CALLBACK(on_medium_set), n);
  return button;
}

/* ---- the dialog ---------------------------------------------------------------------------------------------------------- */

static void build(NewMachine *n, GtkWindow *parent)
{
  const OrielSetting *memory = oriel_setting_find("memory"), *cpus = oriel_setting_find("cpus");
  n->dialog = gtk_dialog_new_with_buttons(_("New Machine"), parent, GTK_DIALOG_MODAL | GTK_DIALOG_USE_HEADER_BAR,
                                          _("_Cancel"), GTK_RESPONSE_CANCEL, _("C_reate"), GTK_RESPONSE_OK, NULL);
  gtk_dialog_set_default_response(GTK_DIALOG(n->dialog), GTK_RESPONSE_OK);
  n->grid = gtk_grid_new();
  g_object_set(n->grid, "margin", 18, "row-spacing", 10, "column-spacing", 12, NULL);
  n->name = gtk_entry_new();
  n->suggested_name = suggest_name(_("New machine"));
  gtk_entry_set_text(GTK_ENTRY(n->name), n->suggested_name);
  gtk_entry_set_activates_default(GTK_ENTRY(n->name), TRUE);
  n->memory =
      new_spin((double)memory->min / MIB, MIN((double)memory->max / MIB, host_memory_mib()), 128, DEFAULT_MEMORY_MIB);
  n->cpus = new_spin((double)cpus->min, (double)cpus->max, 1, 1);
  n->disk = new_spin(0, MAX_DISK_GIB, 1, DEFAULT_DISK_GIB);
  gtk_widget_set_tooltip_text(n->disk, _("The disk's file takes only as much room as the guest writes; 0: no disk"));
  n->medium = new_medium_button(n);
  n->error = gtk_label_new(NULL);
  gtk_label_set_line_wrap(GTK_LABEL(n->error), TRUE);
  gtk_label_set_max_width_chars(GTK_LABEL(n->error), 50);
  gtk_label_set_xalign(GTK_LABEL(n->error), 0);
  gtk_style_context_add_class(gtk_widget_get_style_context(n->error), "error");
  add_row(n, _("_Name"), n->name);
  add_row(n, _("_Memory (MiB)"), n->memory);
  add_row(n, _("_Processors"), n->cpus);
  add_row(n, _("_Disk (GiB)"), n->disk);
  add_row(n, _("Disc _image (ISO)"), n->medium);
  gtk_grid_attach(GTK_GRID(n->grid), n->error, 0, n->rows, 2, 1);
  gtk_container_add(GTK_CONTAINER(gtk_dialog_get_content_area(GTK_DIALOG(n->dialog))), n->grid);
  gtk_window_set_resizable(GTK_WINDOW(n->dialog), FALSE);
  gtk_widget_show_all(n->grid);
  gtk_widget_hide(n->error);
}

static bool fill_config(const NewMachine *n, OrielConfig *config, GError **error)
{
  g_autofree char *memory = g_strdup_printf("%dM", gtk_spin_button_get_value_as_int(GTK_SPIN_BUTTON(n->memory)));
  g_autofree char *cpus = g_strdup_printf("%d", gtk_spin_button_get_value_as_int(GTK_SPIN_BUTTON(n->cpus)));
  g_autofree char *medium = gtk_file_chooser_get_filename(GTK_FILE_CHOOSER(n->medium));
  bool has_disk = gtk_spin_button_get_value_as_int(GTK_SPIN_BUTTON(n->disk)) > 0;
  if (!oriel_config_set(config, "memory", memory, error) || !oriel_config_set(config, "cpus", cpus, error))
    return false;
  if (medium == NULL)
    return true;
  /* An empty disk cannot be started from, so the firmware goes on to the disc; once a system is installed, it is. */
  return oriel_config_set(config, "cdrom", medium, error) &&
         (has_disk || oriel_config_set(config, "boot", "cdrom", error));
}

static bool create(const NewMachine *n, GError **error)
{
  g_autoptr(OrielConfig) config = oriel_config_new();
  uint64_t disk_bytes = (uint64_t)gtk_spin_button_get_value_as_int(GTK_SPIN_BUTTON(n->disk)) * GIB;
  return fill_config(n, config, error) &&
         oriel_library_create(gtk_entry_get_text(GTK_ENTRY(n->name)), config, disk_bytes, error);
}

char *oriel_new_machine_dialog_run(GtkWindow *parent)
{
  NewMachine n = { 0 };
  char *name = NULL;
  build(&n, parent);
  while (name == NULL && gtk_dialog_run(GTK_DIALOG(n.dialog)) == GTK_RESPONSE_OK) {
    g_autoptr(GError) error = NULL;
    if (create(&n, &error))
      name = g_strdup(gtk_entry_get_text(GTK_ENTRY(n.name)));
    else
      gtk_label_set_text(GTK_LABEL(n.error), error->message);
    gtk_widget_set_visible(n.error, name == NULL);
  }
  gtk_widget_destroy(n.dialog);
  g_free(n.suggested_name);
  return name;
}
