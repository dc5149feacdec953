/* tools/verb_plan.c: `plinth plan MODEL --machine NAME`: what a training step will take, before it runs, on a machine
 * that need not be here. */
#include "tools/fit_report.h"
#include "tools/lm.h"
#include "tools/machine.h"
#include "tools/mesh.h"
#include "tools/plan_cluster.h"
#include "tools/plan_mesh.h"
#include "tools/plan_runs.h"
#include "tools/plan_scale.h"
#include "tools/plan_search.h"
#include "tools/prediction.h"
#include "tools/scaling_report.h"
#include "tools/sizes.h"
#include "tools/verbs.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static SourceOptions given;
static const char *machine_name, *memory, *svg, *sizes, *precision, *tokens_text, *flops_text;
static const char *mesh, *recompute, *schedule, *divided, *masters, *attention, *loss, *placeholders, *trace, *runs, *fit, *devices;
static TextList shard;
static const char *micro_text, *batch_text, *price_text;
static i64 micro, batch; /* 0: not given */
static f64 price;
enum { POINTS = 17, MOST_DEVICES = 1 << 20 }; /* of a sweep; of --devices */
static bool forward, all, scaling, json;
static const char *sweep; /* NULL: not given; "": of memory; else "devices=64..4096" */

static const Option options[] = {
	SOURCE_OPTIONS(given),
	{ "machine", 'm', OPTION_TEXT, &machine_name, "NAME",
	  "h100_sxm, a100_80gb, ..., a file with a machine block, or host: this one, as `doctor --calibrate` measured it" },
	{ "sizes", 'z', OPTION_TEXT, &sizes, "B=8,T=256", "numbers for sizes, over those of the train block's batch" },
	{ "precision", 0, OPTION_TEXT, &precision, "TYPE", "what matrix multiplies take: f32, bf16, autocast, fp8; else as the file says" },
	{ "memory", 0, OPTION_MEMORY, &memory, "8GiB", "fit the step into this, and say which values are kept, which computed again, what it costs" },
	{ "sweep", 0, OPTION_OPEN, &sweep, "devices=64..4096",
	  "what each budget of memory costs, from the least to where everything is kept; or strong and weak scaling over so many devices" },
	{ "svg", 0, OPTION_FILE, &svg, "FILE", "the sweep as a picture" },
	{ "tokens", 0, OPTION_TEXT, &tokens_text, "N", "of a whole run, for days, energy and money: 300e9, 15.6T" },
	{ "price", 0, OPTION_TEXT, &price_text, "DOLLARS", "of a device for an hour" },
	{ "scaling", 0, OPTION_FLAG, &scaling, NULL, "what model and how much text the run's arithmetic is best spent on" },
	{ "flops", 0, OPTION_TEXT, &flops_text, "N", "another budget than that of --tokens: 1e21" },
	{ "forward", 0, OPTION_FLAG, &forward, NULL, "the forward pass alone, not a training step" },
	{ "mesh", 0, OPTION_TEXT, &mesh, "data=8,tensor=8", "a cluster; pipe is its pipeline; auto: the fastest, of those with tensor=8 for auto,tensor=8. Without --machine: what each device says to the others and holds" },
	{ "shard", 0, OPTION_LIST, &shard, "AXIS=MESH", "a line more of the shard block: parameters=data, Attention.H=tensor" },
	{ "devices", 0, OPTION_TEXT, &devices, "N", "of --mesh: how many in all; 64..4096: as --sweep devices=64..4096" },
	{ "batch", 0, OPTION_TEXT, &batch_text, "N", "of --mesh: sequences of a step" },
	{ "micro", 0, OPTION_TEXT, &micro_text, "N", "of --mesh: sequences of a device's micro-batch; 1 if --batch is given alone" },
	{ "recompute", 0, OPTION_TEXT, &recompute, "WHAT", "of --mesh: what layers compute again: none, needed, or whole, as frameworks do; auto chooses among none,whole" },
	{ "schedule", 0, OPTION_TEXT, &schedule, "NAME", "of --mesh with pipe: gpipe, 1f1b, or interleaved:2 for 2 chunks a stage" },
	{ "divided", 0, OPTION_TEXT, &divided, "WHAT", "of --mesh auto: what may be divided at most: nothing, optimizer_state, gradients or parameters over data, sequence over tensor, and attention_heads over the axis of texts" },
	{ "masters", 0, OPTION_TEXT, &masters, "TYPE,TYPE", "of --mesh: parameters and gradients are stored as bf16 (or bf16,f32, or bf16,bf16+f32: a micro-batch's beside sums), f32 masters with the optimizer's states, as in Megatron-LM; f32: as they are, what layers add up 16 bits wide, as in PyTorch's FSDP" },
	{ "attention", 0, OPTION_TEXT, &attention, "HOW", "of --mesh: whole, one kernel, or scores, which go through memory, as before FlashAttention" },
	{ "placeholders", 0, OPTION_TEXT, &placeholders, "TYPE", "of --mesh: one of this type for each of a layer's weights, which layers share, stands for its gradient, as in Transformer Engine" },
	{ "loss", 0, OPTION_TEXT, &loss, "HOW", "of --mesh: chunks of tokens, or whole, which holds all logits at once, as most frameworks do" },
	{ "trace", 0, OPTION_FILE, &trace, "FILE", "of --mesh: the step as a timeline, for ui.perfetto.dev" },
	{ "runs", 0, OPTION_TEXT, &runs, "FILE", "instead of a model: many of them, a JSON object in each line (docs/planning.md)" },
	{ "fit", 0, OPTION_FILE, &fit, "OUT", "a machine file fitted to their measured seconds" },
	{ "all", 'a', OPTION_FLAG, &all, NULL, "every kernel family in the table, not only those that make up 95% of the time" },
	{ "json", 'j', OPTION_FLAG, &json, NULL, "all of it as JSON" },
};

