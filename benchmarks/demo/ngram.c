/* ngram: what a smoothed n-gram model of characters makes of the last tenth of a text, in bits per
 * character; the demo prints it beside what the trained GPT needs there.
 *
 *	ngram [-n ORDER] FILE		trains on the first nine tenths, ORDER characters (5) at a
 *time
 *
 * The model is interpolated modified Kneser-Ney (Chen and Goodman, An Empirical Study of Smoothing
 * Techniques for Language Modeling, 1998, section 3): at each order three discounts, for counts of
 * one, two, and three or more, estimated from the counts of counts; the shorter orders count in how
 *many contexts a character was seen, not how often; order zero is uniform over the 256 bytes.
 *Nothing is tuned on the text that is scored, and counts are not updated while scoring. A program
 *of its own: it uses nothing of Plinth. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ORDER = 7, CLASSES = 3 };

/* A string of up to seven characters, as the end of a longer one (`count`) and as the context of
 * the next character (`total`, `followers`). The key holds the length above the characters. */
typedef struct Gram {
	uint64_t key; /* 0: a free place */
	uint32_t count;
	uint32_t total;              /* sum of the counts of the strings one character longer */
	uint32_t followers[CLASSES]; /* how many of them count 1, 2, 3 or more */
} Gram;

typedef struct Model {
	int order;
	Gram *grams; /* open addressing; `places` is a power of two */
	size_t places, used;
	double discount[MAX_ORDER + 1][CLASSES + 1]; /* by order, by min(count, 3) */
} Model;

static uint64_t key_of(const unsigned char *text, int length)
{
	uint64_t key = (uint64_t)length + 1; /* the empty string has a key too */
	for (int i = 0; i < length; i++)
		key = key << 8 | text[i];
	return key;
}

static int length_of(uint64_t key)
{
	for (int length = MAX_ORDER;; length--) {
		if (key >> 8 * length)
			return length;
	}
}

static Gram *place_of(const Model *m, uint64_t key)
{
	uint64_t hash = key * 0x9e3779b97f4a7c15u;
	for (size_t i = (hash ^ hash >> 32) & (m->places - 1);; i = (i + 1) & (m->places - 1)) {
		if (m->grams[i].key == key || !m->grams[i].key)
			return &m->grams[i];
	}
}

static void *allocate(size_t n, size_t size)
{
	void *p = calloc(n, size);
	if (!p) {
		fprintf(stderr, "ngram: not enough memory\n");
		exit(2);
	}
	return p;
}

/* The place of `key`, made if it is not there: the pointer is good until the next call. */
static Gram *obtain(Model *m, uint64_t key)
{
	if (m->used * 2 >= m->places) {
		Model old = *m;
		m->places = old.places ? old.places * 2 : 1 << 16;
		m->grams = allocate(m->places, sizeof(Gram));
		for (size_t i = 0; i < old.places; i++) {
			if (old.grams[i].key)
				*place_of(m, old.grams[i].key) = old.grams[i];
		}
		free(old.grams);
	}
	Gram *g = place_of(m, key);
	if (!g->key) {
		g->key = key;
		m->used++;
	}
	return g;
}

