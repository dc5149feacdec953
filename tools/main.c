/* tools/main.c: `plinth VERB ...`. Finds the verb in verbs.def and hands over; --version, help, and
 * what verbs share (verbs.h) are here. */
#include "support/io.h"
#include "support/str.h"
#include "tools/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Verb {
	const char *name, *help;
	int (*run)(int argc, char **argv);
} Verb;

static const Verb verbs[] = {
#define VERB(name, help) { #name, help, verb_##name },
#include "tools/verbs.def"
#undef VERB
};

static const Verb *find(const char *name)
{
	for (size_t i = 0; i < COUNT(verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

static void usage(FILE *to)
{
	fputs("usage: plinth VERB [OPTION...] [FILE...]\n\n"
	      "Plinth compiles foundation models: a .plinth file is checked, differentiated,\n"
	      "optimized, compiled to machine code and run.\n\nverbs:\n",
	      to);
	for (size_t i = 0; i < COUNT(verbs); i++)
		fprintf(to, "  %-10s %s\n", verbs[i].name, verbs[i].help);
	fputs("\n`plinth help VERB` says all about one; `plinth --version` is the version.\n", to);
}

static int unknown(const char *name)
{
	const char *near = NULL;
	u32 least = 3;
	for (size_t i = 0; i < COUNT(verbs); i++) {
		u32 d = edit_distance(str_of(name), str_of(verbs[i].name));
		if (d < least) {
			least = d;
			near = verbs[i].name;
		}
	}
	fprintf(stderr, "plinth: there is no verb '%s'", name);
	if (near)
		fprintf(stderr, "; did you mean '%s'?", near);
	fputs("\n`plinth help` lists them all\n", stderr);
	return 1;
}

static int help(int argc, char **argv)
{
	if (argc < 2) {
		usage(stdout);
		return 0;
	}
	const Verb *v = find(argv[1]);
	if (!v)
		return unknown(argv[1]);
	char option[] = "--help";
	char *asked[] = { argv[1], option, NULL };
	return v->run(2, asked);
}

int verb_failed(const char *verb, Status why)
{
	fflush(stdout);
	fprintf(stderr, "plinth %s: %s\n", verb, why->text);
	return status_exit(why);
}

int verb_misused(const char *verb, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fflush(stdout);
	fprintf(stderr, "plinth %s: ", verb);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n`plinth help %s` says more\n", verb);
	va_end(args);
	return 1;
}

int verb_report(const Diag *d, bool json)
{
	if (json)
		diag_print_json(d, stdout);
	else {
		fflush(stdout);
		diag_print(d, stderr, wants_colour(stderr));
	}
	return d->nerror ? 1 : 0;
}

bool wants_colour(FILE *to)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
	return isatty(fileno(to)) && !(no && *no) && !(term && !strcmp(term, "dumb"));
}

static int run(int argc, char **argv)
{
	if (argc < 2) {
		usage(stderr);
		return 1;
	}
	const char *word = argv[1];
	if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
		puts("plinth " PLINTH_VERSION);
		return 0;
	}
	if (!strcmp(word, "help") || !strcmp(word, "--help") || !strcmp(word, "-h"))
		return help(argc - 1, argv + 1);
	const Verb *v = find(word);
	return v ? v->run(argc - 1, argv + 1) : unknown(word);
}

/* A stream that was closed before this began (`>&-`) must not become the number of the next file that is opened,
 * into which what is said would go then: its number is taken, by what can only be used the other way. */
static bool take_closed_streams(void)
{
	bool taken = true;
	for (int stream = STDIN_FILENO; stream <= STDERR_FILENO && taken; stream++)
		if (fcntl(stream, F_GETFD) == -1)
			taken = open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY) == stream;
	return taken;
}

/* A file that is mapped is not there any more: the access cannot go on. What was under way leaves nothing unfinished
 * under a final name. */
static void on_bus_error(int number, siginfo_t *info, void *context)
{
	(void)context;
	const char *path = io_mapped_file(info->si_addr);
	if (!path) { /* not of a file: the same access ends this process as if there were no handler */
		signal(number, SIG_DFL);
		return;
	}
	const char *piece[] = { "\nplinth: cannot read ", path, ": it was cut off while it was in use, or its disk failed\n" };
	for (u32 i = 0; i < COUNT(piece); i++)
		if (write(STDERR_FILENO, piece[i], strlen(piece[i])) < 0)
			break;
	_exit(2);
}

int main(int argc, char **argv)
{
	if (!take_closed_streams()) {
		fprintf(stderr, "plinth: a standard stream is closed, and /dev/null cannot stand for it: %s\n", strerror(errno));
		return 2;
	}
	struct sigaction bus = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO };
	sigemptyset(&bus.sa_mask);
	sigaction(SIGBUS, &bus, NULL);
	signal(SIGXFSZ, SIG_IGN); /* a file larger than allowed is told as a full disk is */
	int status = run(argc, argv);
	/* A full disk or a closed pipe is noticed here at the latest. */
	if ((fflush(stdout) || ferror(stdout)) && status == 0) {
		fprintf(stderr, "plinth: writing the output: %s\n", strerror(errno));
		return 2;
	}
	return status;
}
