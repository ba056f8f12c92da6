/*
 * The differential tester's command line. See difftest.h.
 *
 *   difftest [--backend jit|interp] [--seed N] [--count N] [--case N] [--filter TEXT] [--sequence] [--native-only] [--list]
 *
 * Prints one line a difference found, and at the end how many of the tables' forms were covered. Exit status 1: differences;
 * 77: this host cannot run it.
 */
#include "tests/tcg/difftest/difftest.h"

static struct {
  char *backend, *filter;
  gint64 seed, count, only_case;
  gboolean sequence, native_only, list, verbose;
  gint max_failures;
} options = { .seed = 1, .count = 20000, .only_case = -1, .max_failures = 20 };

static const GOptionEntry entries[] = {
  { "backend", 0, 0, G_OPTION_ARG_STRING, &options.backend, "What runs the IR: jit (default) or interp", "NAME" },
  { "seed", 0, 0, G_OPTION_ARG_INT64, &options.seed, "Seed of all cases", "N" },
  { "count", 0, 0, G_OPTION_ARG_INT64, &options.count, "How many cases", "N" },
  { "case", 0, 0, G_OPTION_ARG_INT64, &options.only_case, "Run this case alone", "N" },
  { "filter", 0, 0, G_OPTION_ARG_STRING, &options.filter, "Only forms whose name contains TEXT", "TEXT" },
  { "sequence", 0, 0, G_OPTION_ARG_NONE, &options.sequence, "Several instructions a case", NULL },
  { "native-only", 0, 0, G_OPTION_ARG_NONE, &options.native_only, "Leave the translator out", NULL },
  { "list", 0, 0, G_OPTION_ARG_NONE, &options.list, "List the forms and end", NULL },
  { "verbose", 0, 0, G_OPTION_ARG_NONE, &options.verbose, "Print each case before it runs", NULL },
  { "max-failures", 0, 0, G_OPTION_ARG_INT, &options.max_failures, "End after N differences (default 20)", "N" },
  { NULL },
};

typedef struct Run {
  GArray *forms;  /* DiffForm */
  GArray *chosen; /* indices of those that pass the filter */
  DiffEngine *engine;
  bool has_mode[DIFF_N_MODES];
  DiffCase *c;
  DiffState *native, *translated;
  uint64_t n_cases, n_faults;
  int n_failures;
} Run;

static void print_code(const DiffCase *c, GString *text)
{
  for (unsigned i = 0; i + 16 < c->code_length; i++) {
    g_string_append_printf(text, "%02x ", c->code[i]);
  }
}

static void print_case(const Run *run, const DiffForm *form, gint64 number, GString *text)
{
  g_string_append_printf(text, "case %" G_GINT64_FORMAT " (seed %" G_GINT64_FORMAT ") %s, %u-bit: ", number,
                         options.seed, form->name, 16 << run->c->mode);
  print_code(run->c, text);
  g_string_append_c(text, '\n');
}

/* Mostly 64-bit, where the form exists there. */
static bool pick_mode(const Run *run, const DiffForm *form, DiffRandom *r, DiffMode *mode)
{
  unsigned choice = diff_below(r, 100);
  *mode = choice < 50 ? DIFF_64 : choice < 75 ? DIFF_32 : DIFF_16;
  if (*mode == DIFF_64 && !form->in64) {
    *mode = choice & 1 ? DIFF_32 : DIFF_16;
  } else if (*mode != DIFF_64 && !form->in32) {
    *mode = DIFF_64;
  }
  if (!run->has_mode[*mode] && form->in64) {
    *mode = DIFF_64;
  }
  return run->has_mode[*mode];
}

