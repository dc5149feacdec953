/* runtime/metrics.c: see metrics.h. */
#include "runtime/metrics.h"
#include "support/io.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static bool known(f64 x)
{
	return x != METRIC_UNKNOWN;
}

StepMetrics metrics_none(void)
{
	f64 no = METRIC_UNKNOWN;
	return (StepMetrics){ .train_loss = no, .validation_loss = no, .gradient_norm = no,
			      .learning_rate = no, .step_ms = no, .units_per_second = no,
			      .tflops = no, .tflops_full = no, .mfu = no, .peak_share = no, .eta_seconds = no };
}

/* ---- JSON ---- */

static void put_real(Buf *b, const char *key, f64 x)
{
	if (!known(x))
		return;
	buf_printf(b, ", \"%s\": ", key);
	if (isnan(x)) {
		buf_put(b, STR("\"NaN\""));
	} else if (isinf(x)) {
		buf_put(b, STR("\"Infinity\""));
	} else {
		char text[40];
		for (int digits = 6; digits <= 17; digits++) {
			snprintf(text, sizeof text, "%.*g", digits, x);
			if (strtod(text, NULL) == x)
				break;
		}
		buf_put(b, str_of(text));
	}
}

static void put_count(Buf *b, const char *key, u64 n)
{
	if (n)
		buf_printf(b, ", \"%s\": %llu", key, (unsigned long long)n);
}

/* The numbers in their order, under their names; of what is counted by the second the name begins with the unit. */
static const struct {
	const char *key;
	size_t at;
	bool count, by_unit;
} number[] = {
#define REAL(key, field)  { key, offsetof(StepMetrics, field), false, false }
#define COUNT_OF(key, field) { key, offsetof(StepMetrics, field), true, false }
	REAL("train_loss", train_loss),
	REAL("validation_loss", validation_loss),
	REAL("gradient_norm", gradient_norm),
	REAL("learning_rate", learning_rate),
	REAL("step_ms", step_ms),
	{ "_per_second", offsetof(StepMetrics, units_per_second), false, true },
	REAL("tflops_per_device", tflops),
	REAL("tflops_per_device_full_square", tflops_full),
	REAL("mfu", mfu),
	REAL("measured_peak_share", peak_share),
	COUNT_OF("memory_bytes", memory_bytes),
	COUNT_OF("resident_bytes", resident_bytes),
	REAL("eta_seconds", eta_seconds),
#undef COUNT_OF
#undef REAL
};

static const char *unit_of(const StepMetrics *m)
{
	return m->unit ? m->unit : "tokens";
}

static const char *key_of(Arena *a, const StepMetrics *m, u32 i)
{
	return number[i].by_unit ? arena_printf(a, "%s%s", unit_of(m), number[i].key) : number[i].key;
}

const char *metrics_json(Arena *a, const StepMetrics *m)
{
	Buf b = { .arena = a };
	buf_printf(&b, "{\"step\": %llu", (unsigned long long)m->step);
	put_count(&b, unit_of(m), m->units);
	for (u32 i = 0; i < COUNT(number); i++) {
		const void *field = (const u8 *)m + number[i].at;
		if (number[i].count)
			put_count(&b, key_of(a, m, i), *(const u64 *)field);
		else
			put_real(&b, key_of(a, m, i), *(const f64 *)field);
		for (u32 k = 0; k < m->nnamed && field == (const void *)&m->validation_loss; k++)
			put_real(&b, m->named[k].name, m->named[k].value);
	}
	buf_char(&b, '}');
	return b.text;
}

static f64 real_of(const json_t *v)
{
	const char *text = json_string_value(v);
	return text ? (!strcmp(text, "NaN") ? (f64)NAN : (f64)INFINITY) : json_is_number(v) ? json_number_value(v) : METRIC_UNKNOWN;
}

bool metrics_read(Str json, const char *unit, StepMetrics *out)
{
	json_t *root = json_loadb(json.s, json.n, 0, NULL);
	const json_t *step = json_object_get(root, "step");
	bool good = json_is_integer(step);
	Arena tmp = ARENA("metrics_read");
	*out = metrics_none();
	out->unit = unit;
	out->step = (u64)json_integer_value(step);
	out->units = (u64)json_integer_value(json_object_get(root, unit_of(out)));
	for (u32 i = 0; i < COUNT(number); i++) {
		const json_t *v = json_object_get(root, key_of(&tmp, out, i));
		void *field = (u8 *)out + number[i].at;
		if (number[i].count)
			*(u64 *)field = (u64)json_integer_value(v);
		else
			*(f64 *)field = real_of(v);
	}
	arena_free(&tmp);
	json_decref(root);
	return good;
}