static const OptionRule rules[] = {
	{ RULE_NEEDS, "flops", "scaling", "another budget than that of --tokens" },
	{ RULE_NEEDS, "price", "tokens runs", "it is of a whole run, and --tokens 300e9 says of how much text" },
	{ RULE_NEEDS, "masters attention placeholders loss", "mesh devices sweep", NULL },
	{ RULE_NEEDS, "fit", "runs", "what a machine file is fitted to" },
	{ RULE_EXCLUDE, "forward", "memory sweep svg", "a forward pass keeps nothing for later" },
	{ RULE_EXCLUDE, "scaling", "json forward", "it is of training, and is printed for people" },
};

static const Command command = {
	.name = "plan",
	.operands = "MODEL",
	.least = 0,
	.most = 1,
	.about = "Says what a training step will take, before it runs, on a machine that need not be\n"
		 "here: its time and what limits it, tokens a second, TFLOPS, MFU, memory to the byte;\n"
		 "with --tokens, days, energy and money of a run. The program is planned for the\n"
		 "machine's kind of device as it would be to run: the same kernels, the same memory.\n"
		 "Each kernel's time is the larger of its FLOPs at the machine's peak and its bytes\n"
		 "at its bandwidth, each by the share that work of its size reaches there, and the\n"
		 "launch. Exit status 3: it does not fit into the machine's memory, or no plan keeps to\n"
		 "--memory. With that, values that the backward half needs are computed again instead\n"
		 "of kept, so that the step fits: for as little time as can be found, printed beside a\n"
		 "lower bound for every choice. With --machine, --mesh says what a step takes on a cluster:\n"
		 "stage by stage, with messages and the pipeline's bubble. --memory and --sweep alone need no machine; times are\n"
		 "those of a rough CPU then, and their ratios are what counts.",
	.example = "  plinth plan models/gpt2.plinth --machine h100_sxm --sizes B=64,T=1024\n"
		   "  plinth plan models/llama.plinth --preset llama_1b --machine a100_80gb --tokens 300e9 --price 1.8\n"
		   "  plinth plan models/gpt2.plinth --machine a100_80gb --tokens 10e9 --scaling\n"
		   "  plinth plan models/gpt2.plinth --sizes B=8,T=1024 --memory 5GiB\n"
		   "  plinth plan models/gpt2.plinth --sizes B=8,T=1024 --sweep --svg curve.svg\n"
		   "  plinth plan models/llama.plinth --preset llama2_7b --mesh data=64,tensor=8 --sizes B=512,T=4096\n"
		   "  plinth plan models/llama.plinth --preset llama3_70b --machine h100_sxm --mesh data=32,tensor=8,pipe=4 --sizes T=8192 --batch 512 --recompute needed\n"
		   "  plinth plan models/gpt2.plinth --set vocab=50304 --machine a100_80gb --sizes T=1024 --sweep devices=8..256\n"
		   "  plinth doctor --calibrate && plinth plan models/gpt2.plinth --machine host",
	.option = options,
	.noption = COUNT(options),
	.rule = rules,
	.nrule = COUNT(rules),
};

