/* passes/graph/cse.c: the pass `cse`: common-subexpression elimination, which build() does: nodes
 * are built again as they are written, equal ones become one, and those that no result needs go. */
#include "passes/pass.h"
#include "passes/rewrite.h"

Program *pass_cse(PassCx *cx, const Program *in)
{
	size_t at = 0;
	PassArg a;
	bool error = false;
	if (pass_argument(cx, &at, &a, &error))
		pass_argument_unknown(cx, &a);
	return rewrite_program(cx->out, cx->tmp, in, NULL, NULL, true);
}