/* ---- text ---- */

static const char *scaled(Arena *a, f64 x)
{
	static const struct {
		f64 unit;
		const char *letter;
	} row[] = { { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } };
	for (u32 i = 0; i < COUNT(row); i++)
		if (x >= row[i].unit * 0.9995) {
			f64 y = x / row[i].unit;
			return arena_printf(a, "%.*f%s", y < 9.995 ? 2 : y < 99.95 ? 1 : 0, y,
					    row[i].letter);
		}
	return arena_printf(a, "%.0f", x);
}

static const char *memory_text(Arena *a, u64 bytes)
{
	f64 mib = (f64)bytes / 0x1p20;
	return mib >= 1024 ? arena_printf(a, "%.2f GiB", mib / 1024) : arena_printf(a, "%.1f MiB", mib);
}

static const char *duration_text(Arena *a, f64 seconds)
{
	if (!(seconds < 1e9))
		return "?";
	u64 s = (u64)(seconds + 0.5), m = s / 60, h = m / 60, d = h / 24;
	if (d)
		return arena_printf(a, "%llud %02lluh", (unsigned long long)d, (unsigned long long)h % 24);
	if (h)
		return arena_printf(a, "%lluh %02llum", (unsigned long long)h, (unsigned long long)m % 60);
	if (m)
		return arena_printf(a, "%llum %02llus", (unsigned long long)m, (unsigned long long)s % 60);
	return arena_printf(a, "%llus", (unsigned long long)s);
}

static const char *milliseconds_text(Arena *a, f64 ms)
{
	if (ms >= 10000)
		return arena_printf(a, "%.1f s", ms / 1000);
	return arena_printf(a, "%.*f ms", ms < 10 ? 2 : ms < 100 ? 1 : 0, ms);
}

/* The numbers in the order of the line; a larger rank is left out first. */
typedef struct Field {
	u32 rank;
	const char *text;
} Field;

enum { FIELDS = 12 + METRICS_NAMED };

static const char *join(Arena *a, const Field *f, u32 n)
{
	Buf b = { .arena = a };
	for (u32 i = 0; i < n; i++)
		if (f[i].text)
			buf_printf(&b, "%s%s", b.n ? "  " : "", f[i].text);
	return b.text;
}

const char *metrics_text(Arena *a, const StepMetrics *m, u32 width)
{
	Field f[FIELDS] = { { 0, NULL } };
	u32 n = 0;
#define FIELD(importance, is_there, ...) \
	f[n++] = (Field) { (importance), (is_there) ? arena_printf(a, __VA_ARGS__) : NULL }
	if (m->total)
		FIELD(0, true, "step %llu/%llu", (unsigned long long)m->step,
		      (unsigned long long)m->total);
	else
		FIELD(0, true, "step %llu", (unsigned long long)m->step);
	FIELD(1, known(m->train_loss), "loss %.4f", m->train_loss);
	FIELD(3, known(m->validation_loss), "val %.4f", m->validation_loss);
	for (u32 i = 0; i < METRICS_NAMED; i++)
		FIELD(3, i < m->nnamed, "%s %.4f", m->named[i].name, m->named[i].value);
	FIELD(8, known(m->gradient_norm), "grad %.3g", m->gradient_norm);
	FIELD(9, known(m->learning_rate), "lr %.2e", m->learning_rate);
	FIELD(7, known(m->step_ms), "%s", milliseconds_text(a, m->step_ms));
	FIELD(6, known(m->units_per_second), "%s %s/s", scaled(a, m->units_per_second), m->unit ? m->unit : "tokens");
	FIELD(2, known(m->tflops), "%.*f TFLOPS/device", m->tflops < 9.995 ? 3 : 1, m->tflops);
	FIELD(5, known(m->mfu), "MFU %.1f%%", 100 * m->mfu);
	FIELD(5, known(m->peak_share), "%.1f%% of measured peak", 100 * m->peak_share);
	FIELD(10, m->memory_bytes != 0, "%s", memory_text(a, m->memory_bytes));
	FIELD(4, known(m->eta_seconds), "ETA %s", duration_text(a, m->eta_seconds));
#undef FIELD
	assert(n == FIELDS);
	const char *line = join(a, f, n);
	for (u32 rank = 10; width && rank > 0 && strlen(line) > width; rank--) {
		for (u32 i = 0; i < n; i++)
			if (f[i].rank == rank)
				f[i].text = NULL;
		line = join(a, f, n);
	}
	return line;
}

/* ---- the file ---- */