/* "15.6T": a number with K, M, G or B, T behind it; 0: it is none. */
static f64 number_of(const char *text)
{
	static const char unit[] = "KMGBT";
	static const f64 factor[] = { 1e3, 1e6, 1e9, 1e9, 1e12 };
	char *end;
	f64 n = strtod(text, &end);
	const char *u = *end ? strchr(unit, *end) : NULL;
	if (u) {
		n *= factor[u - unit];
		end++;
	}
	return *end || end == text || !(n < HUGE_VAL) ? 0 : n;
}

/* "2048": how many sequences; 0: it is no such number. */
static i64 sequences_of(const char *text)
{
	char *end;
	i64 n = strtoll(text, &end, 10);
	return *end || end == text || n < 1 || n > 1 << 30 ? 0 : n;
}

static const char *duration(Arena *a, f64 seconds)
{
	if (seconds < 1)
		return arena_printf(a, "%.3g ms", seconds * 1e3);
	if (seconds < 600)
		return arena_printf(a, "%.3g s", seconds);
	if (seconds < 48 * 3600)
		return arena_printf(a, "%.3g hours", seconds / 3600);
	return arena_printf(a, "%.3g days", seconds / 86400);
}

static void print_table(Arena *a, const Prediction *p)
{
	int name = 6, class = 5; /* as wide as what is told */
	u32 n = 0;
	for (f64 told = 0; n < p->ngroup && (all || told < 0.95 * p->seconds); told += p->group[n++].seconds) {
		name = MAX(name, (int)(strlen(p->group[n].entry) + 1 + strlen(p->group[n].name)));
		class = MAX(class, (int)strlen(p->group[n].class));
	}
	printf("\n%-*s %-*s %5s %9s %6s %10s %10s  %s\n", name, "kernel", class, "class", "calls", "time", "share", "FLOPs", "bytes", "limited by");
	for (u32 i = 0; i < n; i++) {
		const PredictedGroup *g = &p->group[i];
		Limiter by = LIMIT_ARITHMETIC;
		for (u32 k = 1; k < LIMITERS; k++)
			by = g->by[k] > g->by[by] ? (Limiter)k : by;
		printf("%-*s %-*s %5u %9s %5.1f%% %10s %10s  %s\n", name, arena_printf(a, "%s %s", g->entry, g->name), class, g->class, g->calls,
		       duration(a, g->seconds), 100 * g->seconds / p->seconds, lm_scaled(a, g->flops), lm_bytes(a, (u64)g->bytes),
		       limiter_name[by]);
	}
}

static void print_run(Arena *a, const Prediction *p, f64 tokens)
{
	RunCost r = predict_run(p, tokens, price);
	printf("run       %s tokens: %s steps, %s", lm_scaled(a, tokens), lm_scaled(a, r.steps), duration(a, r.seconds));
	if (r.kilowatt_hours > 0)
		printf("; %.4g kWh at %.0f W", r.kilowatt_hours, p->machine->power);
	if (r.dollars > 0)
		printf("; $%.4g at $%g an hour", r.dollars, price > 0 ? price : p->machine->price);
	printf("\n");
}