static void run_case(Run *run, gint64 number)
{
  DiffRandom r = { (uint64_t)options.seed * 0x9e3779b97f4a7c15u ^ (uint64_t)number * 0xd1342543de82ef95u };
  unsigned pick = g_array_index(run->chosen, unsigned, (guint64)number % run->chosen->len);
  DiffForm *form = &g_array_index(run->forms, DiffForm, pick);
  DiffMode mode;
  if (!pick_mode(run, form, &r, &mode)) {
    return;
  }
  uint32_t slots = DIFF_CODE_PAGES * DIFF_PAGE / 256;
  uint32_t address = DIFF_CODE + 256 * (uint32_t)((guint64)number % slots);
  unsigned n_insns = options.sequence ? 2 + diff_below(&r, 7) : 1;
  unsigned tries = 0;
  while (!diff_generate(run->c, &r, run->forms, form, mode, n_insns, address)) {
    if (++tries == 50) {
      return;
    }
  }
  g_autoptr(GString) text = g_string_new(NULL);
  print_case(run, form, number, text);
  if (options.verbose) {
    fputs(text->str, stderr);
  }
  diff_native_run(run->c, run->native);
  run->n_cases++;
  run->n_faults += run->native->vector != X86_EXC_BP;
  form->n_runs++;
  if (!run->engine) {
    return;
  }
  /* A sequence runs twice: its blocks are linked to each other the second time. */
  bool same = true;
  for (int i = 0; i < (options.sequence ? 2 : 1) && same; i++) {
    diff_engine_run(run->engine, run->c, run->translated, i == 0);
    same = diff_compare(run->c, run->native, run->translated, text);
  }
  if (!same) {
    fputs(text->str, stdout);
    run->n_failures++;
  }
}

static void choose_forms(Run *run)
{
  for (unsigned i = 0; i < run->forms->len; i++) {
    const DiffForm *f = &g_array_index(run->forms, DiffForm, i);
    if (!options.filter || strstr(f->name, options.filter)) {
      g_array_append_val(run->chosen, i);
    }
  }
}

static void print_coverage(const Run *run)
{
  unsigned covered = 0;
  for (unsigned i = 0; i < run->chosen->len; i++) {
    covered += g_array_index(run->forms, DiffForm, g_array_index(run->chosen, unsigned, i)).n_runs > 0;
  }
  printf("%" G_GUINT64_FORMAT " cases (%" G_GUINT64_FORMAT
         " ended in a fault), %u of %u forms covered, %d differences\n",
         run->n_cases, run->n_faults, covered, run->chosen->len, run->n_failures);
}

static void run_all(Run *run)
{
  if (options.only_case >= 0) {
    run_case(run, options.only_case);
    return;
  }
  for (gint64 i = 0; i < options.count && run->n_failures < options.max_failures; i++) {
    run_case(run, i);
  }
}

int main(int argc, char **argv)
{
  g_autoptr(GOptionContext) context = g_option_context_new(NULL);
  g_autoptr(GError) error = NULL;
  g_option_context_add_main_entries(context, entries, NULL);
  if (!g_option_context_parse(context, &argc, &argv, &error)) {
    fprintf(stderr, "%s\n", error->message);
    return 2;
  }
  Run run = { .forms = diff_forms_new(), .chosen = g_array_new(FALSE, FALSE, sizeof(unsigned)) };
  choose_forms(&run);
  if (options.list || !run.chosen->len) {
    for (unsigned i = 0; i < run.chosen->len; i++) {
      puts(g_array_index(run.forms, DiffForm, g_array_index(run.chosen, unsigned, i)).name);
    }
    return 0;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  bool interp = g_strcmp0(options.backend, "interp") == 0;
  if (!options.native_only) {
    run.engine = diff_engine_new(interp ? TCG_BACKEND_INTERP : TCG_BACKEND_JIT);
  }
  if (!diff_native_init(run.has_mode)) {
    return 77;
  }
  printf("modes of this host: 64-bit%s%s\n", run.has_mode[DIFF_32] ? ", 32-bit" : "",
         run.has_mode[DIFF_16] ? ", 16-bit" : "");
  run.c = g_new0(DiffCase, 1);
  run.native = g_new0(DiffState, 1);
  run.translated = g_new0(DiffState, 1);
  run_all(&run);
  print_coverage(&run);
  if (run.engine) {
    diff_engine_free(run.engine);
  }
  g_free(run.c);
  g_free(run.native);
  g_free(run.translated);
  g_array_free(run.forms, TRUE);
  g_array_free(run.chosen, TRUE);
  return run.n_failures > 0;
}
