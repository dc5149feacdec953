/* tools/options.h: reading a verb's command line from a table, and printing its help from the same
 * table. `--name value`, `--name=value`, `-n value` and `-nvalue` are the same; options and
 * operands may be mixed; `--` ends the options; `-` alone is an operand. Every verb has --help.
 * A second table says which options are of another and which exclude each other: none is passed over in silence. What is
 * written when a verb's work is done is looked at here too, before that work begins. */
#ifndef PL_OPTIONS_H
#define PL_OPTIONS_H
#include "support/base.h"

typedef enum OptionKind {
	OPTION_FLAG, /* bool: no argument, sets true */
	OPTION_OPEN, /* const char *: "" where it stands alone; its argument is a name with '=', as is what may follow: --sweep devices=64..4096 */
	OPTION_TEXT, /* const char *: the last one given wins */
	OPTION_LIST, /* TextList: may be given several times */
	OPTION_FILE, /* const char *: where a file will be written, perhaps over one that is there */
	OPTION_FOLDER, /* const char *: where files will be written; made if missing */
	OPTION_INT,  /* i64: 0 or more; digits with 1_000 allowed */
	OPTION_SIZE, /* i64: 0 to 2^31 - 1 */
	OPTION_COUNT, /* i64: how many, 1 to 2^31 - 1; what it is when not given is the verb's own, 0 for most */
	OPTION_REAL, /* f64 */
	OPTION_MEMORY /* const char *: an amount of memory as the language has it, 8GiB */
} OptionKind;

typedef struct TextList {
	const char **v; /* points into memory of the command line's size, kept until the end */
	int n;
} TextList;

typedef struct Option {
	const char *name;     /* "output" for --output */
	char letter;          /* 'o' for -o, or 0 */
	OptionKind kind;
	void *to;             /* where the value goes; keeps what it has when not given */
	const char *argument; /* its name in the help, "FILE"; NULL for a flag */
	const char *help;     /* one line, no full stop */
} Option;

typedef enum RuleKind {
	RULE_NEEDS,  /* each of `option` is of one of `other`, and means nothing without */
	RULE_EXCLUDE /* each of `option` and each of `other` exclude each other; `other` NULL: those of `option` do */
} RuleKind;

/* What holds between options, whatever their values are. */
typedef struct OptionRule {
	RuleKind kind;
	const char *option, *other; /* names, with spaces between */
	const char *why;            /* goes behind what is said where it is broken, or NULL */
} OptionRule;

typedef struct Command {
	const char *name;     /* the verb */
	const char *operands; /* in the usage line: "FILE..." or "[CODE]"; NULL when it takes none */
	int least, most;      /* how many operands; most < 0: no limit */
	const char *about;    /* what it does: whole sentences, lines of at most 80 columns */
	const char *example;  /* lines of "plinth ..." with what they do */
	const Option *option;
	u32 noption;
	const OptionRule *rule;
	u32 nrule;
} Command;

/* Bytes of an amount of memory as OPTION_MEMORY takes it, "1.5 GB": a number above 0, then perhaps a unit; 0: it is none. */
u64 options_memory(const char *text);

/* Fills the options' targets and moves the operands to the front of `operand`, with argv[0] taken
 * out. True: go on (*status is 0). False: return *status: 0 after --help was printed, 1 after a
 * mistake was told on stderr, 2 after that something cannot be written where it was to go. */
bool options_parse(const Command *c, int argc, char **argv, char ***operand, int *noperand,
		   int *status);

void options_help(const Command *c, FILE *to);

#endif