static void print_prediction(Arena *a, const Lm *lm, const char *bound, const char *where, const Prediction *p, f64 tokens, f64 flops)
{
	const Machine *m = p->machine;
	printf("model     %s (%s), %s%s, %s\n", lm->model->name, lm->operand.source, bound,
	       sizes ? "" : " as the train block says (--sizes for others)", precision);
	printf("machine   %s (%s)\n", m->name, where);
	printf("step      %s: %s tokens, %.4g TFLOP (%.4g with attention's full square)\n", duration(a, p->seconds), lm_scaled(a, p->tokens),
	       p->flops / 1e12, p->flops_full / 1e12);
	printf("          %s tokens/s, %.4g TFLOPS, MFU %.1f%% of %.4g TFLOPS (full square: %.1f%%)\n", lm_scaled(a, p->tokens / p->seconds),
	       p->flops / p->seconds / 1e12, 100 * p->flops / p->seconds / p->peak, p->peak / 1e12,
	       100 * p->flops_full / p->seconds / p->peak);
	printf("limits    ");
	for (u32 i = 0; i < LIMITERS; i++)
		printf("%s%s %.0f%%", i ? ", " : "", limiter_name[i], 100 * p->by[i] / p->seconds);
	printf(" of the time\n");
	printf("memory    %llu bytes (%s): parameters %s, gradients %s, optimizer %s, the step's values %s", (unsigned long long)p->arena,
	       lm_bytes(a, p->arena), lm_bytes(a, p->parameters), lm_bytes(a, p->gradients), lm_bytes(a, p->optimizer),
	       lm_bytes(a, p->transient));
	printf("\n          of %s, of which %s is the driver's and libraries'\n", lm_bytes(a, (u64)m->memory), lm_bytes(a, (u64)m->reserved));
	if (tokens > 0)
		print_run(a, p, tokens);
	if (scaling)
		scaling_print(a, scaling_parameters(lm->model), p->flops / p->tokens, tokens, flops);
	print_table(a, p);
}

static json_t *group_json(const PredictedGroup *g)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f}", "entry", g->entry, "name", g->name, "class", g->class,
			 "file", g->file, "line", (int)g->line, "calls", (int)g->calls, "flops", g->flops, "bytes", g->bytes, "seconds",
			 g->seconds, "arithmetic_seconds", g->by[LIMIT_ARITHMETIC], "memory_seconds", g->by[LIMIT_MEMORY],
			 "launch_seconds", g->by[LIMIT_LAUNCH]);
}

/* What --memory and --sweep ask for; `lm` NULL: the model was named already. */
static void print_fit(Arena *a, const Lm *lm, const char *bound, const Plan *p)
{
	const EntryPlan *e = fit_entry(p);
	if (lm)
		printf("model     %s (%s), %s, %s\n", lm->model->name, lm->operand.source, bound, precision);
	fit_print(a, p, e, stdout);
	if (sweep)
		fit_print_curve(a, p, e, stdout);
}

static void print_fit_json(Arena *a, const Lm *lm, const char *bound, const Plan *p)
{
	json_t *root = json_pack("{s:s, s:s, s:s, s:o}", "model", lm->model->name, "sizes", bound, "precision", precision, "fit",
				 fit_json(a, p, fit_entry(p)));
	json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
	putchar('\n');
	json_decref(root);
}

