/*
 * The serial terminal. Output comes in the machine's I/O context; it is gathered under a lock and shown by GTK's thread, in
 * one piece for as many bytes as have come.
 */
#include "ui/serial-page.h"

#include <vte/vte.h>

#include "vm-engine/chardev.h"

#define SCROLLBACK_LINES  10000
#define MAX_PENDING_BYTES (1u << 20) /* of a guest that writes faster than the terminal shows: the newest stay */

/* Shared by the widget and the back end's callback; counted, since a pending idle may outlive the widget. */
typedef struct Page {
  gatomicrefcount refs;
  GMutex lock; /* guards the next three */
  GByteArray *pending;
  bool idle_set;
  VteTerminal *terminal; /* NULL once the widget is gone */
  VmChardev *chardev;
} Page;

static void unref_page(gpointer data)
{
  Page *page = data;
  if (!g_atomic_ref_count_dec(&page->refs))
    return;
  g_byte_array_unref(page->pending);
  g_mutex_clear(&page->lock);
  g_free(page);
}

static gboolean show_pending(gpointer data)
{
  Page *page = data;
  g_mutex_lock(&page->lock);
  GByteArray *bytes = page->pending;
  page->pending = g_byte_array_new();
  page->idle_set = false;
  VteTerminal *terminal = page->terminal;
  g_mutex_unlock(&page->lock);
  if (terminal != NULL)
    vte_terminal_feed(terminal, (const char *)bytes->data, bytes->len);
  g_byte_array_unref(bytes);
  return G_SOURCE_REMOVE;
}

/* In the I/O context. */
static void on_output(const uint8_t *bytes, size_t size, void *opaque)
{
  Page *page = opaque;
  g_mutex_lock(&page->lock);
  g_byte_array_append(page->pending, bytes, (guint)size);
  if (page->pending->len > MAX_PENDING_BYTES)
    g_byte_array_remove_range(page->pending, 0, page->pending->len - MAX_PENDING_BYTES / 2);
  bool first = !page->idle_set;
  page->idle_set = true;
  g_mutex_unlock(&page->lock);
  if (!first)
    return;
  g_atomic_ref_count_inc(&page->refs);
  g_idle_add_full(G_PRIORITY_DEFAULT, show_pending, page, unref_page);
}

static void on_commit(VteTerminal *terminal, const char *text, guint size, gpointer data)
{
  Page *page = data;
  vm_chardev_feed(page->chardev, (const uint8_t *)text, size);
}

static gboolean on_key(GtkWidget *terminal, GdkEventKey *event, gpointer unused)
{
  GdkModifierType both = GDK_CONTROL_MASK | GDK_SHIFT_MASK;
  guint key = gdk_keyval_to_lower(event->keyval);
  if ((event->state & gtk_accelerator_get_default_mod_mask()) != both || (key != GDK_KEY_c && key != GDK_KEY_v))
    return FALSE;
  if (key == GDK_KEY_c)
    vte_terminal_copy_clipboard_format(VTE_TERMINAL(terminal), VTE_FORMAT_TEXT);
  else
    vte_terminal_paste_clipboard(VTE_TERMINAL(terminal));
  return TRUE;
}

static void on_destroy(GtkWidget *widget, gpointer data)
{
  Page *page = data;
  vm_chardev_set_output(page->chardev, NULL, NULL);
  g_mutex_lock(&page->lock);
  page->terminal = NULL;
  g_mutex_unlock(&page->lock);
  unref_page(page);
}

GtkWidget *oriel_serial_page_new(VmChardev *chardev, const char *name)
{
  GtkWidget *terminal = vte_terminal_new();
  Page *page = g_new0(Page, 1);
  g_atomic_ref_count_init(&page->refs);
  g_mutex_init(&page->lock);
  page->pending = g_byte_array_new();
  page->terminal = VTE_TERMINAL(terminal);
  page->chardev = chardev;
  vte_terminal_set_scrollback_lines(VTE_TERMINAL(terminal), SCROLLBACK_LINES);
  atk_object_set_name(gtk_widget_get_accessible(terminal), name);
  g_signal_connect(terminal, "commit", G_CALLBACK(on_commit), page);
  g_signal_connect(terminal, "destroy", G_CALLBACK(on_destroy), page);
  g_signal_connect(terminal, "key-press-event", G_CALLBACK(on_key), NULL);
  vm_chardev_set_output(chardev, on_output, page);
  GtkWidget *scroller = gtk_scrolled_window_new(NULL, NULL);
  gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(scroller), GTK_POLICY_NEVER, GTK_POLICY_ALWAYS);
  gtk_container_add(GTK_CONTAINER(scroller), terminal);
  return scroller;
}

GtkWidget *oriel_serial_page_get_terminal(GtkWidget *page)
{
  return gtk_bin_get_child(GTK_BIN(page));
}
