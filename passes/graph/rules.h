/* passes/graph/rules.h: rewrites that look further than the fold of one op does. */
#ifndef PL_PASSES_RULES_H
#define PL_PASSES_RULES_H
#include "passes/rewrite.h"

/* The first rule that matches; see rules.c. A RewriteNode; rw->data is a u64[RULES] of how often
 * each was used, or NULL. */
bool apply_rules(Rewrite *rw, const Node *n, const Val *in, Val *out);

typedef struct RuleInfo {
	const char *name, *law;
} RuleInfo;
enum { RULES = 4 };
extern const RuleInfo rule_info[RULES];

#endif
