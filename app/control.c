/*
 * The control socket's server and a small client.
 *
 * One thread with a main context of its own serves all clients, so a slow client or a long command holds up neither the
 * guest nor the window. Lines in, lines out; an answer carries its command's id. Until a client has said
 * qmp_capabilities it gets no events and no other command.
 */
#include "app/control-impl.h"

#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <sys/stat.h>

#include "app/machine.h"
#include "app/settings.h"
#include "vm-engine/vm.h"

#define MAX_LINE_BYTES   (1u << 20)
#define CLIENT_TIMEOUT_S 5

G_DEFINE_QUARK(oriel - control - error - quark, control_error)

struct OrielControl {
  OrielMachine *machine;
  char *path;
  GMainContext *context;
  GMainLoop *loop;
  GThread *thread;
  GSocketService *service;
  GList *clients; /* ControlClient; of the control thread */
  ControlKeys *keys;
  unsigned vm_listener;
};

typedef struct ControlClient {
  OrielControl *control;
  GSocketConnection *connection;
  GDataInputStream *input;
  bool negotiated;
} ControlClient;

/* ---- output --------------------------------------------------------------------------------------------------------- */

static void send_node(ControlClient *client, JsonNode *node)
{
  g_autofree char *text = json_to_string(node, FALSE);
  g_autofree char *line = g_strconcat(text, "\r\n", NULL);
  GOutputStream *out = g_io_stream_get_output_stream(G_IO_STREAM(client->connection));
  g_output_stream_write_all(out, line, strlen(line), NULL, NULL, NULL);
  json_node_unref(node);
}

static JsonNode *object_node(JsonObject *object)
{
  JsonNode *node = json_node_new(JSON_NODE_OBJECT);
  json_node_take_object(node, object);
  return node;
}

static void send_greeting(ControlClient *client)
{
  g_autofree char *text =
      g_strdup_printf("{\"QMP\": {\"version\": {\"qemu\": {\"major\": %d, \"minor\": %d, \"micro\": %d}, "
                      "\"package\": \"Oriel %s\"}, \"capabilities\": []}}",
                      0, 1, 0, ORIEL_VERSION);
  send_node(client, json_from_string(text, NULL));
}

static void add_id(JsonObject *answer, JsonNode *id)
{
  if (id != NULL)
    json_object_set_member(answer, "id", json_node_copy(id));
}

static void send_result(ControlClient *client, JsonNode *result, JsonNode *id)
{
  JsonObject *answer = json_object_new();
  json_object_set_member(answer, "return", result ? result : object_node(json_object_new()));
  add_id(answer, id);
  send_node(client, object_node(answer));
}

static void send_error(ControlClient *client, const GError *error, JsonNode *id)
{
  const char *kind = g_error_matches(error, CONTROL_ERROR, CONTROL_ERROR_COMMAND_NOT_FOUND)  ? "CommandNotFound"
                     : g_error_matches(error, CONTROL_ERROR, CONTROL_ERROR_DEVICE_NOT_FOUND) ? "DeviceNotFound"
                                                                                             : "GenericError";
  JsonObject *answer = json_object_new(), *body = json_object_new();
  json_object_set_string_member(body, "class", kind);
  json_object_set_string_member(body, "desc", error->message);
  json_object_set_object_member(answer, "error", body);
  add_id(answer, id);
  send_node(client, object_node(answer));
}

/* ---- commands ---------------------------------------------------------------------------------------------------------- */

static JsonNode *run_command(ControlClient *client, const char *name, JsonObject *arguments, GError **error)
{
  if (g_str_equal(name, "qmp_capabilities")) {
    client->negotiated = true;
    return NULL;
  }
  const ControlCommand *command = client->negotiated ? control_command_find(name) : NULL;
  if (command == NULL) {
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_COMMAND_NOT_FOUND,
                client->negotiated ? "The command %s has not been found"
                                   : "Expecting capabilities negotiation with 'qmp_capabilities' before %s",
                name);
    return NULL;
  }
  ControlCall call = { client->control->machine, client->control->keys, arguments };
  return command->run(&call, error);
}

