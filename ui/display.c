/*
 * The display widget: pulls the newest frame and draws it. See display.h.
 *
 * A timer asks the card for a picture while the widget is visible; it slows down while nothing changes, so that an idle
 * guest costs next to nothing. The frame is borrowed from the engine's triple buffer until the next one is taken.
 */
#include "ui/display-impl.h"

#include <glib/gi18n.h>

#include "vm-engine/input.h"
#include "vm-engine/vm.h"

#define FRAME_MS         20
#define IDLE_FRAME_MS    60
#define TICKS_UNTIL_IDLE 50
#define MIN_SIZE         160

G_DEFINE_TYPE(OrielDisplay, oriel_display, GTK_TYPE_EVENT_BOX)

enum { SIGNAL_GRAB_CHANGED, SIGNAL_PICTURE_RESIZED, N_SIGNALS };
static guint signals[N_SIGNALS];

/* ---- where the picture goes ------------------------------------------------------------------------------------------- */

OrielPlace oriel_display_get_place(const OrielDisplay *d)
{
  int scale = gtk_widget_get_scale_factor(d->canvas);
  double width = gtk_widget_get_allocated_width(d->canvas) * scale;
  double height = gtk_widget_get_allocated_height(d->canvas) * scale;
  if (d->frame.pixels == NULL)
    return (OrielPlace){ 0, 0, width, height };
  double factor = MIN(width / d->frame.width, height / d->frame.height);
  if (d->scaling == ORIEL_SCALE_ONE)
    factor = 1;
  else if (d->scaling == ORIEL_SCALE_INTEGER && factor >= 1)
    factor = (int)factor;
  double w = d->frame.width * factor, h = d->frame.height * factor;
  return (OrielPlace){ (int)((width - w) / 2), (int)((height - h) / 2), w, h };
}

static bool is_smooth(const OrielDisplay *d, const OrielPlace *place)
{
  double factor = place->width / d->frame.width;
  return factor != (int)factor;
}

/* ---- drawing ------------------------------------------------------------------------------------------------------------ */

static gboolean on_draw(GtkWidget *canvas, cairo_t *cr, gpointer data)
{
  OrielDisplay *d = data;
  int scale = gtk_widget_get_scale_factor(canvas);
  cairo_set_source_rgb(cr, 0, 0, 0);
  cairo_paint(cr);
  if (d->frame.pixels == NULL)
    return TRUE;
  OrielPlace place = oriel_display_get_place(d);
  cairo_surface_t *surface =
      cairo_image_surface_create_for_data((unsigned char *)d->frame.pixels, CAIRO_FORMAT_RGB24, (int)d->frame.width,
                                          (int)d->frame.height, (int)d->frame.stride * 4);
  cairo_scale(cr, 1.0 / scale, 1.0 / scale);
  cairo_translate(cr, place.x, place.y);
  cairo_scale(cr, place.width / d->frame.width, place.height / d->frame.height);
  cairo_set_source_surface(cr, surface, 0, 0);
  cairo_pattern_set_filter(cairo_get_source(cr), is_smooth(d, &place) ? CAIRO_FILTER_BILINEAR : CAIRO_FILTER_NEAREST);
  cairo_paint(cr);
  cairo_surface_destroy(surface);
  return TRUE;
}

static gboolean on_render(GtkGLArea *area, GdkGLContext *context, gpointer data)
{
  OrielDisplay *d = data;
  OrielPlace place = oriel_display_get_place(d);
  int scale = gtk_widget_get_scale_factor(d->canvas);
  oriel_gl_picture_draw(d->gl, &place, gtk_widget_get_allocated_width(d->canvas) * scale,
                        gtk_widget_get_allocated_height(d->canvas) * scale, d->frame.pixels && is_smooth(d, &place));
  return TRUE;
}

static void on_gl_realize(GtkWidget *area, gpointer data);