static void train(Model *m, const unsigned char *text, size_t n)
{
	/* The longest strings are counted as they come; each string met for the first time is one
	 * more context for what it is without its first character. */
	for (size_t end = (size_t)m->order; end <= n; end++) {
		for (int length = m->order; length > 0; length--) {
			if (obtain(m, key_of(text + end - length, length))->count++)
				break;
		}
	}
	/* Counts of counts, and from them the discounts. */
	double counts[MAX_ORDER + 1][5] = { { 0 } };
	for (size_t i = 0; i < m->places; i++) {
		const Gram *g = &m->grams[i];
		if (g->key && g->count >= 1 && g->count <= 4)
			counts[length_of(g->key)][g->count]++;
	}
	for (int order = 1; order <= m->order; order++) {
		const double *c = counts[order];
		double y = c[1] > 0 ? c[1] / (c[1] + 2 * c[2]) : 0.5;
		for (int k = 1; k <= CLASSES; k++) {
			double d = c[k] > 0 ? k - (k + 1) * y * c[k + 1] / c[k] : y * k;
			/* Counts of counts of short strings are few and need not fall with k. */
			m->discount[order][k] = fmin(fmax(d, 0.1), k);
		}
	}
	/* What each context is followed by. Inserting contexts moves places, so the keys come
	 * first. */
	size_t used = m->used, at = 0;
	Gram *all = allocate(used, sizeof(Gram));
	for (size_t i = 0; i < m->places; i++) {
		if (m->grams[i].key)
			all[at++] = m->grams[i];
	}
	for (size_t i = 0; i < used; i++) {
		int length = length_of(all[i].key);
		uint64_t characters = all[i].key & ((1ull << 8 * length) - 1);
		Gram *context = obtain(m, (uint64_t)length << 8 * (length - 1) | characters >> 8);
		context->total += all[i].count;
		context->followers[all[i].count < CLASSES ? all[i].count - 1 : CLASSES - 1]++;
	}
	free(all);
}

/* P(text[at] | the characters before it), each order interpolated with the one below. */
static double probability(const Model *m, const unsigned char *text, size_t at)
{
	double p = 1.0 / 256;
	for (int order = 1; order <= m->order && at >= (size_t)order - 1; order++) {
		const Gram *context = place_of(m, key_of(text + at - (order - 1), order - 1));
		if (!context->total)
			break; /* never seen, so no longer one was either */
		const double *discount = m->discount[order];
		double held = 0;
		for (int k = 0; k < CLASSES; k++)
			held += discount[k + 1] * context->followers[k];
		uint32_t count = place_of(m, key_of(text + at - (order - 1), order))->count;
		double kept = count - discount[count < CLASSES ? count : CLASSES];
		p = (kept + held * p) / context->total;
	}
	return p;
}

static unsigned char *read_file(const char *path, size_t *n)
{
	FILE *file = fopen(path, "rb");
	unsigned char *text = NULL;
	if (file && !fseek(file, 0, SEEK_END)) {
		long size = ftell(file);
		rewind(file);
		*n = size < 0 ? 0 : (size_t)size;
		text = allocate(*n + 1, 1);
		if (fread(text, 1, *n, file) != *n)
			text = NULL;
	}
	if (!text) {
		fprintf(stderr, "ngram: cannot read %s: %s\n", path, strerror(errno));
		exit(2);
	}
	fclose(file);
	return text;
}

int main(int argc, char **argv)
{
	Model m = { .order = 5 };
	int at = 1;
	if (at + 1 < argc && !strcmp(argv[at], "-n")) {
		m.order = atoi(argv[at + 1]);
		at += 2;
	}
	if (at + 1 != argc || m.order < 1 || m.order > MAX_ORDER) {
		fprintf(stderr,
			"usage: ngram [-n ORDER] FILE\n"
			"bits per character of a Kneser-Ney model of 1 to %d characters (5), "
			"trained on "
			"the first nine\ntenths of FILE, on the last tenth\n",
			MAX_ORDER);
		return 1;
	}
	size_t n = 0;
	unsigned char *text = read_file(argv[at], &n);
	size_t split = n / 10 * 9 + n % 10 * 9 / 10; /* 9 n / 10, rounded down */
	if (split < (size_t)m.order) {
		fprintf(stderr, "ngram: %s is too short: %zu bytes\n", argv[at], n);
		free(text);
		return 1;
	}
	train(&m, text, split);
	double bits = 0;
	for (size_t i = split; i < n; i++)
		bits -= log2(probability(&m, text, i));
	printf("%.4f bits per character on the last %zu of %zu (modified Kneser-Ney)\n",
	       bits / (double)(n - split), n - split, n);
	free(text);
	free(m.grams);
	return 0;
}