/* The command's name and arguments out of a request, checked. */
static const char *judge_request(JsonNode *root, JsonObject **arguments, GError **error)
{
  JsonObject *request = root && JSON_NODE_HOLDS_OBJECT(root) ? json_node_get_object(root) : NULL;
  JsonNode *name = request ? json_object_get_member(request, "execute") : NULL;
  JsonNode *given = request ? json_object_get_member(request, "arguments") : NULL;
  if (request == NULL)
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "QMP input must be a JSON object");
  else if (name == NULL || !JSON_NODE_HOLDS_VALUE(name) || json_node_get_value_type(name) != G_TYPE_STRING)
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "QMP input lacks member 'execute'");
  else if (given != NULL && !JSON_NODE_HOLDS_OBJECT(given))
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "QMP input member 'arguments' must be an object");
  else {
    *arguments = given ? json_object_ref(json_node_get_object(given)) : json_object_new();
    return json_node_get_string(name);
  }
  return NULL;
}

static void handle_line(ControlClient *client, const char *line)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(JsonParser) parser = json_parser_new();
  g_autoptr(JsonObject) arguments = NULL;
  JsonNode *id = NULL, *result = NULL;
  if (!g_utf8_validate(line, -1, NULL) || !json_parser_load_from_data(parser, line, -1, NULL)) {
    g_set_error(&error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "JSON parse error, invalid input");
  } else {
    JsonNode *root = json_parser_get_root(parser);
    if (root && JSON_NODE_HOLDS_OBJECT(root))
      id = json_object_get_member(json_node_get_object(root), "id");
    const char *name = judge_request(root, &arguments, &error);
    if (name != NULL)
      result = run_command(client, name, arguments, &error);
  }
  if (error != NULL)
    send_error(client, error, id);
  else
    send_result(client, result, id);
}

/* ---- clients ------------------------------------------------------------------------------------------------------------ */

static void drop_client(ControlClient *client)
{
  client->control->clients = g_list_remove(client->control->clients, client);
  g_io_stream_close(G_IO_STREAM(client->connection), NULL, NULL);
  g_object_unref(client->input);
  g_object_unref(client->connection);
  g_free(client);
}

static void read_next(ControlClient *client);

static void on_line(GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr(GError) error = NULL;
  gsize length;
  g_autofree char *line = g_data_input_stream_read_line_finish(G_DATA_INPUT_STREAM(source), result, &length, &error);
  if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    return;
  ControlClient *client = data;
  if (line == NULL || length > MAX_LINE_BYTES) {
    drop_client(client);
    return;
  }
  g_strstrip(line);
  if (*line != '\0')
    handle_line(client, line);
  read_next(client);
}

static void read_next(ControlClient *client)
{
  g_data_input_stream_read_line_async(client->input, G_PRIORITY_DEFAULT, NULL, on_line, client);
}

static gboolean on_incoming(GSocketService *service, GSocketConnection *connection, GObject *source, gpointer data)
{
  OrielControl *control = data;
  ControlClient *client = g_new0(ControlClient, 1);
  client->control = control;
  client->connection = g_object_ref(connection);
  g_socket_set_timeout(g_socket_connection_get_socket(connection), 0);
  client->input = g_data_input_stream_new(g_io_stream_get_input_stream(G_IO_STREAM(connection)));
  g_data_input_stream_set_newline_type(client->input, G_DATA_STREAM_NEWLINE_TYPE_ANY);
  control->clients = g_list_prepend(control->clients, client);
  send_greeting(client);
  read_next(client);
  return TRUE;
}

/* ---- events -------------------------------------------------------------------------------------------------------------- */

typedef struct Event {
  OrielControl *control;
  char *text;
} Event;

static gboolean send_event(gpointer data)
{
  Event *event = data;
  GList *next;
  for (GList *at = event->control->clients; at != NULL; at = next) {
    ControlClient *client = at->data;
    next = at->next;
    if (client->negotiated)
      send_node(client, json_from_string(event->text, NULL));
  }
  return G_SOURCE_REMOVE;
}