static void print_json(Arena *a, const Lm *lm, const Plan *plan, const char *bound, const Prediction *p, f64 tokens)
{
	json_t *groups = json_array();
	for (u32 i = 0; i < p->ngroup; i++)
		json_array_append_new(groups, group_json(&p->group[i]));
	json_t *memory = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "bytes", (json_int_t)p->arena, "parameters", (json_int_t)p->parameters,
				   "gradients", (json_int_t)p->gradients, "optimizer", (json_int_t)p->optimizer, "other",
				   (json_int_t)p->other, "transient", (json_int_t)p->transient, "fits", (int)p->fits);
	json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:o}", "model", lm->model->name, "sizes", bound,
				 "precision", precision, "machine", p->machine->name, "step_seconds", p->seconds, "tokens", p->tokens,
				 "tokens_per_second", p->tokens / p->seconds, "model_flops", p->flops, "model_flops_full_square",
				 p->flops_full, "tflops_per_device", p->flops / p->seconds / 1e12, "mfu", p->flops / p->seconds / p->peak,
				 "memory", memory, "kernels", groups);
	if (tokens > 0) {
		RunCost r = predict_run(p, tokens, price);
		json_object_set_new(root, "run", json_pack("{s:f, s:f, s:f, s:f, s:f}", "tokens", tokens, "steps", r.steps, "seconds", r.seconds,
							   "dollars", r.dollars, "kilowatt_hours", r.kilowatt_hours));
	}
	if (fit_entry(plan))
		json_object_set_new(root, "fit", fit_json(a, plan, fit_entry(plan)));
	json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
	putchar('\n');
	json_decref(root);
}

/* What could make it fit depends on what is too much: what parameters bring along, or the step's values. */
static Status does_not_fit(Arena *a, const Prediction *p)
{
	const Machine *m = p->machine;
	u64 room = (u64)(m->memory - m->reserved), held = p->parameters + p->gradients + p->optimizer;
	u32 devices = 2;
	while ((f64)devices * (f64)room < 2 * (f64)held && devices < MOST_DEVICES)
		devices *= 2;
	const char *what = "a smaller batch (--sizes B=..), or fewer bits (--precision)";
	if (held > room)
		what = arena_printf(a, "parameters%s alone are %s, which several devices divide: --mesh auto --devices %u --batch %u",
				    forward ? "" : ", gradients and optimizer states", lm_bytes(a, held), devices, 8 * devices);
	else if (!forward)
		what = arena_printf(a, "a smaller batch (--sizes B=..), fewer bits (--precision), or values computed again (--memory %lluMiB)",
				    (unsigned long long)(room >> 20));
	return FAIL(STATUS_CONTRACT, "the step takes %s, and %s leaves %s: %s", lm_bytes(a, p->arena), m->name, lm_bytes(a, room), what);
}

static Status plan(Lm *lm, const MachineFile *file, f64 tokens, f64 flops)
{
	Arena *a = &lm->arena;
	const Machine *m = file->machine;
	if (!forward && !lm->model->has_train)
		return FAIL(STATUS_INPUT, "%s has no train block, which says what a step is; --forward plans the forward pass",
			    lm->operand.source);
	TRY(sizes_check(a, lm->model, "--sizes", sizes, false));
	const char *bound;
	TRY(sizes_numbers(a, lm->model, sizes, &bound));
	precision = precision ? precision : lm->model->precision;
	if (mesh || shard.n)
		return plan_mesh(lm, mesh, &shard, schedule, bound, precision ? precision : "f32", json);
	bool cpu = m && !strcmp(m->device, "cpu"), fit = memory || sweep || svg;
	static const char *const step[] = { "micro", "update" }, *const pass[] = { "forward" };
	DriverOptions o = { .entry = forward ? pass : step, .nentry = forward ? COUNT(pass) : COUNT(step), .sizes = bound,
			    .precision = precision, .device = m ? m->device : NULL, .cpu = cpu ? m->arch : NULL,
			    .arch = m && !cpu ? m->arch : NULL, .accumulate = lm->model->accumulate > 1, .machine = m,
			    .curve = sweep || svg ? POINTS : fit ? 1 : 0 };
	Compiled c = { 0 };
	if (fit && !forward)
		TRY(lm_memory(lm, &o.memory));
	TRY(driver_plan(a, lm->model->program, &o, &c));
	if (!c.plan)
		return FAIL(STATUS_INPUT, "the model cannot be planned for %s", m ? m->name : "this machine");
	if (svg && fit_entry(c.plan))
		TRY(fit_svg(a, c.plan, fit_entry(c.plan), svg));
	if (!m) {
		if (json)
			print_fit_json(a, lm, bound, c.plan);
		else
			print_fit(a, lm, bound, c.plan);
		return OK;
	}
	Prediction p = predict_step(a, m, &c, lm->model->accumulate, precision, forward);
	if (json)
		print_json(a, lm, c.plan, bound, &p, tokens);
	else
		print_prediction(a, lm, bound, file->where, &p, tokens, flops);
	if (!json && fit)
		print_fit(a, NULL, bound, c.plan);
	return p.fits ? OK : does_not_fit(a, &p);
}