static void use_canvas(OrielDisplay *d, GtkWidget *canvas)
{
  d->canvas = canvas;
  gtk_widget_set_size_request(canvas, MIN_SIZE, MIN_SIZE);
  gtk_widget_set_hexpand(canvas, TRUE);
  gtk_widget_set_vexpand(canvas, TRUE);
  gtk_container_add(GTK_CONTAINER(d), canvas);
  gtk_widget_show(canvas);
}

static void use_cairo(OrielDisplay *d)
{
  GtkWidget *canvas = gtk_drawing_area_new();
  g_signal_connect(canvas, "draw", G_CALLBACK(on_draw), d);
  use_canvas(d, canvas);
}

static gboolean fall_back_to_cairo(gpointer data)
{
  OrielDisplay *d = data;
  gtk_widget_destroy(d->canvas);
  use_cairo(d);
  g_object_unref(d);
  return G_SOURCE_REMOVE;
}

static void on_gl_realize(GtkWidget *area, gpointer data)
{
  OrielDisplay *d = data;
  gtk_gl_area_make_current(GTK_GL_AREA(area));
  if (gtk_gl_area_get_error(GTK_GL_AREA(area)) == NULL)
    d->gl = oriel_gl_picture_new();
  if (d->gl == NULL)
    g_idle_add(fall_back_to_cairo, g_object_ref(d)); /* the widget cannot go in the middle of its own realize */
  else if (d->frame.pixels)
    oriel_gl_picture_upload(d->gl, &d->frame, &(VmRect){ 0 });
}

static void on_gl_unrealize(GtkWidget *area, gpointer data)
{
  OrielDisplay *d = data;
  gtk_gl_area_make_current(GTK_GL_AREA(area));
  g_clear_pointer(&d->gl, oriel_gl_picture_free);
}

static void use_gl(OrielDisplay *d)
{
  GtkWidget *canvas = gtk_gl_area_new();
  gtk_gl_area_set_auto_render(GTK_GL_AREA(canvas), FALSE);
  g_signal_connect(canvas, "realize", G_CALLBACK(on_gl_realize), d);
  g_signal_connect(canvas, "unrealize", G_CALLBACK(on_gl_unrealize), d);
  g_signal_connect(canvas, "render", G_CALLBACK(on_render), d);
  g_signal_connect_swapped(canvas, "resize", G_CALLBACK(gtk_gl_area_queue_render), canvas);
  use_canvas(d, canvas);
}

/* GL pays only where a graphics processor draws it; in software cairo is quicker and much smaller. */
bool oriel_display_wants_gl(void)
{
  const char *chosen = g_getenv("ORIEL_RENDERER");
  if (chosen != NULL)
    return g_str_equal(chosen, "gl");
  return g_file_test("/dev/dri/renderD128", G_FILE_TEST_EXISTS);
}

/* ---- frames ---------------------------------------------------------------------------------------------------------------- */

/* Has the part of the canvas drawn anew that shows `changed`; a pixel more on each side, for what smoothing mixes in. */
static void queue_draw_changed(OrielDisplay *d, const VmRect *changed)
{
  OrielPlace place = oriel_display_get_place(d);
  int scale = gtk_widget_get_scale_factor(d->canvas);
  double fx = place.width / d->frame.width / scale, fy = place.height / d->frame.height / scale;
  int left = (int)(place.x / scale + (changed->x - 1) * fx) - 1,
      top = (int)(place.y / scale + (changed->y - 1) * fy) - 1;
  gtk_widget_queue_draw_area(d->canvas, left, top, (int)((changed->width + 2) * fx) + 3,
                             (int)((changed->height + 2) * fy) + 3);
}

static void show_frame(OrielDisplay *d, const VmFrame *frame)
{
  bool resized = d->frame.width != frame->width || d->frame.height != frame->height;
  d->frame = *frame;
  d->idle_ticks = 0;
  if (d->gl != NULL) {
    gtk_gl_area_make_current(GTK_GL_AREA(d->canvas));
    oriel_gl_picture_upload(d->gl, frame, &frame->changed);
    gtk_gl_area_queue_render(GTK_GL_AREA(d->canvas));
  } else if (resized) {
    gtk_widget_queue_draw(d->canvas);
  } else {
    queue_draw_changed(d, &frame->changed);
  }
  if (resized)
    g_signal_emit(d, signals[SIGNAL_PICTURE_RESIZED], 0);
}

