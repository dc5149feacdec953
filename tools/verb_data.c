/* tools/verb_data.c: `plinth data tokenize|info|verify|decode`: text into token shards, and what is
 * in token shards. The work is done in runtime/data. */
#include "runtime/data/tokenize.h"
#include "support/clock.h"
#include "tools/verbs.h"

#include <jansson.h>
#include <string.h>
#include <unistd.h>

/* --- tokenize --------------------------------------------------------------------------------- */

static const char *kind = "bpe", *vocabulary_file, *merges_file, *field, *separator = "auto",
		  *output;
static i64 vocabulary, shard_tokens, from, count = 256;
static f64 validation, validation_last;
static bool json;

static const Option tokenize_option[] = {
	{ "output", 'o', OPTION_TEXT, &output, "PREFIX",
	  "write PREFIX.train.*.tok, PREFIX.val.*.tok, PREFIX.tokenizer.json" },
	{ "tokenizer", 't', OPTION_TEXT, &kind, "KIND",
	  "byte, char, bpe (the default), gpt2, or a published file: tokenizer.json, *.model, *.txt" },
	{ "vocab", 0, OPTION_COUNT, &vocabulary, "N", "tokens that bpe learns, 4096 by default" },
	{ "vocab-file", 0, OPTION_TEXT, &vocabulary_file, "FILE",
	  "gpt2: encoder.json (or vocab.json)" },
	{ "merges", 0, OPTION_TEXT, &merges_file, "FILE", "gpt2: vocab.bpe (or merges.txt)" },
	{ "field", 0, OPTION_TEXT, &field, "NAME",
	  "inputs are JSON Lines; the text is this field of each record" },
	{ "validation", 0, OPTION_REAL, &validation, "SHARE",
	  "hold out this share of the documents, by their hash" },
	{ "validation-last", 0, OPTION_REAL, &validation_last, "SHARE",
	  "hold out the last part of the text" },
	{ "separator", 0, OPTION_TEXT, &separator, "HOW",
	  "end documents with a token: token, none, or auto" },
	{ "shard-tokens", 0, OPTION_INT, &shard_tokens, "N", "tokens in a file, 2^28 by default" },
	{ "json", 0, OPTION_FLAG, &json, NULL, "print the summary as JSON" },
};

static const OptionRule tokenize_rule[] = {
	{ RULE_EXCLUDE, "validation validation-last", NULL, NULL },
};

static const Command tokenize_command = {
	.name = "data tokenize",
	.operands = "INPUT...",
	.least = 1,
	.most = -1,
	.about = "Turns text into token shards for training. Inputs are text files, each one\n"
		 "document; or JSON Lines (.jsonl, .ndjson, or any file with --field), where each\n"
		 "record holds one in its field 'text'; or - for standard input. What gzip compressed\n"
		 "(.gz) is unpacked, in $TMPDIR.\n\n"
		 "With several documents, each is followed by a token that ends it\n"
		 "(--separator auto). `char` has the characters of all inputs; `bpe` is learnt\n"
		 "from the training part. The tokenizer is saved as a Hugging Face tokenizer.json.",
	.example =
		"  plinth data tokenize book.txt --validation-last 0.1 -o data/book\n"
		"  plinth data tokenize web.jsonl --field body --validation 0.01 --vocab 16384 -o "
		"web\n"
		"  plinth data tokenize notes.txt --tokenizer gpt2 --vocab-file encoder.json \\\n"
		"         --merges vocab.bpe -o notes",
	.option = tokenize_option,
	.noption = COUNT(tokenize_option),
	.rule = tokenize_rule,
	.nrule = COUNT(tokenize_rule),
};

/* On a terminal one line that changes, ten times a second; in a log a line every ten seconds. */
typedef struct Progress {
	bool terminal, shown;
	f64 next;
} Progress;