/* "1024", "64..4096" */
static bool device_range(const char *text, i64 *least, i64 *most)
{
	char *end;
	*least = *most = strtoll(text, &end, 10);
	if (!strncmp(end, "..", 2) && end != text)
		*most = strtoll(end + 2, &end, 10);
	return !*end && *least >= 1 && *most >= *least && *most <= MOST_DEVICES;
}

/* How many it has; 0: it is not written as meshes are, which is told where it is read. */
static i64 devices_of(const char *text)
{
	i64 product = 1, size;
	Str name;
	for (const char *at = text; *at && product;) {
		Status s = mesh_axis(text, &at, &name, &size);
		product = s || product > 1 << 30 ? 0 : product * size;
	}
	return product;
}

/* "auto", or "auto,tensor=8": the rest is chosen. */
static bool is_auto(const char *text)
{
	size_t n = strcspn(text, ",");
	return str_equal((Str){ text, n }, STR("auto"));
}

/* --devices, or what --sweep says of it: what is wrong with it beside the rest is told; 0: nothing is. */
static int read_devices(i64 *least, i64 *most)
{
	bool swept = sweep && *sweep, searched = mesh && is_auto(mesh);
	if (swept && devices)
		return verb_misused("plan", "--sweep devices= says how many: not with --devices");
	const char *text = swept ? strchr(sweep, '=') + 1 : devices, *name = swept ? "--sweep devices=" : "--devices ";
	if (text && !device_range(text, least, most))
		return verb_misused("plan", "%s%s: a number up to %d, or a range such as 64..4096", name, text, MOST_DEVICES);
	bool range = *most > *least;
	if (swept && !range)
		return verb_misused("plan", "--sweep devices=%s is of one number: --sweep devices=64..4096", text);
	if (range && !machine_name)
		return verb_misused("plan", "%s%s: how a step scales depends on the machine: --machine NAME", name, text);
	if (range && (searched || trace || scaling))
		return verb_misused("plan", "%s%s is of one division, whose axis data grows: not with --mesh auto, --trace, --scaling", name, text);
	if (searched && (!machine_name || !*least || !batch || trace || scaling))
		return verb_misused("plan", trace || scaling ? "--trace and --scaling are of one division: of the one that --mesh auto finds" :
				    "--mesh auto chooses the rest, and has to be told %s%s%s: plinth plan MODEL --machine NAME --mesh auto "
				    "--devices 1024 --batch 2048", machine_name ? "" : "--machine ", *least ? "" : "--devices ", batch ? "" : "--batch");
	if (divided && !searched)
		return verb_misused("plan", "--divided is of --mesh auto: --shard %s=data says what one division divides", divided);
	if (*least && !range && !mesh)
		return verb_misused("plan", "--devices %s says how many, not how they divide the model: --mesh auto, or --mesh data=%s", text, text);
	i64 has = mesh && !searched ? devices_of(mesh) : 0;
	if (*least && !range && has && has != *least)
		return verb_misused("plan", "--mesh %s is of %lld devices, --devices says %lld", mesh, (long long)has, (long long)*least);
	mesh = range && !mesh ? "data=1" : mesh;
	return 0;
}