static void free_event(gpointer data)
{
  Event *event = data;
  g_free(event->text);
  g_free(event);
}

static const char *event_name(VmEvent event, const char **data)
{
  *data = NULL;
  switch (event) {
  case VM_EVENT_RUNNING:
    return "RESUME";
  case VM_EVENT_PAUSED:
    return "STOP";
  case VM_EVENT_RESET:
    *data = "{\"guest\": true, \"reason\": \"guest-reset\"}";
    return "RESET";
  case VM_EVENT_SHUTDOWN:
    *data = "{\"guest\": true, \"reason\": \"guest-shutdown\"}";
    return "SHUTDOWN";
  case VM_EVENT_POWERDOWN:
    return "POWERDOWN";
  case VM_EVENT_PANIC:
    *data = "{\"action\": \"pause\"}";
    return "GUEST_PANICKED";
  case VM_EVENT_ENDED:
    break;
  }
  return NULL;
}

/* In the machine's I/O context. */
static void on_vm_event(Vm *vm, VmEvent vm_event, const char *text, void *opaque)
{
  OrielControl *control = opaque;
  const char *data;
  const char *name = event_name(vm_event, &data);
  if (name == NULL)
    return;
  gint64 now = g_get_real_time();
  Event *event = g_new(Event, 1);
  event->control = control;
  event->text = g_strdup_printf("{\"timestamp\": {\"seconds\": %" G_GINT64_FORMAT
                                ", \"microseconds\": %" G_GINT64_FORMAT "}, \"event\": \"%s\"%s%s}",
                                now / 1000000, now % 1000000, name, data ? ", \"data\": " : "", data ? data : "");
  g_autoptr(GSource) source = g_idle_source_new();
  g_source_set_priority(source, G_PRIORITY_DEFAULT);
  g_source_set_callback(source, send_event, event, free_event);
  g_source_attach(source, control->context);
}

/* ---- the server ------------------------------------------------------------------------------------------------------------ */

static void *control_thread(void *data)
{
  OrielControl *control = data;
  g_main_context_push_thread_default(control->context);
  g_main_loop_run(control->loop);
  while (control->clients != NULL) {
    ControlClient *client = control->clients->data;
    g_io_stream_close(G_IO_STREAM(client->connection), NULL, NULL);
    control->clients = g_list_delete_link(control->clients, control->clients);
    g_object_unref(client->input);
    g_object_unref(client->connection);
    g_free(client);
  }
  g_main_context_pop_thread_default(control->context);
  return NULL;
}

/* Is somebody listening at the path? A socket file that nobody serves is left over from a killed process. */
static bool is_live(const char *path)
{
  g_autoptr(GSocketClient) client = g_socket_client_new();
  g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
  g_autoptr(GSocketConnection) connection = g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, NULL);
  return connection != NULL;
}

static bool clear_path(const char *path, GError **error)
{
  GStatBuf info;
  if (strlen(path) > 107) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "control: the path %s is too long for a socket (107 bytes)",
                path);
    return false;
  }
  if (g_lstat(path, &info) != 0)
    return true;
  if (!S_ISSOCK(info.st_mode) || is_live(path)) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "control: %s is in use; choose another path", path);
    return false;
  }
  return g_unlink(path) == 0 || true;
}

static bool listen_at(OrielControl *control, GError **error)
{
  g_autoptr(GSocketAddress) address = g_unix_socket_address_new(control->path);
  if (!clear_path(control->path, error))
    return false;
  mode_t old = umask(0077);
  bool ok = g_socket_listener_add_address(G_SOCKET_LISTENER(control->service), address, G_SOCKET_TYPE_STREAM,
                                          G_SOCKET_PROTOCOL_DEFAULT, NULL, NULL, error);
  umask(old);
  if (!ok)
    g_prefix_error(error, "control: cannot listen at %s: ", control->path);
  return ok;
}