/* The end of the last whole line within the first `keep` bytes. */
static Status whole_lines(int fd, const char *path, u64 keep, u64 *out)
{
	off_t size = lseek(fd, 0, SEEK_END);
	if (size < 0)
		return io_cannot("read", path);
	for (*out = MIN(keep, (u64)size); *out; --*out) {
		char last;
		ssize_t n = pread(fd, &last, 1, (off_t)*out - 1);
		if (n < 0)
			return io_cannot("read", path);
		if (n == 1 && last == '\n')
			break;
	}
	return OK;
}

Status metrics_line(Arena *a, const char *path, u64 at, Str *out)
{
	Str all;
	*out = (Str){ 0 };
	if (!io_exists(path))
		return OK;
	TRY(io_read(a, path, &all));
	const char *end = at < all.n ? memchr(all.s + at, '\n', all.n - at) : NULL;
	if (end)
		*out = (Str){ all.s + at, (size_t)(end - all.s) - at };
	return OK;
}

Status metrics_open(const char *path, u64 keep, MetricsFile *out)
{
	*out = (MetricsFile){ .fd = -1 };
	if (strlen(path) >= sizeof out->path)
		return FAIL(STATUS_IO, "cannot open %.80s...: the path is too long", path);
	strcpy(out->path, path);
	int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0)
		return io_cannot("open", path);
	/* some file systems have no locks: there it is up to whoever starts runs */
	bool taken = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
	Status s = taken ? FAIL(STATUS_INPUT, "%s is being written by another process: wait until that run ends, or give this one another folder",
				path) :
			   whole_lines(fd, path, keep, &out->bytes);
	if (!s && ftruncate(fd, (off_t)out->bytes) != 0)
		s = io_cannot("cut", path);
	if (s)
		close(fd);
	else
		out->fd = fd;
	return s;
}

Status metrics_put(MetricsFile *m, const char *json)
{
	Arena tmp = ARENA("metrics_put");
	const char *line = arena_printf(&tmp, "%s\n", json);
	size_t n = strlen(line), at = 0;
	Status s = OK;
	while (at < n && !s) {
		ssize_t wrote = write(m->fd, line + at, n - at);
		if (wrote >= 0)
			at += (size_t)wrote;
		else if (errno != EINTR)
			s = io_cannot("write", m->path);
	}
	/* half a line is none; where it cannot be cut off now, the next metrics_open does */
	if (s && at && ftruncate(m->fd, (off_t)m->bytes) == 0)
		at = 0;
	m->last = m->bytes;
	m->bytes += at;
	arena_free(&tmp);
	return s;
}

Status metrics_put_again(MetricsFile *m, const char *json)
{
	if (ftruncate(m->fd, (off_t)m->last) != 0)
		return io_cannot("cut", m->path);
	m->bytes = m->last;
	return metrics_put(m, json);
}

bool metrics_is_removed(const MetricsFile *m)
{
	struct stat st;
	return fstat(m->fd, &st) == 0 && !st.st_nlink;
}

Status metrics_sync(MetricsFile *m)
{
	/* a pipe or a terminal cannot be synced, and says so */
	return fsync(m->fd) != 0 && errno != EINVAL && errno != EROFS ? io_cannot("sync", m->path) : OK;
}

void metrics_close(MetricsFile *m)
{
	if (m->fd >= 0)
		close(m->fd);
	m->fd = -1;
}

/* ---- the progress line ---- */

Progress progress_to(FILE *to, u64 every)
{
	const char *kind = getenv("TERM");
	bool terminal = isatty(fileno(to)) && kind && strcmp(kind, "dumb") != 0;
	return (Progress){ .to = to, .terminal = terminal, .every = every ? every : 1 };
}

static u32 columns(FILE *to)
{
	struct winsize size;
	bool told = ioctl(fileno(to), TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
	return told ? size.ws_col - 1u : 79; /* the last column would wrap on some terminals */
}

void progress_show(Progress *p, const StepMetrics *m)
{
	Arena tmp = ARENA("progress_show");
	if (p->terminal) {
		fprintf(p->to, "\r%s\033[K", metrics_text(&tmp, m, columns(p->to)));
		p->shown = true;
	} else if (m->step % p->every == 0 || m->step == m->total || known(m->validation_loss)) {
		fprintf(p->to, "%s\n", metrics_text(&tmp, m, 0));
	}
	fflush(p->to);
	arena_free(&tmp);
}

void progress_break(Progress *p)
{
	if (p->shown)
		fputc('\n', p->to);
	p->shown = false;
	fflush(p->to);
}