static void show_progress(void *context, const char *stage, u64 done, u64 total)
{
	Progress *p = context;
	f64 now = clock_seconds();
	if (now < p->next)
		return;
	p->next = now + (p->terminal ? 0.1 : 10);
	p->shown = true;
	fprintf(stderr, "%s%s: %3.0f%% of %.1f MB%s", p->terminal ? "\r" : "", stage,
		total ? 100.0 * (f64)done / (f64)total : 100.0, (f64)total / 1e6,
		p->terminal ? "  " : "\n");
}

/* Takes the progress line away again. */
static void end_progress(const Progress *p)
{
	if (p->terminal && p->shown)
		fprintf(stderr, "\r%*s\r", 60, "");
}

static json_t *part_json(const TokenizePart *p)
{
	return json_pack("{s:s, s:i, s:I, s:I, s:I, s:I}", "prefix", p->prefix, "shards",
			 (int)p->shards, "tokens", (json_int_t)p->tokens, "bytes",
			 (json_int_t)p->bytes, "characters", (json_int_t)p->characters, "documents",
			 (json_int_t)p->documents);
}

static void print_json(json_t *root)
{
	json_dumpf(root, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(root);
}

static void print_summary(const TokenizeReport *r)
{
	if (json) {
		json_t *parts = json_array();
		for (u32 i = 0; i < r->parts; i++)
			json_array_append_new(parts, part_json(&r->part[i]));
		print_json(json_pack("{s:s, s:s, s:i, s:o}", "tokenizer", r->kind, "file",
				     r->tokenizer_path, "vocabulary", (int)r->vocabulary, "parts",
				     parts));
		return;
	}
	printf("%s, %s of %u tokens%s\n", r->tokenizer_path, r->kind, r->vocabulary,
	       r->ends ? "; each document is ended by one" : "");
	for (u32 i = 0; i < r->parts; i++) {
		const TokenizePart *p = &r->part[i];
		printf("%s: %llu tokens, %.3f bytes per token, %llu document%s, %u file%s\n",
		       p->prefix, (unsigned long long)p->tokens,
		       p->tokens ? (f64)p->bytes / (f64)p->tokens : 0.0,
		       (unsigned long long)p->documents, p->documents == 1 ? "" : "s", p->shards,
		       p->shards == 1 ? "" : "s");
	}
}

static int do_tokenize(int argc, char **argv)
{
	char **input;
	int n, status;
	static const char *const hows[] = {
		[ENDS_AUTO] = "auto", [ENDS_TOKEN] = "token", [ENDS_NONE] = "none"
	};
	if (!options_parse(&tokenize_command, argc, argv, &input, &n, &status))
		return status;
	const char *name = tokenize_command.name;
	if (!output)
		return verb_misused(name, "where to? -o PREFIX is missing");
	if (vocabulary && strcmp(kind, "bpe"))
		return verb_misused(name, "--vocab is how many tokens --tokenizer bpe learns, not of %s", kind);
	if (vocabulary > TOKENIZER_VOCAB_MAX)
		return verb_misused(name, "--vocab is at most %d", TOKENIZER_VOCAB_MAX);
	if ((vocabulary_file || merges_file) && strcmp(kind, "gpt2"))
		return verb_misused(name, "--%s is of --tokenizer gpt2, not of %s", vocabulary_file ? "vocab-file" : "merges", kind);
	u32 how = 0;
	while (how < COUNT(hows) && strcmp(hows[how], separator))
		how++;
	if (how == COUNT(hows))
		return verb_misused(name, "--separator is token, none or auto, not '%s'",
				    separator);
	Arena a = ARENA("data");
	Progress progress = { .terminal = isatty(STDERR_FILENO) && !json, .next = clock_seconds() + 1 };
	TokenizeReport r;
	Status s = tokenize(
		&a,
		&(TokenizeConfig){ .input = (const char *const *)input,
				   .ninput = (u32)n,
				   .field = field,
				   .tokenizer = kind,
				   .vocabulary = vocabulary ? (u32)vocabulary : 4096,
				   .vocabulary_file = vocabulary_file,
				   .merges_file = merges_file,
				   .split = validation != 0        ? VALIDATION_DOCUMENTS
					    : validation_last != 0 ? VALIDATION_LAST
								   : VALIDATION_NONE,
				   .validation = validation != 0 ? validation : validation_last,
				   .ends = (DocumentEnds)how,
				   .output = output,
				   .ids_per_shard = (u64)shard_tokens,
				   .progress = show_progress,
				   .context = &progress },
		&r);
	end_progress(&progress);
	if (!s)
		print_summary(&r);
	status = s ? verb_failed(name, s) : 0;
	arena_free(&a);
	return status;
}

/* --- what is in shards ------------------------------------------------------------------------ */

static const Option json_option[] = {
	{ "json", 0, OPTION_FLAG, &json, NULL, "one JSON object a line" },
};

static const Command info_command = {
	.name = "data info",
	.operands = "PREFIX...",
	.least = 1,
	.most = -1,
	.about =
		"Says what token shards hold. PREFIX is that of one set (book.train), or what was\n"
		"given to `plinth data tokenize` (book stands for book.train and book.val).",
	.example = "  plinth data info book",
	.option = json_option,
	.noption = COUNT(json_option),
};

static const Command verify_command = {
	.name = "data verify",
	.operands = "PREFIX...",
	.least = 1,
	.most = -1,
	.about = "Checks every hash of token shards, that every token is one of the vocabulary, "
		 "and\n"
		 "that the tokenizer beside them is the one that made them. Exit status 1 says "
		 "that\n"
		 "something is damaged; the file and the byte are told.",
	.example = "  plinth data verify book",
};

static const Option decode_option[] = {
	{ "from", 0, OPTION_INT, &from, "N", "the first token, 0 by default" },
	{ "count", 'n', OPTION_INT, &count, "M", "how many tokens, 256 by default" },
};

static const Command decode_command = {
	.name = "data decode",
	.operands = "PREFIX",
	.least = 1,
	.most = 1,
	.about = "Prints the text that tokens stand for. Tokens that end a document are printed\n"
		 "by their name.",
	.example = "  plinth data decode book.val --from 1000 --count 50",
	.option = decode_option,
	.noption = COUNT(decode_option),
};

/* The sets that a prefix stands for: itself, or its two parts. */
static u32 sets_of(Arena *a, const char *prefix, const char *out[2])
{
	u32 n = 0;
	static const char *const suffix[] = { "train", "val" };
	for (size_t i = 0; i < COUNT(suffix) && !shards_exist(prefix); i++) {
		const char *set = arena_printf(a, "%s.%s", prefix, suffix[i]);
		if (shards_exist(set))
			out[n++] = set;
	}
	if (!n)
		out[n++] = prefix; /* and if it is none, opening it says so */
	return n;
}

static Status info(Arena *a, const char *prefix)
{
	Shards s;
	Tokenizer *t;
	TRY(shards_open(a, prefix, &s));
	Status why = shards_tokenizer(a, &s, &t);
	const char *name = why ? "unknown" : t->kind->name;
	if (!why)
		tokenizer_close(t);
	f64 tokens = s.count ? (f64)s.count : 1;
	if (json)
		print_json(json_pack("{s:s, s:i, s:I, s:i, s:i, s:s, s:s, s:I, s:I, s:I}", "prefix",
				     prefix, "shards", (int)s.n, "tokens", (json_int_t)s.count,
				     "width", (int)s.shard[0].header->width, "vocabulary",
				     (int)s.vocabulary, "tokenizer", name, "tokenizer_file",
				     s.tokenizer_path, "bytes", (json_int_t)s.text_bytes,
				     "characters", (json_int_t)s.text_characters, "documents",
				     (json_int_t)s.documents));
	else
		printf("%s: %llu tokens of %u bytes in %u file%s\n"
		       "  tokenizer   %s, %u tokens (%s)\n"
		       "  text        %llu bytes, %llu characters, %llu document%s\n"
		       "  per token   %.3f bytes, %.3f characters\n",
		       prefix, (unsigned long long)s.count, s.shard[0].header->width, s.n,
		       s.n == 1 ? "" : "s", name, s.vocabulary, s.tokenizer_path,
		       (unsigned long long)s.text_bytes, (unsigned long long)s.text_characters,
		       (unsigned long long)s.documents, s.documents == 1 ? "" : "s",
		       (f64)s.text_bytes / tokens, (f64)s.text_characters / tokens);
	shards_close(&s);
	return why;
}

/* All that is wrong is told, not only the first. */
static int verify(Arena *a, const char *prefix)
{
	Shards s;
	Tokenizer *t = NULL;
	Status why = shards_open(a, prefix, &s);
	if (why)
		return verb_failed(verify_command.name, why);
	int status = 0;
	for (u32 i = 0; i < s.n; i++)
		if ((why = shard_verify(&s.shard[i])))
			status = verb_failed(verify_command.name, why);
	if ((why = shards_tokenizer(a, &s, &t)))
		status = MAX(status, verb_failed(verify_command.name, why));
	tokenizer_close(t);
	if (!status)
		printf("%s: %llu tokens in %u file%s: all hashes hold\n", prefix,
		       (unsigned long long)s.count, s.n, s.n == 1 ? "" : "s");
	shards_close(&s);
	return status;
}

static Status print_tokens(const Shards *s, const Tokenizer *t, u64 at, u64 n)
{
	enum { PART = 4096 };
	i32 id[PART];
	for (u64 done = 0; done < n; done += PART) {
		u64 part = MIN(n - done, (u64)PART);
		TRY(shards_read(s, at + done, part, id));
		for (u64 i = 0; i < part; i++)
			fwrite(t->piece[id[i]].s, 1, t->piece[id[i]].n, stdout);
	}
	putchar('\n');
	return OK;
}

static Status decode(Arena *a, const char *prefix)
{
	Shards s;
	Tokenizer *t;
	TRY(shards_open(a, prefix, &s));
	Status why = shards_tokenizer(a, &s, &t);
	if (!why) {
		if (from < 0 || count < 0 || (u64)from > s.count)
			why = FAIL(STATUS_INPUT,
				   "%s has %llu tokens; there is no part from %lld on", prefix,
				   (unsigned long long)s.count, (long long)from);
		else
			why = print_tokens(&s, t, (u64)from, MIN((u64)count, s.count - (u64)from));
		tokenizer_close(t);
	}
	shards_close(&s);
	return why;
}

static int on_sets(const Command *c, int argc, char **argv)
{
	char **prefix;
	int n, status;
	if (!options_parse(c, argc, argv, &prefix, &n, &status))
		return status;
	Arena a = ARENA("data");
	for (int i = 0; i < n; i++) {
		const char *set[2];
		u32 sets = c == &decode_command ? 1 : sets_of(&a, prefix[i], set);
		if (c == &decode_command)
			set[0] = prefix[i];
		for (u32 k = 0; k < sets; k++) {
			int one;
			if (c == &verify_command)
				one = verify(&a, set[k]);
			else {
				Status s =
					c == &info_command ? info(&a, set[k]) : decode(&a, set[k]);
				one = s ? verb_failed(c->name, s) : 0;
			}
			status = MAX(status, one);
		}
	}
	arena_free(&a);
	return status;
}

/* --- encode ----------------------------------------------------------------------------------- */

static const char *encode_tokenizer;
static bool by_lines, plain;

static const Option encode_option[] = {
	{ "tokenizer", 't', OPTION_TEXT, &encode_tokenizer, "FILE", "tokenizer.json, SentencePiece's *.model, or vocab.txt" },
	{ "lines", 0, OPTION_FLAG, &by_lines, NULL, "each line is a text of its own" },
	{ "plain", 0, OPTION_FLAG, &plain, NULL, "without special tokens, in the text or around it" },
};

static const Command encode_command = {
	.name = "data encode",
	.operands = "INPUT",
	.least = 1,
	.most = 1,
	.about = "Prints the ids of a text (- is standard input), as a model is given them: with the\n"
		 "special tokens that the tokenizer puts around a text. A line for each text.",
	.example = "  echo 'a sentence' | plinth data encode --tokenizer tokenizer.json -\n"
		   "  plinth data encode --tokenizer vocab.txt --lines sentences.txt",
	.option = encode_option,
	.noption = COUNT(encode_option),
};

static Status encode_text(Tokenizer *t, Str text)
{
	Arena tmp = ARENA("encode");
	Tokens ids = { .arena = &tmp };
	Status s = plain ? tokenizer_encode(t, text, &ids) : tokenizer_input(t, text, NULL, &ids, NULL);
	for (size_t i = 0; i < ids.n && !s; i++)
		printf(i ? " %u" : "%u", ids.v[i]);
	if (!s)
		putchar('\n');
	arena_free(&tmp);
	return s;
}

static Status encode_all(Arena *a, const char *path)
{
	Tokenizer *t;
	Str text;
	TRY(tokenizer_load(a, encode_tokenizer, &t));
	Status s = io_read(a, strcmp(path, "-") ? path : "/dev/stdin", &text);
	for (size_t at = 0; at < text.n && by_lines && !s;) {
		const char *end = memchr(text.s + at, '\n', text.n - at);
		Str line = { text.s + at, end ? (size_t)(end - text.s) - at : text.n - at };
		s = encode_text(t, line);
		at += line.n + 1;
	}
	if (!s && !by_lines)
		s = encode_text(t, text);
	tokenizer_close(t);
	return s ? status_context(s, "%s", path) : OK;
}

static int do_encode(int argc, char **argv)
{
	char **input;
	int n, status;
	if (!options_parse(&encode_command, argc, argv, &input, &n, &status))
		return status;
	if (!encode_tokenizer)
		return verb_misused(encode_command.name, "which tokenizer? --tokenizer FILE is missing");
	Arena a = ARENA("encode");
	Status s = encode_all(&a, input[0]);
	arena_free(&a);
	return s ? verb_failed(encode_command.name, s) : 0;
}

/* ---------------------------------------------------------------------------------------------- */

static const Command command = {
	.name = "data",
	.operands = "tokenize|encode|info|verify|decode ...",
	.least = 1,
	.most = -1,
	.about = "Makes and examines token shards, the data that models are trained on.\n\n"
		 "  tokenize   text files or JSON Lines into shards\n"
		 "  encode     a text's ids, printed\n"
		 "  info       what shards hold\n"
		 "  verify     whether they are what they were\n"
		 "  decode     their tokens as text\n\n"
		 "`plinth data tokenize --help`, and so on, says more.",
	.example = "  plinth data tokenize book.txt --validation-last 0.1 -o book\n"
		   "  plinth data info book",
};

int verb_data(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : "";
	if (!strcmp(word, "tokenize"))
		return do_tokenize(argc - 1, argv + 1);
	if (!strcmp(word, "encode"))
		return do_encode(argc - 1, argv + 1);
	if (!strcmp(word, "info"))
		return on_sets(&info_command, argc - 1, argv + 1);
	if (!strcmp(word, "verify"))
		return on_sets(&verify_command, argc - 1, argv + 1);
	if (!strcmp(word, "decode"))
		return on_sets(&decode_command, argc - 1, argv + 1);
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	return verb_misused("data", "there is no '%s'; there are tokenize, encode, info, verify and decode",
			    word);
}