OrielControl *oriel_control_new(OrielMachine *machine, const char *path, GError **error)
{
  OrielControl *control = g_new0(OrielControl, 1);
  control->machine = machine;
  control->path = g_strdup(path);
  control->context = g_main_context_new();
  control->loop = g_main_loop_new(control->context, FALSE);
  control->keys = control_keys_new(machine, control->context);
  g_main_context_push_thread_default(control->context);
  control->service = g_socket_service_new();
  bool ok = listen_at(control, error);
  g_signal_connect(control->service, "incoming", G_CALLBACK(on_incoming), control);
  g_socket_service_start(control->service);
  g_main_context_pop_thread_default(control->context);
  if (!ok) {
    g_clear_pointer(&control->path, g_free);
    oriel_control_free(control);
    return NULL;
  }
  control->vm_listener = vm_add_listener(oriel_machine_get_vm(machine), on_vm_event, control);
  control->thread = g_thread_new("control", control_thread, control);
  return control;
}

static gboolean quit(gpointer data)
{
  g_main_loop_quit(data);
  return G_SOURCE_REMOVE;
}

/* Last in the control context's queue, so that events before it still go out. */
static void stop_thread(OrielControl *control)
{
  g_autoptr(GSource) source = g_idle_source_new();
  g_source_set_callback(source, quit, control->loop, NULL);
  g_source_attach(source, control->context);
  g_thread_join(control->thread);
}

void oriel_control_free(OrielControl *control)
{
  if (control == NULL)
    return;
  if (control->thread != NULL) {
    vm_remove_listener(oriel_machine_get_vm(control->machine), control->vm_listener);
    stop_thread(control);
  }
  g_socket_service_stop(control->service);
  g_socket_listener_close(G_SOCKET_LISTENER(control->service));
  g_object_unref(control->service);
  if (control->path != NULL)
    g_unlink(control->path);
  control_keys_free(control->keys);
  g_main_loop_unref(control->loop);
  g_main_context_unref(control->context);
  g_free(control->path);
  g_free(control);
}

/* ---- the client ---------------------------------------------------------------------------------------------------------------- */

static bool send_line(GSocketConnection *connection, const char *line, GError **error)
{
  GOutputStream *out = g_io_stream_get_output_stream(G_IO_STREAM(connection));
  return g_output_stream_write_all(out, line, strlen(line), NULL, NULL, error);
}

/* The next answer that is not an event: its "return" as text, or NULL with `error`. */
static char *read_answer(GDataInputStream *input, GError **error)
{
  for (;;) {
    g_autofree char *line = g_data_input_stream_read_line(input, NULL, NULL, error);
    if (line == NULL) {
      if (error != NULL && *error == NULL)
        g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "the machine closed the connection");
      return NULL;
    }
    g_autoptr(JsonNode) node = json_from_string(line, NULL);
    JsonObject *object = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    if (object != NULL && json_object_has_member(object, "return"))
      return json_to_string(json_object_get_member(object, "return"), FALSE);
    if (object != NULL && json_object_has_member(object, "error")) {
      JsonObject *body = json_object_get_object_member(object, "error");
      g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "%s",
                  json_object_get_string_member_with_default(body, "desc", "error"));
      return NULL;
    }
  }
}

char *oriel_control_call(const char *path, const char *command, const char *arguments, GError **error)
{
  g_autoptr(GSocketClient) client = g_socket_client_new();
  g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
  g_socket_client_set_timeout(client, CLIENT_TIMEOUT_S);
  g_autoptr(GSocketConnection) connection = g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, error);
  if (connection == NULL) {
    g_prefix_error(error, "cannot reach the machine at %s: ", path);
    return NULL;
  }
  g_autoptr(GDataInputStream) input = g_data_input_stream_new(g_io_stream_get_input_stream(G_IO_STREAM(connection)));
  g_autofree char *request = g_strdup_printf("{\"execute\": \"%s\"%s%s}\n", command,
                                             arguments ? ", \"arguments\": " : "", arguments ? arguments : "");
  g_autofree char *negotiated =
      send_line(connection, "{\"execute\": \"qmp_capabilities\"}\n", error) ? read_answer(input, error) : NULL;
  if (negotiated == NULL || !send_line(connection, request, error))
    return NULL;
  return read_answer(input, error);
}