/* --mesh with a machine, or --runs. */
static int cluster(const char *path, f64 tokens, f64 flops, i64 least, i64 most)
{
	Arena a = ARENA("plan");
	MachineFile file;
	Status s = machine_open(&a, machine_name, &file);
	int status = s ? verb_failed("plan", s) : verb_report(&file.source.diag, false);
	ClusterOptions o = { .path = path, .source = &given, .mesh = mesh, .shard = &shard, .sizes = sizes, .precision = precision,
			     .micro = micro, .batch = batch, .recompute = recompute, .schedule = schedule, .divided = divided, .habits = { masters, attention, loss, placeholders }, .tokens = tokens, .price = price,
			     .trace = trace, .json = json, .scaling = scaling, .flops = flops };
	if (!status && runs)
		status = plan_runs(runs, file.machine, fit);
	else if (!status && most > least)
		status = plan_scale(&o, file.machine, least, most, svg);
	else if (!status && is_auto(mesh))
		status = plan_search(&o, file.machine, least, all);
	else if (!status)
		status = plan_cluster(&o, file.machine);
	if (!s)
		machine_close(&file);
	arena_free(&a);
	return status;
}

int verb_plan(int argc, char **argv)
{
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	f64 tokens = tokens_text ? number_of(tokens_text) : 0;
	if (tokens_text && !(tokens > 0))
		return verb_misused("plan", "--tokens %s: a number, such as 300e9 or 15.6T", tokens_text);
	price = price_text ? number_of(price_text) : 0;
	f64 flops = flops_text ? number_of(flops_text) : 0;
	if (flops_text && !(flops > 0))
		return verb_misused("plan", "--flops %s: a number, such as 1e21", flops_text);
	if (scaling && !(tokens > 0) && !(flops > 0))
		return verb_misused("plan", "--scaling needs a budget: --tokens, what the run is over, or --flops");
	if (price_text && !(price > 0 && price < HUGE_VAL))
		return verb_misused("plan", "--price %s: dollars of a device for an hour, more than 0, such as 2.5", price_text);
	if (batch_text && !(batch = sequences_of(batch_text)))
		return verb_misused("plan", "--batch %s: how many sequences a step has, such as 2048", batch_text);
	if (micro_text && !(micro = sequences_of(micro_text)))
		return verb_misused("plan", "--micro %s: how many sequences a device's micro-batch has, such as 1", micro_text);
	i64 least = 0, most = 0;
	status = read_devices(&least, &most);
	if (status)
		return status;
	if (mesh && (memory || (sweep && !*sweep) || (svg && most == least) || forward))
		return verb_misused("plan", "--mesh is of whole steps on several devices: not with --memory, --sweep of memory, --svg of it, --forward");
	if (mesh && !machine_name && (tokens_text || micro || batch || recompute || trace || scaling))
		return verb_misused("plan", "--mesh alone says what devices hold and send, and takes --schedule, --sizes, --json and --precision: what it takes needs --machine");
	if (!mesh && (micro || batch || recompute || schedule || trace))
		return verb_misused("plan", "--micro, --batch, --recompute, --schedule and --trace are of --mesh");
	if (runs && (n || mesh || !machine_name))
		return verb_misused("plan", "--runs names the models itself: plinth plan --runs FILE --machine NAME");
	if (!runs && !n)
		return verb_misused("plan", "which model? plinth plan MODEL --machine NAME");
	if (runs || (mesh && machine_name))
		return cluster(runs ? NULL : operand[0], tokens, flops, least, most);
	Lm lm;
	MachineFile file = { 0 };
	Arena texts = ARENA("plan");
	SourceOptions all_given = source_with(&texts, &given, "train.memory", memory);
	Status s = lm_open_source(operand[0], &all_given, &lm);
	if (!s) {
		bool devices = mesh || shard.n; /* of any kind */
		s = devices ? OK : machine_open(&lm.arena, machine_name ? machine_name : "host", &file);
		if (s && !machine_name && !tokens_text && !scaling && (memory || sweep || svg))
			s = plan(&lm, &(MachineFile){ 0 }, tokens, flops);
		else if (!s && !devices)
			status = verb_report(&file.source.diag, false);
		if (!s && !status && (file.machine || devices))
			s = plan(&lm, &file, tokens, flops);
	}
	if (s)
		status = lm_failed("plan", &lm, s);
	else
		lm_warnings(&lm);
	machine_close(&file);
	lm_close(&lm);
	arena_free(&texts);
	return status;
}