static gboolean on_tick(gpointer data)
{
  OrielDisplay *d = data;
  VmDisplay *display = vm_get_display(d->vm);
  VmFrame frame;
  uint64_t before = d->frame.serial;
  if (!gtk_widget_get_mapped(GTK_WIDGET(d)))
    return G_SOURCE_CONTINUE;
  d->idle_ticks++;
  if (vm_display_take(display, &frame) && (frame.serial != before || d->frame.pixels == NULL))
    show_frame(d, &frame);
  if (d->idle_ticks < TICKS_UNTIL_IDLE || d->idle_ticks % (IDLE_FRAME_MS / FRAME_MS) == 0)
    vm_display_request_update(display, false);
  return G_SOURCE_CONTINUE;
}

/* ---- the widget --------------------------------------------------------------------------------------------------------------- */

static void oriel_display_dispose(GObject *object)
{
  OrielDisplay *d = ORIEL_DISPLAY(object);
  if (d->timer) {
    oriel_display_ungrab(d);
    oriel_display_release_keys(d);
    g_clear_handle_id(&d->timer, g_source_remove);
    vm_display_remove_viewer(vm_get_display(d->vm), d->viewer);
    d->frame.pixels = NULL;
  }
  G_OBJECT_CLASS(oriel_display_parent_class)->dispose(object);
}

static void oriel_display_class_init(OrielDisplayClass *klass)
{
  G_OBJECT_CLASS(klass)->dispose = oriel_display_dispose;
  signals[SIGNAL_GRAB_CHANGED] =
      g_signal_new("grab-changed", ORIEL_TYPE_DISPLAY, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL, G_TYPE_NONE, 0);
  signals[SIGNAL_PICTURE_RESIZED] =
      g_signal_new("picture-resized", ORIEL_TYPE_DISPLAY, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL, G_TYPE_NONE, 0);
}

static void oriel_display_init(OrielDisplay *d)
{
  AtkObject *accessible = gtk_widget_get_accessible(GTK_WIDGET(d));
  atk_object_set_name(accessible, _("Guest's screen"));
  gtk_widget_set_can_focus(GTK_WIDGET(d), TRUE);
  gtk_event_box_set_above_child(GTK_EVENT_BOX(d), TRUE);
  if (oriel_display_wants_gl())
    use_gl(d);
  else
    use_cairo(d);
}

GtkWidget *oriel_display_new(Vm *vm)
{
  OrielDisplay *d = g_object_new(ORIEL_TYPE_DISPLAY, NULL);
  d->vm = vm;
  d->viewer = vm_display_add_viewer(vm_get_display(vm), NULL, NULL);
  d->timer = g_timeout_add(FRAME_MS, on_tick, d);
  oriel_display_connect_input(d);
  return GTK_WIDGET(d);
}

void oriel_display_set_scaling(OrielDisplay *d, OrielScaling scaling)
{
  d->scaling = scaling;
  if (d->gl != NULL)
    gtk_gl_area_queue_render(GTK_GL_AREA(d->canvas));
  gtk_widget_queue_draw(d->canvas);
}

OrielScaling oriel_display_get_scaling(const OrielDisplay *d)
{
  return d->scaling;
}

void oriel_display_get_picture_size(const OrielDisplay *d, unsigned *width, unsigned *height)
{
  *width = d->frame.pixels ? d->frame.width : 0;
  *height = d->frame.pixels ? d->frame.height : 0;
}

const char *oriel_display_get_renderer(const OrielDisplay *d)
{
  return d->gl ? "OpenGL" : "cairo";
}

void oriel_display_set_key_filter(OrielDisplay *d, OrielKeyFilter filter, gpointer data)
{
  d->key_filter = filter;
  d->key_filter_data = data;
}
