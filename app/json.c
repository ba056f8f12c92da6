/* JSON text. See json.h. */
#include "app/json.h"

void oriel_json_append_string(GString *out, const char *text)
{
  if (text == NULL) {
    g_string_append(out, "null");
    return;
  }
  g_string_append_c(out, '"');
  for (const char *at = text; *at != '\0'; at++) {
    if (*at == '"' || *at == '\\')
      g_string_append_printf(out, "\\%c", *at);
    else if ((unsigned char)*at < 0x20)
      g_string_append_printf(out, "\\u%04x", (unsigned)*at);
    else
      g_string_append_c(out, *at);
  }
  g_string_append_c(out, '"');
}
